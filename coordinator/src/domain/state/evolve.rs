//! How each event changes the state. It checks again what `decide` has checked: an event that
//! cannot follow the ones before it means that the log is damaged, and everything stops.

use std::sync::Arc;

use rehull_shared::{
    evidence::Check,
    ids::{Attempt, ClusterName, NodeName},
    time::Timestamp,
};

use super::{
    Asked, Deletion, Extent, Fleet, Host, Kind, Leftovers, Migration, Node, Operation, Phase,
    Progress, Reinstall, Step, Subject, Track,
};
use crate::domain::{
    approval::Approval,
    event::{Event, Recorded},
    gate::{Blocker, Dossier, Gate},
    plan::PlannedNode,
};

/// The log contains an event that cannot follow the ones before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log has an impossible event: {what} while {subject} is {phase}")]
pub struct Corrupt {
    what: String,
    subject: String,
    phase: String,
}

fn corrupt(what: &Event, subject: impl ToString, phase: impl ToString) -> Corrupt {
    let what: String = format!("{what:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
    Corrupt { what, subject: subject.to_string(), phase: phase.to_string() }
}

impl Fleet {
    /// Takes one event in.
    pub fn evolve(&mut self, recorded: &Recorded) -> Result<(), Corrupt> {
        let (at, event) = (recorded.at, &recorded.event);
        if recorded.epoch < self.epoch {
            return Err(corrupt(event, "the coordinator", format!("at epoch {}", self.epoch)));
        }
        self.epoch = recorded.epoch;
        let last_at = std::mem::replace(&mut self.last_at, at);
        let Some(cluster) = &recorded.cluster else {
            return match event {
                Event::LeadershipTaken => {
                    self.led_since = at;
                    self.away = at.since(last_at);
                    Ok(())
                }
                other => Err(corrupt(other, "no cluster", "named")),
            };
        };
        match event {
            Event::MigrationStarted { id, plan, by, nodes } => {
                let migration = Migration {
                    id: *id,
                    plan: (**plan).clone(),
                    by: by.clone(),
                    started_at: at,
                    paused_by: None,
                    aborted_by: None,
                    planned: *nodes,
                    track: Track::new(Phase::Ready { next: Step::first_of_cluster() }, at),
                    nodes: Vec::new(),
                    export: None,
                };
                match self.migrations.insert(cluster.clone(), Arc::new(migration)) {
                    Some(old) if old.is_whole() && !old.is_finished() => {
                        Err(corrupt(event, cluster, "being migrated already"))
                    }
                    _ => Ok(()),
                }
            }
            Event::TokenIssued { node, token, .. } => {
                self.host(cluster, node).token = Some(token.clone());
                Ok(())
            }
            Event::AgentEnrolled { node, generation, identity } => {
                let host = self.host(cluster, node);
                if generation.0 != host.generation.0 + 1 || host.token.is_none() {
                    return Err(corrupt(event, node, format!("at {:?}", host.generation)));
                }
                let identity = Some(identity.clone());
                *host = Host { generation: *generation, revoked: false, token: None, identity };
                Ok(())
            }
            Event::AgentRevoked { node, generation, .. } => {
                let host = self.host(cluster, node);
                if *generation != host.generation {
                    return Err(corrupt(event, node, format!("at {:?}", host.generation)));
                }
                (host.revoked, host.token) = (true, None);
                Ok(())
            }
            event => match self.migrations.get_mut(cluster) {
                Some(migration) => Arc::make_mut(migration).evolve(event, at),
                None => Err(corrupt(event, cluster, "unknown")),
            },
        }
    }

    fn host(&mut self, cluster: &ClusterName, node: &NodeName) -> &mut Host {
        Arc::make_mut(&mut self.hosts).entry((cluster.clone(), node.clone())).or_default()
    }
}

impl Migration {
    fn evolve(&mut self, event: &Event, at: Timestamp) -> Result<(), Corrupt> {
        match event {
            Event::NodePlanned { node } => self.nodes.push(Node::new(node.clone(), at)),
            Event::MigrationPaused { by } => self.paused_by = Some(by.clone()),
            Event::MigrationResumed { .. } => self.paused_by = None,
            Event::ObjectsExported { sha256 } => self.export = Some(sha256.clone()),
            Event::WorkBegun => {
                self.track.may(event, Step::Work)?;
                self.track.enter(Phase::Working, at);
            }
            Event::MigrationCompleted => {
                self.track.may(event, Step::Finish)?;
                self.track.enter(Phase::Done, at);
            }
            Event::AbortRequested { subject: Subject::Cluster, by } => {
                if self.track.phase.is_over() || self.out().next().is_some() {
                    return Err(corrupt(event, "the cluster", self.track.phase.word()));
                }
                self.aborted_by = Some(by.clone());
                self.track.hold = None;
                self.track.enter(Phase::Working, at);
            }
            Event::MigrationAborted => {
                if self.aborted_by.is_none() || !self.is_untouched() {
                    self.track.may(event, Step::Finish)?;
                }
                self.track.enter(Phase::Aborted, at);
            }
            Event::EvidenceRequested { subject, .. }
            | Event::EvidenceRecorded { subject, .. }
            | Event::GatePassed { subject, .. }
            | Event::Held { subject, .. }
            | Event::HoldRequested { subject, .. }
            | Event::RetryRequested { subject, .. }
            | Event::Approved { subject, .. }
            | Event::ApprovalEnded { subject, .. } => self.evolve_track(subject, event, at)?,
            event => {
                let name = node_of(event)?;
                let node = self.nodes.iter_mut().find(|node| &node.planned.name == name);
                node.ok_or_else(|| corrupt(event, name, "unknown"))?.evolve(event, at)?;
            }
        }
        Ok(())
    }

    fn evolve_track(
        &mut self,
        subject: &Subject,
        event: &Event,
        at: Timestamp,
    ) -> Result<(), Corrupt> {
        let break_max = self.plan.policy.evidence_max_age;
        let (mut verified, mut resubmitted) = (&mut None, &mut 0);
        let track = match subject {
            Subject::Cluster => &mut self.track,
            Subject::Node(name) => {
                let node = self.nodes.iter_mut().find(|node| &node.planned.name == name);
                let node = node.ok_or_else(|| corrupt(event, name, "unknown"))?;
                match event {
                    Event::RetryRequested { resubmit, .. } => node.forget_for_retry(*resubmit),
                    Event::EvidenceRequested { gate, .. } => node.forget_inputs(*gate),
                    _ => (),
                }
                (verified, resubmitted) = (&mut node.verified, &mut node.resubmitted);
                &mut node.track
            }
        };
        match (&mut track.phase, event) {
            (
                Phase::Ready { .. }
                | Phase::Asking { .. }
                | Phase::Reinstalling(_)
                | Phase::Working,
                Event::EvidenceRequested { gate, round, .. },
            ) => {
                if round.0 != track.round.0 + 1 {
                    return Err(corrupt(event, subject, format!("in round {}", track.round)));
                }
                let follows = match &track.phase {
                    Phase::Ready {
                        next: Step::Ask(Gate::JoinAdmission) | Step::Submit(Kind::Join),
                    } => {
                        matches!(gate, Gate::JoinAdmission | Gate::Os)
                    }
                    Phase::Ready { next } => {
                        *next == Step::Ask(*gate) || next.admitted_by() == Some(*gate)
                    }
                    Phase::Asking { gate: now, .. } => now == gate,
                    Phase::Reinstalling(_) => *gate == Gate::Os,
                    _ => matches!(gate, Gate::Finalize | Gate::ClusterAbort),
                };
                if !follows {
                    return Err(corrupt(event, subject, track.phase.word()));
                }
                track.round = *round;
                let asked = Asked { round: *round, at };
                let again = matches!(&track.phase, Phase::Asking { .. });
                let phase = Phase::Asking { gate: *gate, asked, dossier: Dossier::default() };
                // A new round of the same gate does not push its deadline away.
                if again { track.phase = phase } else { track.enter(phase, at) }
            }
            (Phase::Asking { dossier, .. }, Event::EvidenceRecorded { evidence, .. }) => {
                dossier.add(evidence.clone(), break_max);
            }
            (Phase::Asking { gate, asked, dossier }, Event::GatePassed { proof, .. })
                if proof.gate() == *gate && proof.round() == asked.round =>
            {
                if Kind::ALL.iter().any(|kind| kind.verified_by() == *gate) {
                    *resubmitted = 0;
                }
                if *gate == Gate::Os {
                    let mut answers = dossier.iter().map(|seen| &seen.evidence);
                    let os = answers.find(|answer| answer.check == Check::OsIsTarget);
                    *verified = os.and_then(|answer| answer.generation);
                }
                let next = gate.next();
                track.enter(Phase::Ready { next }, at);
            }
            (
                Phase::Ready { .. }
                | Phase::Asking { .. }
                | Phase::Reinstalling(_)
                | Phase::Working,
                Event::Held { why, resume, .. },
            ) => {
                track.hold = None;
                track.enter(Phase::Held { why: why.clone(), resume: *resume }, at);
            }
            (phase, Event::HoldRequested { why, by, .. }) if !phase.is_over() => {
                track.hold = Some(Blocker::HeldBy { by: by.clone(), why: why.clone() });
            }
            (phase, Event::Approved { item, by, why, until, .. }) if !phase.is_over() => {
                let (item, by, why) = (item.clone(), by.clone(), why.clone());
                let approval = Approval { item, by, why, until: *until, ended: false };
                track.approvals.insert(approval.item.id(), approval);
            }
            (_, Event::ApprovalEnded { item, .. })
                if track.approvals.get(item).is_some_and(|approval| !approval.ended) =>
            {
                track.approvals.get_mut(item).expect("it is there").ended = true;
            }
            (Phase::Held { resume, .. }, Event::RetryRequested { resubmit, .. }) => {
                let next = resume.retried(*resubmit);
                track.enter(Phase::Ready { next }, at);
            }
            (phase, event) => return Err(corrupt(event, subject, phase.word())),
        }
        Ok(())
    }
}

impl Node {
    /// A node that waits for its turn.
    pub(crate) fn new(planned: PlannedNode, at: Timestamp) -> Self {
        Self {
            planned,
            attempt: Default::default(),
            reinstall: Attempt(1),
            track: Track::new(Phase::Planned, at),
            began_at: None,
            snapshot: None,
            drain: None,
            inputs: None,
            resubmitted: 0,
            operations: Vec::new(),
            leftovers: Leftovers::default(),
            deletion: Deletion::default(),
            farewell: None,
            given_away: false,
            verified: None,
        }
    }

    fn evolve(&mut self, event: &Event, at: Timestamp) -> Result<(), Corrupt> {
        let last = self.operation().map(|operation| operation.intent.kind);
        let may_go_back = self.can_be_rolled_back();
        match (&mut self.track.phase, event) {
            (Phase::Planned, Event::NodeStarted { .. }) => {
                self.began_at = Some(at);
                self.track.enter(Phase::Ready { next: Step::first_of_node() }, at);
            }
            (_, Event::SnapshotRecorded { snapshot, .. }) => self.snapshot = Some(snapshot.clone()),
            (_, Event::DrainProgressed { drain, .. }) => self.drain = Some(drain.clone()),
            (_, Event::InputsPrepared { inputs, .. }) => self.inputs = Some(inputs.clone()),
            (Phase::Ready { next }, Event::OperationIntended { attempt, intent, .. })
                if *next == Step::Submit(intent.kind) =>
            {
                self.attempt = *attempt;
                self.forget_residues();
                let progress = Progress::Intended;
                let intent = intent.clone();
                let (archived, extent, accepted) = (false, Extent::Unknown, false);
                self.operations.push(Operation { intent, progress, archived, extent, accepted });
                self.track.enter(Phase::Operating, at);
            }
            (_, Event::OperationCopied { .. } | Event::ForeignOperationSeen { .. }) => (),
            (_, Event::OperationArchived { name, extent, .. }) => {
                for operation in self.operations.iter_mut().filter(|op| op.intent.name == *name) {
                    operation.archived = true;
                    operation.learn(*extent);
                }
            }
            (Phase::Asking { gate, .. }, Event::AcceptedByEvidence { name, .. }) => {
                let gate = *gate;
                let last = self.operations.last_mut().filter(|op| op.intent.name == *name);
                match last.filter(|op| op.intent.kind.verified_by() == gate) {
                    Some(operation) => operation.accepted = true,
                    None => return Err(corrupt(event, &self.planned.name, "elsewhere")),
                }
            }
            (Phase::Asking { gate, .. }, Event::OperationResubmitted { number, .. })
                if self
                    .operations
                    .last()
                    .is_some_and(|op| op.intent.kind.verified_by() == *gate) =>
            {
                let next = Step::Ask(*gate).retried(true);
                self.resubmitted = *number;
                self.forget_residues();
                self.track.enter(Phase::Ready { next }, at);
            }
            (Phase::Operating, event) => self.evolve_operation(event, at)?,
            (_, Event::LeftoversOrdered { order, processes, .. }) => {
                let (order, processes) = (order.clone(), processes.clone());
                self.leftovers = Leftovers::Ordered { order, processes };
            }
            (
                Phase::Asking { gate: Gate::Removal, asked, dossier },
                Event::LeftoversAnswered { .. } | Event::NodeDeletionAnswered { .. },
            ) => {
                // What was seen before the action proves nothing about the time after it.
                (asked.at, *dossier) = (at, Dossier::default());
                match event {
                    Event::LeftoversAnswered { .. } => self.leftovers = Leftovers::Answered,
                    _ => self.deletion = Deletion::Answered,
                }
            }
            (
                phase @ (Phase::Ready { .. } | Phase::Asking { .. } | Phase::Held { .. }),
                Event::NodeDeletionRequested { by, .. },
            ) if phase.step() == Some(Step::Ask(Gate::Removal)) => {
                let held = matches!(phase, Phase::Held { .. });
                if held {
                    self.forget_residues();
                    let next = Step::Ask(Gate::Removal);
                    self.track.enter(Phase::Ready { next }, at);
                }
                self.deletion = Deletion::Wanted { by: by.clone() };
            }
            (Phase::Asking { gate: Gate::Removal, .. }, Event::NodeDeletionOrdered { uid, .. })
                if self.snapshot.as_ref().is_some_and(|known| known.node_uid == *uid) =>
            {
                self.deletion = Deletion::Ordered { uid: uid.clone() };
            }
            (_, Event::RollbackRequested { .. }) if may_go_back => {
                self.forget_residues();
                let next = Step::Ask(Gate::RejoinAdmission);
                self.track.hold = None;
                self.track.enter(Phase::Ready { next }, at);
            }
            (_, Event::FarewellSaid { generation, .. }) => self.farewell = Some(*generation),
            (Phase::Ready { next: Step::Reinstall }, Event::ReinstallAuthorized { .. }) => {
                self.given_away = true;
                self.track.enter(Phase::Reinstalling(Reinstall::default()), at);
            }
            (Phase::Reinstalling(reinstall), Event::InstallerProgressed { percent, seen, .. }) => {
                reinstall.progress = Some((*percent, seen.clone()));
            }
            (Phase::Reinstalling(reinstall), Event::ReinstallAnnounced { by, .. }) => {
                reinstall.announced_by = Some(by.clone());
            }
            (Phase::Ready { next: Step::Finish }, Event::NodeFinished { .. })
                if last == Some(Kind::Join) =>
            {
                self.track.enter(Phase::Done, at);
            }
            (
                Phase::Planned | Phase::Ready { .. } | Phase::Asking { .. } | Phase::Held { .. },
                Event::AbortRequested { .. },
            ) if self.operations.is_empty() => {
                // Before it was recorded, nothing of it was touched.
                let recorded = self.snapshot.is_some();
                let next = if recorded { Step::Ask(Gate::Abort) } else { Step::Finish };
                self.track.hold = None;
                self.track.enter(Phase::Ready { next }, at);
            }
            (Phase::Ready { next: Step::Finish }, Event::NodeAborted { .. })
                if matches!(last, None | Some(Kind::Rejoin)) =>
            {
                self.track.enter(Phase::Aborted, at);
            }
            (phase, event) => return Err(corrupt(event, &self.planned.name, phase.word())),
        }
        Ok(())
    }

    /// What may be done again after a retry: residual actions, inputs made from today's inventory,
    /// and, if that was asked for, the reinstall. A system that is there by now but is the wrong
    /// one must say farewell, too.
    fn forget_for_retry(&mut self, resubmit: bool) {
        self.forget_residues();
        let Phase::Held { resume, .. } = &self.track.phase else { return };
        if resubmit && resume.retried(true) == Step::Ask(Gate::Reinstall) {
            self.reinstall.0 += 1;
        }
        if resubmit && *resume == Step::Ask(Gate::Os) {
            self.farewell = None;
        }
    }

    /// An operation is admitted anew with inputs of that moment: other nodes may be out by then, and
    /// the inventory another one.
    fn forget_inputs(&mut self, gate: Gate) {
        let asking = matches!(self.track.phase, Phase::Asking { .. });
        if !asking && Kind::ALL.iter().any(|kind| kind.admitted_by() == gate) {
            self.inputs = None;
        }
    }

    /// What was done about residues and stored as inputs was for the attempt before.
    fn forget_residues(&mut self) {
        self.inputs = None;
        self.leftovers = Leftovers::Untouched;
        self.deletion = Deletion::Untouched;
    }

    fn evolve_operation(&mut self, event: &Event, at: Timestamp) -> Result<(), Corrupt> {
        let name = &self.planned.name;
        let operation = self.operations.last_mut().expect("operating means that one was intended");
        let (progress, uid) = (&operation.progress, operation.uid().map(str::to_owned));
        let next = match (progress, event) {
            (Progress::Intended, Event::OperationSubmitted { uid, others, .. }) => {
                Progress::Submitted { uid: uid.clone(), others: *others }
            }
            (Progress::Intended | Progress::Submitted { .. }, Event::OperationWithdrawn { .. }) => {
                Progress::Withdrawing { uid }
            }
            (
                Progress::Submitted { .. } | Progress::Withdrawing { .. },
                Event::OperationStarted { pod, .. },
            ) => Progress::Started { uid: uid.unwrap_or_default(), pod: pod.clone() },
            (progress, Event::OperationEnded { outcome, .. })
                if !matches!(progress, Progress::Ended { .. }) =>
            {
                Progress::Ended { uid, outcome: *outcome }
            }
            (progress, event) => return Err(corrupt(event, name, format!("{progress:?}"))),
        };
        operation.progress = next;
        if let Event::OperationEnded { extent, .. } = event {
            operation.learn(*extent);
        }
        let kind = operation.intent.kind;
        match operation.progress {
            // Whatever it said, the next step is to look.
            Progress::Ended { .. } => {
                self.track.enter(Phase::Ready { next: Step::Ask(kind.verified_by()) }, at);
            }
            _ => self.track.since = at,
        }
        Ok(())
    }
}

impl Operation {
    /// Takes a hint of how far it got; that it came to the reset beats any other.
    fn learn(&mut self, extent: Extent) {
        if self.extent == Extent::Unknown || extent == Extent::Reset {
            self.extent = extent;
        }
    }
}

impl Track {
    fn new(phase: Phase, since: Timestamp) -> Self {
        let (round, approvals) = Default::default();
        Self { round, phase, since, hold: None, approvals }
    }

    fn enter(&mut self, phase: Phase, at: Timestamp) {
        self.phase = phase;
        self.since = at;
    }

    fn may(&self, event: &Event, step: Step) -> Result<(), Corrupt> {
        match &self.phase {
            Phase::Ready { next } if *next == step => Ok(()),
            phase => Err(corrupt(event, "the cluster", phase.word())),
        }
    }
}

impl Phase {
    /// One word for messages.
    pub fn word(&self) -> &'static str {
        match self {
            Phase::Planned => "planned",
            Phase::Ready { .. } => "ready",
            Phase::Asking { .. } => "asking",
            Phase::Operating => "operating",
            Phase::Reinstalling(_) => "reinstalling",
            Phase::Working => "working",
            Phase::Held { .. } => "held",
            Phase::Done => "done",
            Phase::Aborted => "aborted",
        }
    }
}

