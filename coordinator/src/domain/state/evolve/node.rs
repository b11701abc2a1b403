//! How each event changes one node.

use std::collections::BTreeMap;

use rehull_shared::{ids::Attempt, time::Timestamp};

use super::{Corrupt, corrupt};
use crate::domain::{
    event::Event,
    fragility::{Away, Loudness},
    gate::{Blocker, Dossier, Gate},
    plan::PlannedNode,
    state::{
        Deletion, Extent, Kind, Leftovers, MemberRemoval, Node, Operation, Phase, Progress,
        Reinstall, Step, Track,
    },
};

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
            member: MemberRemoval::default(),
            backup: None,
            away: None,
            told: None,
            at_risk: false,
            api_server_on: None,
            withdrawing: false,
            changing: BTreeMap::new(),
            steady_from: None,
            farewell: None,
            given_away: false,
            verified: None,
        }
    }

    pub(super) fn evolve(&mut self, event: &Event, at: Timestamp) -> Result<(), Corrupt> {
        let last = self.operation().map(|operation| operation.intent.kind);
        let (may_go_back, past_return) = (self.can_be_rolled_back(), self.is_past_return());
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
                if intent.kind == Kind::Remove && self.planned.role.is_control_plane() {
                    self.away.get_or_insert(Away { from: at, until: None });
                    self.steady_from.get_or_insert(at);
                    self.at_risk = false;
                }
                self.forget_residues();
                let progress = Progress::Intended;
                let intent = intent.clone();
                let (archived, extent, accepted) = (false, Extent::Unknown, false);
                self.operations.push(Operation { intent, progress, archived, extent, accepted });
                self.track.enter(Phase::Operating, at);
            }
            (
                _,
                Event::OperationCopied { .. }
                | Event::ForeignOperationSeen { .. }
                | Event::LeaderMoved { .. }
                | Event::EndpointMoved { .. }
                | Event::InventoryReordered { .. },
            ) => (),
            (_, Event::ChangeIntended { object, revision, .. }) => {
                self.changing.insert(object.clone(), revision.clone());
            }
            (_, Event::BackupRecorded { backup, .. }) => self.backup = Some((backup.clone(), at)),
            (_, Event::ApiServerSwitched { on, .. }) => self.api_server_on = Some(*on),
            (_, Event::FragilityExceeded { page, .. }) => {
                self.told = Some(if *page { Loudness::Page } else { Loudness::Warning });
            }
            (phase, Event::QuorumAtRisk { why, .. }) => {
                self.at_risk = true;
                // Who is held already waits for a person, who will hear of it. A person's own hold gives
                // way: whoever takes that back may not know of this.
                if !matches!(phase, Phase::Held { .. }) {
                    self.track.hold = Some(Blocker::QuorumAtRisk { seen: why.clone() });
                }
            }
            (_, Event::QuorumRestored { .. }) => self.at_risk = false,
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
                self.backup = None; // it may be as old as an operation takes
                self.forget_residues();
                self.track.enter(Phase::Ready { next }, at);
            }
            (Phase::Operating, event) => self.evolve_operation(event, at)?,
            (_, Event::MemberRemovalOrdered { order, member, .. }) => {
                let (order, member) = (order.clone(), member.clone());
                self.member = MemberRemoval::Ordered { order, member };
            }
            (_, Event::LeftoversOrdered { order, processes, .. }) => {
                let (order, processes) = (order.clone(), processes.clone());
                self.leftovers = Leftovers::Ordered { order, processes };
            }
            (
                Phase::Asking { gate: Gate::Removal, asked, dossier },
                Event::LeftoversAnswered { .. }
                | Event::NodeDeletionAnswered { .. }
                | Event::MemberRemovalAnswered { .. },
            ) => {
                // What was seen before the action proves nothing about the time after it.
                (asked.at, *dossier) = (at, Dossier::default());
                match event {
                    Event::LeftoversAnswered { .. } => self.leftovers = Leftovers::Answered,
                    Event::MemberRemovalAnswered { .. } => self.member = MemberRemoval::Answered,
                    _ => self.deletion = Deletion::Answered,
                }
            }
            (
                phase @ (Phase::Ready { .. } | Phase::Asking { .. } | Phase::Held { .. }),
                Event::NodeDeletionRequested { by, .. },
            ) if phase.is_about_removal() => {
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
                self.track.troubles.clear(); // the installer is called no more
            }
            (Phase::Ready { next: Step::Finish }, Event::NodeFinished { .. })
                if last == Some(Kind::Join) =>
            {
                self.track.enter(Phase::Done, at);
            }
            (
                Phase::Planned | Phase::Ready { .. } | Phase::Asking { .. } | Phase::Held { .. },
                Event::AbortRequested { .. },
            ) if !past_return => {
                // Before it was recorded, nothing of it was touched.
                let recorded = self.snapshot.is_some();
                let next = if recorded { Step::Ask(Gate::Abort) } else { Step::Finish };
                self.track.hold = None;
                self.track.enter(Phase::Ready { next }, at);
            }
            (Phase::Ready { next: Step::Finish }, Event::NodeAborted { .. })
                if !past_return || last == Some(Kind::Rejoin) =>
            {
                self.track.enter(Phase::Aborted, at);
            }
            (phase, event) => return Err(corrupt(event, &self.planned.name, phase.word())),
        }
        Ok(())
    }

    /// What may be done again after a retry: residual actions, a backup, inputs made from today's inventory,
    /// and, if that was asked for, the reinstall. A system that is there by now but is the wrong
    /// one must say farewell, too.
    pub(super) fn forget_for_retry(&mut self, resubmit: bool, at: Timestamp) {
        self.forget_residues();
        self.steady_from = self.steady_from.map(|_| at);
        self.backup = None;
        let Phase::Held { resume, .. } = &self.track.phase else { return };
        if resubmit && resume.retried(true) == Step::Ask(Gate::Reinstall) {
            self.reinstall.0 += 1;
        }
        if resubmit && *resume == Step::Ask(Gate::Os) {
            self.farewell = None;
        }
    }

    /// An operation is admitted anew with inputs of that moment: other nodes may be out by then, and
    /// the inventory another one. So is the backup before the removal of a control plane.
    pub(super) fn forget_inputs(&mut self, gate: Gate) {
        let asking = matches!(self.track.phase, Phase::Asking { .. });
        if !asking && gate.admits_operation() {
            self.inputs = None;
        }
        if !asking && gate == Gate::Quorum {
            self.backup = None;
        }
        if matches!(gate, Gate::Quorum | Gate::Withdraw) {
            self.withdrawing = gate == Gate::Withdraw;
        }
    }

    /// What was done about residues and stored as inputs was for the attempt before.
    fn forget_residues(&mut self) {
        self.inputs = None;
        self.leftovers = Leftovers::Untouched;
        self.deletion = Deletion::Untouched;
        self.member = MemberRemoval::Untouched;
        self.api_server_on = None;
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
