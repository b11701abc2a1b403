//! The rules: given the state, a command and the time, what happens; or why not.

use rehull_shared::{
    ids::{ClusterName, Epoch, NodeName},
    time::Timestamp,
};

use super::{
    command::{Command, Refusal, Request},
    event::{Event, Recorded},
    fragility::Loudness,
    gate::Gate,
    plan::{Plan, PlannedNode},
    state::{Corrupt, Fleet, Migration, Node, Phase, Subject},
};

mod abort;
mod approvals;
mod enrolment;
mod gates;
mod holds;
mod operations;
mod protection;
mod reinstalls;
mod residues;

/// Nodes of a cluster that may be under way at the same time, at the most: their operations wait for
/// each other, so more would only be out for longer.
const MAX_OUT: u32 = 16;

/// What one command did to the fleet: the events, in order, and the state behind them.
///
/// The state is a working copy: it is published only when the events are on disk.
#[derive(Debug)]
pub struct Decision {
    /// What happened.
    pub events: Vec<Recorded>,
    /// The state behind it.
    pub fleet: Fleet,
}

/// Decides one command. An `Err` is an answer to the asker, and nothing has happened.
///
/// # Errors
/// A [`Refusal`], if the rules do not allow the command now.
pub fn decide(fleet: &Fleet, command: &Command, now: Timestamp) -> Result<Decision, Refusal> {
    let mut scribe = Scribe { fleet: fleet.clone(), events: Vec::new(), epoch: fleet.epoch, now };
    match command {
        Command::TakeLeadership => {
            scribe.epoch = Epoch(fleet.epoch.0 + 1);
            scribe.write(None, Event::LeadershipTaken);
        }
        Command::Tick => {
            for cluster in fleet.migrations.keys() {
                Desk { scribe: &mut scribe, cluster }.tick();
            }
        }
        Command::Of(cluster, request) => Desk { scribe: &mut scribe, cluster }.answer(request)?,
    }
    Ok(Decision { events: scribe.events, fleet: scribe.fleet })
}

/// Writes events down and lets the working copy follow them, so that the next rule sees them.
struct Scribe {
    fleet: Fleet,
    events: Vec<Recorded>,
    epoch: Epoch,
    now: Timestamp,
}

impl Scribe {
    fn write(&mut self, cluster: Option<&ClusterName>, event: Event) {
        let recorded =
            Recorded { at: self.now, epoch: self.epoch, cluster: cluster.cloned(), event };
        let followed: Result<(), Corrupt> = self.fleet.evolve(&recorded);
        followed.expect("an event that the rules have decided can follow the state it is for");
        self.events.push(recorded);
    }
}

/// The rules at work on one cluster.
struct Desk<'a> {
    scribe: &'a mut Scribe,
    cluster: &'a ClusterName,
}