fn node_of(event: &Event) -> Result<&NodeName, Corrupt> {
    match event {
        Event::NodeStarted { node }
        | Event::SnapshotRecorded { node, .. }
        | Event::DrainProgressed { node, .. }
        | Event::InputsPrepared { node, .. }
        | Event::OperationIntended { node, .. }
        | Event::OperationSubmitted { node, .. }
        | Event::OperationWithdrawn { node, .. }
        | Event::OperationStarted { node, .. }
        | Event::OperationEnded { node, .. }
        | Event::AcceptedByEvidence { node, .. }
        | Event::OperationResubmitted { node, .. }
        | Event::OperationCopied { node, .. }
        | Event::OperationArchived { node, .. }
        | Event::ForeignOperationSeen { node, .. }
        | Event::LeftoversOrdered { node, .. }
        | Event::LeftoversAnswered { node, .. }
        | Event::NodeDeletionRequested { node, .. }
        | Event::NodeDeletionOrdered { node, .. }
        | Event::NodeDeletionAnswered { node, .. }
        | Event::RollbackRequested { node, .. }
        | Event::FarewellSaid { node, .. }
        | Event::ReinstallAuthorized { node }
        | Event::InstallerProgressed { node, .. }
        | Event::ReinstallAnnounced { node, .. }
        | Event::NodeFinished { node }
        | Event::NodeAborted { node }
        | Event::AbortRequested { subject: Subject::Node(node), .. } => Ok(node),
        other => Err(corrupt(other, "no node", "named")),
    }
}
