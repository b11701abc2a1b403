//! Drives a rehearsal: one turn after the other, everything in a fixed order, so that the same seed
//! writes the same log. Agents and server run beside it in real time, but time stands still while
//! they are waited for.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rehull_shared::{
    ids::{ClusterName, NodeName},
    text::sha256_hex,
    time::Span,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    clock::Clock,
    cluster::{KUBERNETES, Layout},
    coordinator::{Coordinator, Parts},
    faults::Fault,
    person::{Deed, Person, Remedy},
    world::{Chore, IMAGE, Shared},
};
use crate::{
    agents::Whom,
    authority, document,
    domain::{
        command::{Command, Request},
        effect::{Effect, due},
        state::Token,
    },
    effects, engine, log,
};

/// Virtual time between two turns: as the policy polls, and longer while nothing happens.
const STEP: Span = Span::from_secs(5);
const QUIET_STEP: Span = Span::from_secs(15);

/// Virtual time after which a rehearsal that has not ended never will.
const LENGTH_MAX: Span = Span::from_secs(3 * 86_400);

/// Real time that an agent may take to come or go.
const AGENT_MAX: Duration = Duration::from_secs(30);

/// How long the first invitations are good.
const TOKEN_LIFE: Span = Span::from_mins(60);

/// A rehearsal could not be carried on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be written.
    #[error("the rehearsal's directory: {0}")]
    Io(#[from] io::Error),
    /// The engine has stopped.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The log cannot be read back.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// No certificates.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// A part of the coordinator has died.
    #[error("{0} has died: {1}")]
    Part(&'static str, String),
    /// It goes nowhere.
    #[error("the rehearsal is stuck: {0}")]
    Stuck(String),
}

/// What a rehearsal is about.
pub(super) struct Script {
    pub(super) seed: String,
    pub(super) layouts: Vec<Layout>,
    pub(super) faults: BTreeMap<String, Fault>,
}

/// Whether the coordinator dies before a pass has said what it has done: `Some` number of reports
/// still get out. It is told the effect, how many reports there are, and how many events are on
/// disk.
pub(super) type Fate<'a> = &'a mut dyn FnMut(&Effect, usize, u64) -> Option<usize>;

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is more to do.
    Goes,
    /// Every migration is complete.
    Finished,
    /// The coordinator is to die here.
    Cut,
}

/// A rehearsal under way.
pub(super) struct Driver {
    parts: Parts,
    pub(super) coordinator: Coordinator,
    agents: BTreeMap<Whom, Agent>,
    person: Person,
    pub(super) deeds: Vec<Deed>,
    _hosts: TempDir,
}

/// The agent of one host.
struct Agent {
    stop: CancellationToken,
    task: JoinHandle<Result<(), rehull_agent::Error>>,
}

impl Driver {
    /// Builds the world, opens the coordinator in `dir`, enrols every host and starts a migration
    /// of every cluster.
    pub(super) async fn begin(dir: &Path, script: Script) -> Result<Self, Error> {
        let Script { seed, layouts, faults } = script;
        let (clock, hosts) = (Clock::new(), TempDir::with_prefix("rehull-hosts-")?);
        let world = Shared::new(&layouts, faults, &seed, clock.clone(), hosts.path())?;
        let parts = Parts::new(dir.to_owned(), clock, world, &seed)?;
        let coordinator = Coordinator::open(&parts).await?;
        let (agents, person) = (BTreeMap::new(), Person::new(&seed));
        let mut driver =
            Self { parts, coordinator, agents, person, deeds: Vec::new(), _hosts: hosts };
        driver.enrol_hosts().await?;
        for layout in &layouts {
            driver.start(layout.name, &seed).await?;
        }
        Ok(driver)
    }

    /// The clock.
    pub(super) fn clock(&self) -> &Clock {
        &self.parts.clock
    }

    /// The world.
    pub(super) fn world(&self) -> &Shared {
        &self.parts.world
    }