impl Desk<'_> {
    fn write(&mut self, event: Event) {
        self.scribe.write(Some(self.cluster), event);
    }

    fn now(&self) -> Timestamp {
        self.scribe.now
    }

    fn migration(&self) -> Option<&Migration> {
        self.scribe.fleet.migrations.get(self.cluster).map(AsRef::as_ref)
    }

    /// The node that a subject is, if it is one.
    fn node_of(&self, subject: &Subject) -> Option<&Node> {
        self.migration()?.node(subject.node()?)
    }

    /// The migration, if it may be worked on.
    fn at_work(&self) -> Option<&Migration> {
        self.migration().filter(|migration| migration.is_whole())
    }

    fn known(&self) -> Result<&Migration, Refusal> {
        self.at_work().ok_or_else(|| Refusal::NoMigration(self.cluster.clone()))
    }

    fn knows(&self, node: &NodeName) -> Result<(), Refusal> {
        let (cluster, node) = (self.cluster.clone(), node.clone());
        match self.known()?.node(&node) {
            Some(_) => Ok(()),
            None => Err(Refusal::NoNode { cluster, node }),
        }
    }

    fn answer(&mut self, request: &Request) -> Result<(), Refusal> {
        match request {
            Request::Start { id, plan, nodes, by } => {
                self.start(*id, plan, nodes, by)?;
            }
            Request::Pause { by } => self.pause(by)?,
            Request::Resume { by } => self.resume(by)?,
            Request::Retry { subject, resubmit, by } => self.retry(subject, *resubmit, by)?,
            Request::Hold { subject, why, by } => self.hold(subject, why, by)?,
            Request::Approve { subject, items, why, until, by, typed } => {
                self.means(subject, typed)?;
                self.approve(subject, items, why, *until, by)?;
            }
            Request::ProveBackup { proof, by } => self.prove_backup(proof, by)?,
            Request::Disapprove { subject, items, by } => self.disapprove(subject, items, by)?,
            Request::Abort { subject, by } => self.abort(subject, by)?,
            Request::DeleteNode { node, by } => self.want_deletion(node, by)?,
            Request::RollBack { node, go_on, by } => self.roll_back(node, *go_on, by)?,
            Request::ConfirmReinstalled { node, by } => self.confirm_reinstalled(node, by)?,
            Request::IssueToken { node, token, by } => self.issue_token(node, token, by),
            Request::Enrol { node, token_sha256, identity } => {
                self.enrol(node, token_sha256, identity)?;
            }
            Request::RevokeAgent { node, by } => self.revoke_agent(node, by)?,
            Request::Submit { subject, evidence } => self.hear(subject, evidence)?,
            Request::Report(report) => self.take(report)?,
        }
        self.advance();
        Ok(())
    }

    fn start(
        &mut self,
        id: uuid::Uuid,
        plan: &Plan,
        nodes: &[PlannedNode],
        by: &str,
    ) -> Result<(), Refusal> {
        if self.migration().is_some_and(|old| old.is_whole() && !old.is_finished()) {
            return Err(Refusal::AlreadyRunning(self.cluster.clone()));
        }
        if let Some(why) = fault_of(plan, nodes, self.cluster) {
            return Err(Refusal::BadPlan { cluster: self.cluster.clone(), why });
        }
        let (plan, by) = (Box::new(plan.clone()), by.to_owned());
        let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        self.write(Event::MigrationStarted { id, plan, by, nodes: count });
        for node in nodes {
            self.write(Event::NodePlanned { node: node.clone() });
        }
        Ok(())
    }

    fn pause(&mut self, by: &str) -> Result<(), Refusal> {
        if self.known()?.paused_by.is_none() {
            self.write(Event::MigrationPaused { by: by.to_owned() });
        }
        Ok(())
    }

    fn resume(&mut self, by: &str) -> Result<(), Refusal> {
        if self.known()?.paused_by.is_some() {
            self.write(Event::MigrationResumed { by: by.to_owned() });
        }
        Ok(())
    }

    /// Deadlines, turns, and steps that a crash has left between two packs of the log.
    fn tick(&mut self) {
        let Some(migration) = self.at_work() else { return };
        let mut subjects = vec![Subject::Cluster];
        let active = migration.nodes.iter().filter(|node| node.is_active());
        subjects.extend(active.map(|node| Subject::Node(node.planned.name.clone())));
        self.end_approvals();
        self.tell_of_fragility();
        for subject in subjects {
            self.enforce_deadline(&subject);
        }
        self.advance();
    }

    /// Has people told that etcd has borne no loss for longer than it may.
    fn tell_of_fragility(&mut self) {
        let Some(migration) = self.migration() else { return };
        let Some((node, since, loudness)) = migration.fragility_to_tell(self.now()) else { return };
        let limit = migration.plan.policy.fragility_limit(loudness);
        let (node, page) = (node.planned.name.clone(), loudness == Loudness::Page);
        self.write(Event::FragilityExceeded { node, since, limit, page });
    }

    /// Begins every step that may begin.
    fn advance(&mut self) {
        if self.at_work().is_none() {
            return;
        }
        self.hold_work();
        self.step(&Subject::Cluster);
        self.switch_protection();
        self.abort_with_all();
        for name in self.active() {
            self.look_at_new_system(&name);
            self.delete_node(&name);
            self.resubmit(&name);
            self.step(&Subject::Node(name));
        }
        while let Some(name) = self.next_turn() {
            self.write(Event::NodeStarted { node: name.clone() });
            self.step(&Subject::Node(name));
        }
        self.finish_work();
    }

    /// The nodes that are under way. Who is in the middle of an operation goes on before another one
    /// takes its place.
    fn active(&self) -> Vec<NodeName> {
        let nodes = self.migration().into_iter().flat_map(|migration| &migration.nodes);
        let mut active: Vec<_> = nodes.filter(|node| node.is_active()).collect();
        active.sort_by_key(|node| !node.is_amid_operation());
        active.into_iter().map(|node| node.planned.name.clone()).collect()
    }

    /// The planned node whose turn it is, if the budget allows one more.
    fn next_turn(&self) -> Option<NodeName> {
        let migration = self.migration()?;
        let resting = migration.paused_by.is_some() || migration.aborted_by.is_some();
        let working = migration.track.phase == Phase::Working && !resting;
        let active = migration.nodes.iter().filter(|node| node.is_active());
        // The canary goes alone, and nobody passes a node that a person must look at.
        let canary_open = active.clone().any(|node| migration.is_canary(node));
        let held = active.clone().any(|node| matches!(node.track.phase, Phase::Held { .. }));
        let room = active.clone().count() < migration.plan.policy.max_out as usize;
        if !working || !room || canary_open || held {
            return None;
        }
        let planned = migration.nodes.iter().find(|node| node.track.phase == Phase::Planned)?;
        // A control plane goes alone, behind all that stand before it in the plan, and nobody begins
        // beside one (invariants 2 and 10).
        let alone = |node: &Node| node.planned.role.is_control_plane();
        if active.clone().any(alone) || (alone(planned) && active.clone().next().is_some()) {
            return None;
        }
        let open = migration.plan.calendar.is_open(migration.node_length(), self.now());
        open.then(|| planned.planned.name.clone())
    }

    /// Goes on to the end when every node is over.
    fn finish_work(&mut self) {
        let Some(migration) = self.migration() else { return };
        let all_over = migration.nodes.iter().all(|node| node.track.phase.is_over());
        if migration.track.phase != Phase::Working || !all_over {
            return;
        }
        match (&migration.aborted_by, &migration.paused_by) {
            (Some(_), _) if migration.is_untouched() => self.write(Event::MigrationAborted),
            (Some(_), _) => self.ask(&Subject::Cluster, Gate::ClusterAbort),
            (None, None) => self.ask(&Subject::Cluster, Gate::Finalize),
            (None, Some(_)) => (),
        }
    }
}

