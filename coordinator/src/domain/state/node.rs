//! One node's move, and where it stands between the cluster and its own disk.

use std::collections::BTreeMap;

use rehull_shared::{
    ids::{Attempt, Generation},
    time::Timestamp,
};

use super::{
    BackupTaken, Deletion, Drain, Gate, Inputs, Kind, Leftovers, MemberRemoval, Operation, Outcome,
    Phase, Progress, Snapshot, Step, Track,
};
use crate::domain::{
    fragility::{Away, Loudness},
    plan::PlannedNode,
};

/// One node's move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What was planned for it.
    pub planned: PlannedNode,
    /// Submissions so far.
    pub attempt: Attempt,
    /// Which reinstall it is, or would be: the installer does each number once.
    pub reinstall: Attempt,
    /// Its way through the gates.
    pub track: Track,
    /// When its turn came.
    pub began_at: Option<Timestamp>,
    /// What it was before (gate `Snapshot`).
    pub snapshot: Option<Snapshot>,
    /// How far the eviction of its pods is (gate `Drain`).
    pub drain: Option<Drain>,
    /// Inputs stored for the next operation (gates `RemoveAdmission`, `JoinAdmission`).
    pub inputs: Option<Inputs>,
    /// Attempts of the operation at hand that were made by themselves.
    pub resubmitted: u32,
    /// Every operation made for it, oldest first.
    pub operations: Vec<Operation>,
    /// What was done about processes that outlived the removal, in this attempt.
    pub leftovers: Leftovers,
    /// What was done about the Node object that outlived the removal, in this attempt.
    pub deletion: Deletion,
    /// What was done about the member of etcd that outlived the removal, in this attempt.
    pub member: MemberRemoval,
    /// The backup that was taken before its removal, and when (gate `Quorum`).
    pub backup: Option<(BackupTaken, Timestamp)>,
    /// When it was away from etcd, if it is a control plane: from the first removal on.
    pub away: Option<Away>,
    /// How loud people were told that it is away for long.
    pub told: Option<Loudness>,
    /// Whether another member of etcd ails while it is away, as people were told.
    pub at_risk: bool,
    /// Whether its API server was last switched on or off by us, as its agent has said.
    pub api_server_on: Option<bool>,
    /// Whether its API server was to be stopped since everything was looked at that must hold before
    /// (gate `Withdraw`).
    pub withdrawing: bool,
    /// Objects that were to be changed for it last, and the revision of each from which that may be done.
    pub changing: BTreeMap<String, String>,
    /// From when on no other API server may have been silent for long: since its removal was first
    /// intended, or a person has last looked what came of it.
    pub steady_from: Option<Timestamp>,
    /// The generation whose agent has said farewell.
    pub farewell: Option<Generation>,
    /// Whether its reinstall was authorised: the data on its host is given up, and with it the way
    /// back.
    pub given_away: bool,
    /// The generation whose OS was verified (gate `Os`); another one must be verified first.
    pub verified: Option<Generation>,
}

impl Node {
    /// The operation that was made last.
    pub fn operation(&self) -> Option<&Operation> {
        self.operations.last()
    }

    /// The attempt that an operation of this kind would be: one more than the last of its kind.
    pub fn next_attempt(&self, kind: Kind) -> Attempt {
        let made = |operation: &&Operation| operation.intent.kind == kind;
        let last = self.operations.iter().filter(made).map(|op| op.intent.attempt.0).max();
        Attempt(last.unwrap_or(0) + 1)
    }

    /// The operation that this gate looks at, if it did not say that it succeeded.
    pub fn doubtful(&self, gate: Gate) -> Option<(&Operation, Outcome)> {
        let operation = self.operation().filter(|op| op.intent.kind.verified_by() == gate)?;
        match operation.progress {
            Progress::Ended { outcome, .. } if outcome != Outcome::Succeeded => {
                Some((operation, outcome))
            }
            _ => None,
        }
    }

    /// Whether it is, or was, put back with the system that it had.
    pub fn is_rolled_back(&self) -> bool {
        self.operation().is_some_and(|operation| operation.intent.kind == Kind::Rejoin)
    }

    /// Whether it could be put back with the system that it still has: its removal has ended, the
    /// data on its host is not given up, and nothing is under way.
    pub fn can_be_rolled_back(&self) -> bool {
        let rests = matches!(self.track.phase, Phase::Held { .. } | Phase::Ready { .. });
        let places = [Step::Ask(Gate::Reinstall), Step::Reinstall];
        let between = self.track.phase.step().is_some_and(|step| places.contains(&step));
        rests && (between || self.track.phase.is_about_removal()) && !self.given_away
    }

    /// Whether it has begun and has not finished.
    pub fn is_active(&self) -> bool {
        self.track.phase != Phase::Planned && !self.track.phase.is_over()
    }

    /// Whether the next step is one of an operation, and not its first.
    pub fn is_amid_operation(&self) -> bool {
        let Phase::Ready { next } = self.track.phase else { return false };
        match next {
            Step::Submit(_) => true,
            Step::Ask(gate) => gate.verifies_operation(),
            Step::Reinstall | Step::Work | Step::Finish => false,
        }
    }

    /// Whether it goes back to what it was, or has.
    pub fn is_given_up(&self) -> bool {
        match self.track.phase.step() {
            Some(Step::Ask(Gate::Abort)) => true,
            Some(Step::Finish) => !self.is_past_return(),
            _ => self.track.phase == Phase::Aborted,
        }
    }

    /// Whether it is between the point of no return, its first submitted removal, and its end.
    pub fn is_out(&self) -> bool {
        self.is_past_return() && !self.track.phase.is_over()
    }

    /// Whether the cluster must do without it: it is out, and not yet proved to be back (gate
    /// `Join`). Operations for other nodes leave it out of their inventory.
    pub fn is_absent(&self) -> bool {
        let back = [Gate::JoinCanary, Gate::Metadata, Gate::Soak].map(Step::Ask);
        let is_back = |step| back.contains(&step) || step == Step::Finish;
        let is_back = self.track.phase.step().is_some_and(is_back);
        self.is_out() && !is_back
    }
}