    async fn enrol_hosts(&mut self) -> Result<(), Error> {
        let hosts: Vec<(ClusterName, NodeName)> = {
            let world = self.parts.world.lock();
            let of = |site: &super::cluster::Site| {
                let names = site.workers.iter().map(|worker| worker.machine.name.clone());
                names.map(|name| (site.name.clone(), name)).collect::<Vec<_>>()
            };
            world.sites.iter().flat_map(of).collect()
        };
        for (cluster, node) in hosts {
            let secret = self.parts.secret();
            let sha256 = sha256_hex(secret.as_bytes());
            let token = Token { sha256, expires: self.clock().now() + TOKEN_LIFE };
            let by = "demo".to_owned();
            let request = Request::IssueToken { node: node.clone(), token, by };
            self.submit(Command::Of(cluster.clone(), request)).await?;
            if let Some(worker) =
                self.parts.world.lock().site(cluster.as_str()).and_then(|s| s.worker(node.as_str()))
            {
                worker.machine.put_token(&secret)?;
            }
            self.start_agent((cluster, node)).await?;
        }
        Ok(())
    }

    async fn start(&mut self, cluster: &str, seed: &str) -> Result<(), Error> {
        let refused = |why: String| Error::Stuck(format!("the document of {cluster}: {why}"));
        let migration = document::parse(&migration(cluster)).map_err(|f| refused(f.to_string()))?;
        let clients = &self.coordinator.context.clients;
        let (plan, nodes) = document::understand(&migration, clients)
            .await
            .map_err(|fault| refused(fault.to_string()))?;
        let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{seed}/{cluster}").as_bytes());
        let (cluster, by) = (plan.cluster.clone(), "operator".to_owned());
        let start = Request::Start { id, plan: Box::new(plan), nodes, by };
        self.submit(Command::Of(cluster, start)).await
    }

    async fn submit(&self, command: Command) -> Result<(), Error> {
        let answer = self.coordinator.handle.submit(command).await?;
        answer.map(|_| ()).map_err(|refusal| Error::Stuck(refusal.to_string()))
    }

    /// One turn.
    pub(super) async fn turn(&mut self, fate: Fate<'_>) -> Result<Turn, Error> {
        let before = self.coordinator.handle.published().sequence;
        self.parts.world.lock().step()?;
        self.do_chores().await?;
        self.submit(Command::Tick).await?;
        for effect in due(&self.coordinator.handle.published().fleet) {
            let commands = self.pass(&effect).await;
            let is_cut = self.say(&effect, commands, fate).await?;
            self.do_chores().await?;
            if is_cut {
                return Ok(Turn::Cut);
            }
        }
        self.let_person_act().await?;
        let after = self.coordinator.handle.published();
        if !after.fleet.migrations.is_empty()
            && after.fleet.migrations.values().all(|migration| migration.is_finished())
        {
            return Ok(Turn::Finished);
        }
        let clock = self.clock();
        if clock.elapsed() > LENGTH_MAX {
            let troubles = self.coordinator.troubles.all();
            return Err(Error::Stuck(format!("after {LENGTH_MAX}; troubles: {troubles:?}")));
        }
        clock.advance(if after.sequence == before { QUIET_STEP } else { STEP });
        Ok(Turn::Goes)
    }

    /// Says what a pass has seen or done. True if the coordinator dies over it.
    async fn say(
        &mut self,
        effect: &Effect,
        mut commands: Vec<Command>,
        fate: Fate<'_>,
    ) -> Result<bool, Error> {
        let sequence = self.coordinator.handle.published().sequence;
        let last = fate(effect, commands.len(), sequence);
        commands.truncate(last.unwrap_or(usize::MAX));
        // A refusal means that a report came too late.
        _ = self.coordinator.handle.submit_all(commands).await?;
        Ok(last.is_some())
    }

    /// One pass of an effect, unless it is no longer due.
    async fn pass(&self, effect: &Effect) -> Vec<Command> {
        let fleet = self.coordinator.handle.published().fleet;
        if !due(&fleet).contains(effect) {
            return Vec::new();
        }
        let outcome = effects::pass(effect, &fleet, &self.coordinator.context).await;
        let (requests, trouble) = match outcome {
            Ok(requests) => (requests, None),
            Err(trouble) => (Vec::new(), Some(trouble.to_string())),
        };
        self.coordinator.troubles.note(effect, trouble);
        let of = |request| Command::Of(effect.cluster.clone(), request);
        requests.into_iter().map(of).collect()
    }

