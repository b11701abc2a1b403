//! Drives a rehearsal: one turn after the other, everything in a fixed order, so that the same seed
//! writes the same log. Agents and server run beside it in real time, but time stands still while
//! they are waited for.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use rehull_shared::{
    ids::{ClusterName, NodeName},
    time::{Span, Timestamp},
};
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    clock::Clock,
    cluster::Original,
    coordinator::{Coordinator, Parts},
    faults::Faults,
    person::{Deed, Person},
    world::Shared,
};
use crate::{
    agents::Whom,
    authority,
    clients::Trouble,
    document::{self, Installer, planned},
    domain::{
        command::{Command, Request},
        effect::{Effect, due},
        gate::Gate,
        plan::Role,
        state::Phase,
    },
    effects::{self, Context},
    engine, log,
};

/// Virtual time between two turns: as the policy polls, and longer while nothing happens.
const STEP: Span = Span::from_secs(5);
const QUIET_STEP: Span = Span::from_secs(25);

/// Virtual time without an event after which a rehearsal goes nowhere: windows open once a week.
const IDLE_MAX: Span = Span::from_secs(8 * 86_400);

mod hosts;
mod people;

use hosts::Agent;

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
    /// The cluster cannot be read.
    #[error(transparent)]
    Trouble(#[from] Trouble),
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
    pub(super) begin: Timestamp,
    pub(super) originals: Vec<Original>,
    pub(super) faults: Faults,
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
    /// Every migration is over.
    Finished,
    /// What is held can neither be helped nor left out.
    Stopped,
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
    /// When the last event was seen, and its number.
    news: (Timestamp, u64),
    /// Until when the API servers were asked whether they are ready.
    asked: Timestamp,
    _hosts: TempDir,
}