/// What is wrong with a plan, beyond what its types already forbid.
fn fault_of(plan: &Plan, nodes: &[PlannedNode], cluster: &ClusterName) -> Option<String> {
    let names: std::collections::BTreeSet<_> = nodes.iter().map(|node| &node.name).collect();
    let under = plan.policy.under_floor();
    if plan.cluster != *cluster {
        Some(format!("it is for cluster {}", plan.cluster))
    } else if plan.source == plan.target {
        Some(format!("spec.source and spec.target are both {}", plan.source))
    } else if nodes.is_empty() {
        Some("spec.nodes selects no node".to_owned())
    } else if names.len() != nodes.len() {
        Some("spec.nodes names a node twice".to_owned())
    } else if plan.api_servers.is_empty() {
        Some("spec.workload.apiServers is empty: nobody could confirm that a node is gone".into())
    } else if !(1..=MAX_OUT).contains(&plan.policy.max_out) {
        Some(format!("spec.policy.maxOut: from 1 to {MAX_OUT}"))
    } else if !(1..=10).contains(&plan.policy.poll_interval.as_secs()) {
        Some("spec.policy.pollInterval: from 1s to 10s, or answers are too old when judged".into())
    } else if let Err((path, why)) = plan.calendar.check() {
        Some(format!("{path}: {why}"))
    } else if !under.is_empty() && plan.unsafe_because.is_none() {
        let under: Vec<String> = under.iter().map(ToString::to_string).collect();
        let list = under.join(", ");
        Some(format!("spec.policy is under its floor: {list}; say why in spec.unsafe to accept it"))
    } else {
        None
    }
}