    async fn let_person_act(&mut self) -> Result<(), Error> {
        let (fleet, now) = (self.coordinator.handle.published().fleet, self.clock().now());
        for deed in self.person.looks(&fleet, now).map_err(Error::Stuck)? {
            if let (Remedy::StopKubelet, Some(node)) = (deed.remedy, deed.node())
                && let Some(worker) = self
                    .parts
                    .world
                    .lock()
                    .site(deed.cluster.as_str())
                    .and_then(|site| site.worker(node.as_str()))
            {
                worker.machine.stop(|exe| exe.ends_with("/kubelet"))?;
            }
            self.submit(deed.command()).await?;
            self.deeds.push(deed);
        }
        Ok(())
    }

    async fn do_chores(&mut self) -> Result<(), Error> {
        let chores = std::mem::take(&mut self.parts.world.lock().chores);
        for chore in chores {
            let (Chore::Stop { cluster, node } | Chore::Start { cluster, node }) = &chore;
            let whom: Whom = (
                cluster.parse().map_err(io::Error::other)?,
                node.parse().map_err(io::Error::other)?,
            );
            match chore {
                Chore::Stop { .. } => self.stop_agent(&whom).await?,
                Chore::Start { .. } => self.start_agent(whom).await?,
            }
        }
        Ok(())
    }

    /// Starts the agent of a host, and waits until it is linked with its newest enrolment.
    async fn start_agent(&mut self, whom: Whom) -> Result<(), Error> {
        let settings = self.settings(&whom)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(rehull_agent::run(settings, stopped));
        let before = self.generation(&whom);
        self.agents.insert(whom.clone(), Agent { stop, task });
        self.wait(&format!("the agent of {} does not enrol", whom.1), |driver| {
            driver.generation(&whom) > before && driver.is_linked(&whom)
        })
        .await
    }

    fn settings(&self, whom: &Whom) -> Result<rehull_agent::config::Settings, Error> {
        let (cluster, node) = whom.clone();
        let mut world = self.parts.world.lock();
        let worker = world.site(cluster.as_str()).and_then(|site| site.worker(node.as_str()));
        let machine = &worker.ok_or_else(|| Error::Stuck(format!("there is no {node}")))?.machine;
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

    async fn stop_agent(&mut self, whom: &Whom) -> Result<(), Error> {
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

    fn is_linked(&self, whom: &Whom) -> bool {
        let connected = self.coordinator.context.agents.connected();
        connected.get(whom).is_some_and(|link| link.generation.0 == self.generation(whom))
    }

    /// Waits in real time, while virtual time stands still.
    async fn wait(&self, what: &str, over: impl Fn(&Self) -> bool) -> Result<(), Error> {
        let waiting = async {
            while !over(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(AGENT_MAX, waiting).await.map_err(|_| Error::Stuck(what.to_owned()))
    }

    /// Ends everything. Gives the directory of the log.
    pub(super) async fn end(mut self) -> Result<PathBuf, Error> {
        for whom in self.agents.keys().cloned().collect::<Vec<_>>() {
            self.stop_agent(&whom).await?;
        }
        self.coordinator.close().await?;
        Ok(self.parts.dir)
    }
}

/// The document of a rehearsed migration: production values throughout.
fn migration(cluster: &str) -> String {
    format!(
        "apiVersion: rehull.dev/v1alpha1
kind: Migration
metadata:
  name: {cluster}
spec:
  cluster: {cluster}
  source: centos-7.9
  target: ubuntu-22.04
  operations:
    image: {IMAGE}
    kubernetesVersion: {KUBERNETES}
  controlPlanes: Exclude
  installer:
    command:
      program: /usr/local/sbin/reinstall
"
    )
}

#[cfg(test)]
mod tests;
