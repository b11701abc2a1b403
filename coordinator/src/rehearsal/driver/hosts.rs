//! Hosts go down and come up: their agents stop and start, in real time, while virtual time stands
//! still.

use std::{io, sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Driver, Error};
use crate::{agents::Whom, rehearsal::world::Chore};

/// Real time that an agent may take to come or go.
const AGENT_MAX: Duration = Duration::from_secs(30);

/// The agent of one host.
pub(super) struct Agent {
    stop: CancellationToken,
    task: JoinHandle<Result<(), rehull_agent::Error>>,
}

impl Driver {
    /// Does what takes the world real time.
    pub(super) async fn do_chores(&mut self) -> Result<(), Error> {
        let chores = std::mem::take(&mut self.parts.world.lock().chores);
        for chore in chores {
            let (Chore::Stop { cluster, node }
            | Chore::Start { cluster, node }
            | Chore::Restart { cluster, node }) = &chore;
            let whom: Whom = (
                cluster.parse().map_err(io::Error::other)?,
                node.parse().map_err(io::Error::other)?,
            );
            match chore {
                Chore::Stop { .. } => self.stop_agent(&whom).await?,
                Chore::Start { .. } => self.start_agent(whom).await?,
                Chore::Restart { .. } => self.run_agent(&whom).await?,
            }
        }
        Ok(())
    }

    /// Starts the agent of a host, and waits until it is linked with its newest enrolment.
    pub(super) async fn start_agent(&mut self, whom: Whom) -> Result<(), Error> {
        let before = self.generation(&whom);
        self.run_agent(&whom).await?;
        self.wait(&format!("the agent of {} does not enrol", whom.1), |driver| {
            driver.generation(&whom) > before && driver.is_linked(&whom)
        })
        .await
    }

    /// Starts the agent of a host, and waits until it is linked.
    async fn run_agent(&mut self, whom: &Whom) -> Result<(), Error> {
        let settings = self.settings(whom)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(rehull_agent::run(settings, stopped));
        self.agents.insert(whom.clone(), Agent { stop, task });
        let what = format!("the agent of {} does not come", whom.1);
        self.wait(&what, |driver| driver.is_linked(whom)).await
    }

    fn settings(&self, whom: &Whom) -> Result<rehull_agent::config::Settings, Error> {
        let (cluster, node) = whom.clone();
        let mut world = self.parts.world.lock();
        let host = world.site(cluster.as_str()).and_then(|site| site.host(node.as_str()));
        let machine = &host.ok_or_else(|| Error::Stuck(format!("there is no {node}")))?.machine;
        let ca = self.parts.authority.sha256().parse().map_err(io::Error::other)?;
        Ok(rehull_agent::config::Settings {
            coordinator: self.parts.address()?,
            cluster,
            node,
            ca,
            token_file: machine.path("/etc/rehull-agent/token"),
            state_dir: machine.path("/var/lib/rehull-agent"),
            beat: None,
            retry: Duration::from_millis(10),
            host: machine.host(),
            clock: self.parts.clock.reader(),
            log: Arc::new(|_| ()),
        })
    }

    pub(super) async fn stop_agent(&mut self, whom: &Whom) -> Result<(), Error> {
        let Some(agent) = self.agents.remove(whom) else { return Ok(()) };
        agent.stop.cancel();
        let ended = agent.task.await;
        ended
            .map_err(|panic| Error::Part("an agent", panic.to_string()))?
            .map_err(io::Error::other)?;
        self.wait(&format!("the link of {} stays", whom.1), |driver| {
            !driver.coordinator.context.agents.connected().contains_key(whom)
        })
        .await
    }

    fn generation(&self, whom: &Whom) -> u64 {
        let fleet = self.coordinator.handle.published().fleet;
        fleet.hosts.get(whom).map_or(0, |host| host.generation.0)
    }

    pub(super) fn is_linked(&self, whom: &Whom) -> bool {
        let connected = self.coordinator.context.agents.connected();
        connected.get(whom).is_some_and(|link| link.generation.0 == self.generation(whom))
    }

    /// Waits in real time, while virtual time stands still.
    pub(super) async fn wait(&self, what: &str, over: impl Fn(&Self) -> bool) -> Result<(), Error> {
        let waiting = async {
            while !over(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(AGENT_MAX, waiting).await.map_err(|_| Error::Stuck(what.to_owned()))
    }
}