impl Driver {
    /// Builds the world, opens the coordinator in `dir`, enrols every host and starts a migration
    /// of every cluster.
    pub(super) async fn begin(dir: &Path, script: Script) -> Result<Self, Error> {
        let Script { seed, begin, originals, faults } = script;
        let (clock, hosts) = (Clock::new(begin), TempDir::with_prefix("rehull-hosts-")?);
        let documents: Vec<(ClusterName, String)> =
            originals.iter().map(|one| (one.name.clone(), one.document.clone())).collect();
        let world = Shared::new(originals, faults, &seed, clock.clone(), hosts.path())?;
        let installers = documents.iter().filter_map(|(_, document)| program(document)).collect();
        let parts = Parts::new(dir.to_owned(), clock, world, installers, &seed)?;
        let coordinator = Coordinator::open(&parts).await?;
        let (agents, person) = (BTreeMap::new(), Person::new(&seed));
        let (deeds, news) = (Vec::new(), (begin, 0));
        let mut driver =
            Self { parts, coordinator, agents, person, deeds, news, asked: begin, _hosts: hosts };
        driver.enrol_hosts().await?;
        for (cluster, document) in &documents {
            driver.start(cluster, document, &seed).await?;
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
                let names = site.hosts.iter().map(|host| host.machine.name.clone());
                names.map(|name| (site.name.clone(), name)).collect::<Vec<_>>()
            };
            world.sites.iter().flat_map(of).collect()
        };
        for (cluster, node) in hosts {
            let secret = self.invite(&cluster, &node).await?;
            if let Some(host) =
                self.parts.world.lock().site(cluster.as_str()).and_then(|s| s.host(node.as_str()))
            {
                host.machine.put_token(&secret)?;
            }
            self.start_agent((cluster, node)).await?;
        }
        Ok(())
    }

    async fn start(
        &mut self,
        cluster: &ClusterName,
        document: &str,
        seed: &str,
    ) -> Result<(), Error> {
        let planned = planned(document, &self.coordinator.context.clients).await;
        let (plan, nodes) =
            planned.map_err(|fault| Error::Stuck(format!("the document of {cluster}: {fault}")))?;
        let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{seed}/{cluster}").as_bytes());
        let first = nodes.iter().find(|node| node.role == Role::FirstControlPlane);
        let first = first.map(|node| node.name.clone());
        let by = "operator".to_owned();
        let start = Request::Start { id, plan: Box::new(plan), nodes, by };
        self.submit(Command::Of(cluster.clone(), start)).await?;
        match first {
            Some(first) => self.promise(cluster, first).await,
            None => Ok(()),
        }
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
        self.meet_turns();
        self.do_chores().await?;
        self.ask_readiness().await;
        self.look_at_etcd().await?;
        for effect in due(&self.coordinator.handle.published().fleet) {
            let commands = self.pass(&effect).await;
            let is_cut = self.say(&effect, commands, fate).await?;
            self.do_chores().await?;
            if is_cut {
                return Ok(Turn::Cut);
            }
        }
        if !self.let_person_act().await? {
            return Ok(Turn::Stopped);
        }
        self.reinstall_by_hand().await?;
        let after = self.coordinator.handle.published();
        if !after.fleet.migrations.is_empty()
            && after.fleet.migrations.values().all(|migration| migration.is_finished())
        {
            return Ok(Turn::Finished);
        }
        let now = self.clock().now();
        if after.sequence != self.news.1 {
            self.news = (now, after.sequence);
        } else if now.since(self.news.0) > IDLE_MAX {
            let troubles = self.coordinator.troubles.all();
            let why = format!("nothing has happened for {IDLE_MAX}; troubles: {troubles:?}");
            return Err(Error::Stuck(why));
        }
        self.clock().advance(if after.sequence == before { QUIET_STEP } else { STEP });
        Ok(Turn::Goes)
    }

    /// Asks the API servers for the time that was stepped over, often enough to be no pause.
    async fn ask_readiness(&mut self) {
        let fleet = self.coordinator.handle.published().fleet;
        let Context { clients, readiness, .. } = &self.coordinator.context;
        let now = self.clock().now();
        while self.asked < now {
            self.asked = (self.asked + STEP).min(now);
            readiness.ask(clients, &fleet, self.asked).await;
        }
    }

    /// Looks whether members of etcd are well where a control plane is away.
    async fn look_at_etcd(&self) -> Result<(), Error> {
        let fleet = self.coordinator.handle.published().fleet;
        if fleet.migrations.values().all(|migration| migration.away().is_none()) {
            return Ok(());
        }
        let Context { agents, etcd, .. } = &self.coordinator.context;
        for news in etcd.look(agents, &fleet, self.clock().now()).await {
            self.submit(news).await?;
        }
        Ok(())
    }

    /// Tells the world whose turn it is.
    fn meet_turns(&self) {
        let fleet = self.coordinator.handle.published().fleet;
        let mut world = self.parts.world.lock();
        for (cluster, migration) in &fleet.migrations {
            for node in &migration.nodes {
                let Phase::Asking { gate, .. } = node.track.phase else { continue };
                let (cluster, name) = (cluster.as_str(), node.planned.name.as_str());
                match gate {
                    Gate::Preflight => world.meet_turn(cluster, name),
                    gate => world.meet_gate(cluster, name, gate),
                }
            }
        }
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

    /// Ends everything. Gives the directory of the log.
    pub(super) async fn end(mut self) -> Result<PathBuf, Error> {
        for whom in self.agents.keys().cloned().collect::<Vec<_>>() {
            self.stop_agent(&whom).await?;
        }
        self.coordinator.close().await?;
        Ok(self.parts.dir)
    }
}

/// The program that a document has reinstall hosts: it is played, whatever the settings allow.
fn program(document: &str) -> Option<String> {
    match document::parse(document).ok()?.spec.installer {
        Installer::Command { program, .. } => Some(program),
        Installer::Manual {} => None,
    }
}

#[cfg(test)]
mod tests;
