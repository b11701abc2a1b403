//! The state of the fleet: a fold of its events, and nothing that is not in them.

use std::{collections::BTreeMap, sync::Arc};

use rehull_shared::{
    ids::{ClusterName, Epoch, Generation, NodeName, Round},
    time::{Span, Timestamp},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    approval::{Approval, Item},
    gate::{Asked, Bench, Blocker, Dossier, Gate},
    plan::{Plan, Role},
};

mod control_planes;
mod evolve;
mod hosts;
mod node;
mod operations;
pub use control_planes::{BackupProof, BackupTaken, ClusterIdentity, Member, MemberRemoval};
pub use evolve::Corrupt;
pub use hosts::{Host, HostIdentity, Snapshot, Token};
pub use node::Node;
pub use operations::{
    Deletion, Extent, Inputs, Kind, Leftovers, Operation, OperationIntent, Outcome, Process,
    Progress, START_DELAY_PER_OPERATION,
};

/// Everything there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// The epoch of the coordinator that wrote last.
    pub epoch: Epoch,
    /// When that coordinator took its leadership.
    pub led_since: Timestamp,
    /// How long nothing had happened before it did: for so long, at most, there was no coordinator.
    pub away: Span,
    /// When the last event was decided.
    pub last_at: Timestamp,
    /// One migration a cluster: the latest. Shared, so that a reader's copy is cheap.
    pub migrations: BTreeMap<ClusterName, Arc<Migration>>,
    /// Hosts whose agents have been invited or have enrolled.
    pub hosts: Arc<BTreeMap<(ClusterName, NodeName), Host>>,
}

/// One cluster's move to the target OS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its identity; traces and object annotations carry it.
    pub id: Uuid,
    /// What was agreed on.
    pub plan: Plan,
    /// Who started it.
    pub by: String,
    /// When.
    pub started_at: Timestamp,
    /// Who has paused it, if it is paused. Takes effect at safe points.
    pub paused_by: Option<String>,
    /// Who has given it up, if somebody has: its nodes go back, and then it ends.
    pub aborted_by: Option<String>,
    /// How many nodes were planned.
    pub planned: u32,
    /// The cluster's own way through its gates.
    pub track: Track,
    /// The nodes, in the order of the plan.
    pub nodes: Vec<Node>,
    /// Content hash of the exported objects (gate `Backup`).
    pub export: Option<String>,
    /// What was done about the cluster's deletion protection.
    pub protection: Protection,
    /// What tells the cluster from any other; known where control planes are migrated.
    pub identity: Option<ClusterIdentity>,
    /// The last proof that a backup of the cluster makes an etcd again, and when it was recorded.
    pub proved: Option<(BackupProof, Timestamp)>,
}

/// What was done about the deletion protection of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Since when it is off, or may be: a program that was to be run may have run. `None` if it is on.
    pub off_since: Option<Timestamp>,
    /// What was intended last.
    pub switch: Option<Switch>,
}

impl Protection {
    /// Whether it was said to be off, and nothing was intended since.
    fn is_switched_off(&self) -> bool {
        let is_off = |switch: &Switch| !switch.on && matches!(switch.answer, Some((true, _)));
        self.switch.as_ref().is_some_and(is_off)
    }
}

/// One switching of a protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Whether it is to be on.
    pub on: bool,
    /// For which round of the cluster's gate.
    pub round: Round,
    /// What came of it, and in words; `None` if nothing is known yet.
    pub answer: Option<(bool, String)>,
}

/// A way through gates, of a node or of the cluster itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Rounds asked so far.
    pub round: Round,
    /// Where it is.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// Why it will be held at its next safe point, if somebody wants that.
    pub hold: Option<Blocker>,
    /// What rehull itself was to do here and could not, by the name of the work: why, and when that was
    /// told. It ends with the phase.
    pub troubles: BTreeMap<String, (String, Timestamp)>,
    /// What people have accepted, by number, with what has ended.
    pub approvals: BTreeMap<String, Approval>,
}

/// Where a node, or the cluster itself, is. Data lives in the phase in which it means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits for its turn.
    Planned,
    /// May go on; a paused migration rests here.
    Ready {
        /// What comes next.
        next: Step,
    },
    /// A gate is being asked.
    Asking {
        /// The gate.
        gate: Gate,
        /// The round.
        asked: Asked,
        /// The answers so far.
        dossier: Dossier,
    },
    /// An operation is under way; the last of [`Node::operations`].
    Operating,
    /// The host is being reinstalled.
    Reinstalling(Reinstall),
    /// The cluster's nodes are under way.
    Working,
    /// Waits for a person.
    Held {
        /// Why.
        why: Vec<Blocker>,
        /// Where a retry goes on.
        resume: Step,
    },
    /// Finished.
    Done,
    /// Given up; what was touched is as it was.
    Aborted,
}

/// What may come next. Stored in the log by name: never rename one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Ask a gate.
    Ask(Gate),
    /// Submit an operation.
    Submit(Kind),
    /// Have the host reinstalled.
    Reinstall,
    /// Let the nodes begin.
    Work,
    /// Nothing is left to do.
    Finish,
}

/// How far a reinstall is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reinstall {
    /// Who or what has said that the new system is installed; never a proof.
    pub announced_by: Option<String>,
    /// What the installer last said: percent and words.
    pub progress: Option<(u8, String)>,
}

/// How far an eviction is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Pods evicted so far.
    pub evicted: u32,
    /// Pods still to go.
    pub left: u32,
    /// Evictions that were refused: pod and the reason, a few of them.
    pub refused: Vec<String>,
}

/// Whom an event or a round is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// The cluster itself.
    Cluster,
    /// One of its nodes.
    Node(NodeName),
}

impl Subject {
    /// The node, or the cluster if there is none.
    pub fn of(node: Option<&NodeName>) -> Self {
        node.map_or(Subject::Cluster, |node| Subject::Node(node.clone()))
    }

    /// The node; `None` for the cluster.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Subject::Cluster => None,
            Subject::Node(node) => Some(node),
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Cluster => f.pad("cluster"),
            Subject::Node(node) => node.fmt(f),
        }
    }
}

impl Gate {
    /// Whether it admits an operation.
    pub fn admits_operation(self) -> bool {
        Kind::ALL.iter().any(|kind| kind.admitted_by() == self)
    }

    /// Whether it looks at what an operation did.
    pub fn verifies_operation(self) -> bool {
        Kind::ALL.iter().any(|kind| kind.verified_by() == self)
    }

    /// Whether it does one or the other.
    pub fn is_about_operations(self) -> bool {
        self.admits_operation() || self.verifies_operation()
    }

    /// Whether passing it means that the deletion protection is on, or off; `None` for all others.
    pub const fn protects(self) -> Option<bool> {
        match self {
            Gate::Unprotect => Some(false),
            Gate::Protect => Some(true),
            _ => None,
        }
    }

    /// What comes after it for a worker where nothing protects the cluster and no join canary is planned: see
    /// [`Migration::after`].
    pub const fn next(self) -> Step {
        match self {
            Gate::ClusterPreflight => Step::Ask(Gate::Backup),
            Gate::Backup | Gate::Unprotect => Step::Work,
            Gate::Preflight => Step::Ask(Gate::Snapshot),
            Gate::Snapshot | Gate::Reordered => Step::Ask(Gate::Cordon),
            Gate::Cordon => Step::Ask(Gate::Drain),
            Gate::Drain | Gate::Withdraw => Step::Ask(Gate::RemoveAdmission),
            Gate::KubeconfigAdmission => Step::Submit(Kind::Kubeconfig),
            Gate::Kubeconfig => Step::Ask(Gate::Reorder),
            Gate::Reorder => Step::Ask(Gate::ReorderAdmission),
            Gate::ReorderAdmission => Step::Submit(Kind::Reorder),
            Gate::Quorum => Step::Ask(Gate::Withdraw),
            Gate::RemoveAdmission => Step::Submit(Kind::Remove),
            Gate::Removal => Step::Ask(Gate::Reinstall),
            Gate::Reinstall => Step::Reinstall,
            Gate::Os => Step::Ask(Gate::JoinAdmission),
            Gate::JoinAdmission => Step::Submit(Kind::Join),
            Gate::RejoinAdmission => Step::Submit(Kind::Rejoin),
            Gate::Join | Gate::Rejoin | Gate::JoinCanary => Step::Ask(Gate::Metadata),
            Gate::Metadata => Step::Ask(Gate::Soak),
            Gate::Soak | Gate::Finalize | Gate::Abort | Gate::ClusterAbort | Gate::Protect => {
                Step::Finish
            }
        }
    }
}

impl Step {
    /// Where a cluster begins.
    pub const fn first_of_cluster() -> Self {
        Step::Ask(Gate::ClusterPreflight)
    }

    /// Where a node begins.
    pub const fn first_of_node() -> Self {
        Step::Ask(Gate::Preflight)
    }

    /// Where a retry goes on. With `resubmit`, a look at what an operation or a reinstall did goes
    /// back to the gate before it, so that another one is admitted on fresh evidence; other steps
    /// have nothing to do again.
    pub const fn retried(self, resubmit: bool) -> Self {
        match self {
            Step::Ask(Gate::Removal) if resubmit => Step::Ask(Kind::Remove.admitted_by()),
            // Another one was not admitted: that is asked again, or what the one before did.
            Step::Submit(kind) if resubmit => Step::Ask(kind.admitted_by()),
            Step::Submit(kind) => Step::Ask(kind.verified_by()),
            // Nothing has gone that could come back.
            Step::Ask(Gate::RejoinAdmission) if resubmit => Step::Ask(Kind::Remove.admitted_by()),
            Step::Ask(Gate::Join) if resubmit => Step::Ask(Kind::Join.admitted_by()),
            Step::Ask(Gate::Rejoin) if resubmit => Step::Ask(Kind::Rejoin.admitted_by()),
            Step::Ask(Gate::Kubeconfig) if resubmit => Step::Ask(Kind::Kubeconfig.admitted_by()),
            Step::Ask(Gate::Reordered) if resubmit => Step::Ask(Kind::Reorder.admitted_by()),
            Step::Reinstall | Step::Ask(Gate::Os) if resubmit => Step::Ask(Gate::Reinstall),
            step => step,
        }
    }

    /// Whether a paused migration rests before it: before the point of no return, after the
    /// removal is verified, and after the new OS is (domain reference 5.6).
    pub const fn is_safe_to_rest_before(self) -> bool {
        match self {
            Step::Ask(gate) => !matches!(
                gate,
                Gate::Removal
                    | Gate::Os
                    | Gate::Join
                    | Gate::JoinCanary
                    | Gate::Metadata
                    | Gate::Soak
                    | Gate::Abort
                    | Gate::ClusterAbort
                    | Gate::Protect
                    | Gate::Rejoin
                    | Gate::Kubeconfig
                    | Gate::Reordered
            ),
            Step::Submit(_) | Step::Reinstall | Step::Work | Step::Finish => true,
        }
    }

    /// Whether a removal is admitted or submitted by it.
    pub fn removes(self) -> bool {
        matches!(self, Step::Ask(Gate::RemoveAdmission) | Step::Submit(Kind::Remove))
    }

    /// Whether it belongs to an operation: then it waits until those of other nodes are over.
    pub fn is_about_operations(self) -> bool {
        match self {
            Step::Ask(gate) => gate.is_about_operations(),
            Step::Submit(_) => true,
            Step::Reinstall | Step::Work | Step::Finish => false,
        }
    }

    /// The gate that admits a step from which there is no way back, or that stops an API server: it must
    /// have been passed just now.
    pub const fn admitted_by(self) -> Option<Gate> {
        match self {
            Step::Submit(kind) => Some(kind.admitted_by()),
            Step::Reinstall => Some(Gate::Reinstall),
            Step::Ask(Gate::Withdraw) => Some(Gate::Quorum),
            Step::Ask(_) | Step::Work | Step::Finish => None,
        }
    }
}

impl Phase {
    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        matches!(self, Phase::Done | Phase::Aborted)
    }

    /// Whether it is what a removal did that is looked at, or decided on.
    pub fn is_about_removal(&self) -> bool {
        self.step() == Some(Step::Ask(Gate::Removal))
            || matches!(self, Phase::Held { resume: Step::Submit(Kind::Remove), .. })
    }

    /// The step that it is at, or rests or is held before; `None` in phases that are no step.
    pub fn step(&self) -> Option<Step> {
        match self {
            Phase::Ready { next } => Some(*next),
            Phase::Asking { gate, .. } => Some(Step::Ask(*gate)),
            Phase::Held { resume, .. } => Some(*resume),
            Phase::Planned
            | Phase::Operating
            | Phase::Reinstalling(_)
            | Phase::Working
            | Phase::Done
            | Phase::Aborted => None,
        }
    }
}

impl Fleet {
    /// The enrolment of a node's new system, once it is there: a later generation than the one
    /// that said farewell. It is the proof that a reinstall has happened.
    pub fn enrolled_after_farewell(
        &self,
        cluster: &ClusterName,
        node: &Node,
    ) -> Option<Generation> {
        let current = self.agent_of(cluster, &node.planned.name)?;
        node.farewell.filter(|old| current > *old).map(|_| current)
    }

    /// Which generation's agent may speak for a node: the latest that has enrolled, unless it was
    /// revoked.
    pub fn agent_of(&self, cluster: &ClusterName, node: &NodeName) -> Option<Generation> {
        let host = self.hosts.get(&(cluster.clone(), node.clone()))?;
        (host.generation > Generation(0) && !host.revoked).then_some(host.generation)
    }
}

impl Migration {
    /// The node of this name.
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.iter().find(|node| &node.planned.name == name)
    }

    /// The track of a subject.
    pub fn track(&self, subject: &Subject) -> Option<&Track> {
        match subject {
            Subject::Cluster => Some(&self.track),
            Subject::Node(name) => self.node(name).map(|node| &node.track),
        }
    }

    /// The tracks of the cluster itself, which is no node, and of its nodes.
    pub fn tracks(&self) -> impl Iterator<Item = (Option<&NodeName>, &Track)> {
        let nodes = self.nodes.iter().map(|node| (Some(&node.planned.name), &node.track));
        std::iter::once((None, &self.track)).chain(nodes)
    }

    /// The approval that counts now for an item, of the subject or of the whole cluster.
    pub fn approval(&self, subject: &Subject, item: &Item, now: Timestamp) -> Option<&Approval> {
        let id = item.id();
        [subject, &Subject::Cluster]
            .into_iter()
            .filter_map(|subject| self.track(subject)?.approvals.get(&id))
            .find(|approval| approval.item.is(item) && approval.holds(now))
    }

    /// The bench that judges a subject.
    pub fn bench<'a>(&'a self, subject: &'a Subject) -> Bench<'a> {
        let name = subject.node();
        let node = name.and_then(|name| self.node(name));
        let role = match name {
            Some(_) => node.map_or(Role::Worker, |node| node.planned.role),
            None => self.nodes.iter().map(|node| node.planned.role).max().unwrap_or_default(),
        };
        let watched =
            node.is_some_and(|node| self.is_canary(node) || node.planned.role.is_control_plane());
        Bench { plan: &self.plan, node: name, watched, role, apart: self.apart() }
    }

    /// Whether a node is the canary: the planned one, or, if that was given up, the first that was
    /// not. Somebody must warn the others.
    pub fn is_canary(&self, node: &Node) -> bool {
        let mut nodes = self.nodes.iter();
        let given_up = |node: &&Node| node.track.phase == Phase::Aborted;
        match nodes.clone().find(|node| node.planned.canary) {
            Some(planned) if given_up(&planned) => nodes
                .find(|node| !given_up(node))
                .is_some_and(|first| first.planned == node.planned),
            _ => node.planned.canary,
        }
    }

    /// Whether nothing of it needs to be put back: no gate of any node was ever asked, and its
    /// protection is on.
    pub fn is_untouched(&self) -> bool {
        let asked = |node: &Node| node.track.round != Round::default();
        self.protection.off_since.is_none() && !self.nodes.iter().any(asked)
    }

    /// What comes after a gate of a subject. The first control plane hands over before it is touched,
    /// and every control plane is taken out of service before it is removed. Where something protects the cluster that is switched off behind the
    /// backup, and on again before the end, however it ends. Where a join canary is planned a node
    /// that is back must pass it.
    pub fn after(&self, subject: &Subject, gate: Gate) -> Step {
        let off = self.protection.off_since.is_some();
        let role = self.bench(subject).role;
        match gate {
            Gate::Snapshot if role == Role::FirstControlPlane => {
                Step::Ask(Gate::KubeconfigAdmission)
            }
            Gate::Drain if role.is_control_plane() => Step::Ask(Gate::Quorum),
            Gate::Backup if self.plan.protection.is_some() => Step::Ask(Gate::Unprotect),
            // The events themselves must say so, too.
            Gate::Unprotect if !self.protection.is_switched_off() => Step::Ask(Gate::Unprotect),
            Gate::Finalize | Gate::ClusterAbort | Gate::Protect if off => Step::Ask(Gate::Protect),
            Gate::Join | Gate::Rejoin if self.plan.join_canary.is_some() => {
                Step::Ask(Gate::JoinCanary)
            }
            gate => gate.next(),
        }
    }

    /// Whether something can be done again of a subject that is held before this step. What was to put a
    /// node back may have done so in part: then it is not removed once more.
    pub fn can_be_resubmitted(&self, subject: &Subject, resume: Step) -> bool {
        let node = subject.node().and_then(|name| self.node(name));
        let put_back =
            resume == Step::Ask(Gate::RejoinAdmission) && node.is_some_and(Node::is_rolled_back);
        resume.retried(true) != resume && !put_back
    }

    /// The switching of the protection that is under way: its program is to be run.
    pub fn switching(&self) -> Option<&Switch> {
        let Phase::Asking { gate, .. } = &self.track.phase else { return None };
        let switch = self.protection.switch.as_ref()?;
        let wanted = gate.protects() == Some(switch.on) && switch.round == self.track.round;
        (wanted && switch.answer.is_none()).then_some(switch)
    }

    /// How long the next node is expected to take: as long as the slowest one so far.
    pub fn node_length(&self) -> Span {
        let done = self.nodes.iter().filter(|node| node.track.phase == Phase::Done);
        let lengths = done.filter_map(|node| Some(node.track.since.since(node.began_at?)));
        lengths.max().unwrap_or(self.plan.policy.node_length)
    }

    /// When another attempt of a node's operation may be made by itself: it has not succeeded, its
    /// traces say that it has done nothing, and the budget is not spent. Evidence must still say
    /// the same.
    pub fn resubmission(&self, node: &Node) -> Option<Timestamp> {
        let operation = node.operation()?;
        let Progress::Ended { outcome, .. } = &operation.progress else { return None };
        let Phase::Asking { gate, .. } = &node.track.phase else { return None };
        let nothing = matches!(operation.extent, Extent::NotStarted | Extent::NotReset);
        let looks = *gate == operation.intent.kind.verified_by();
        let wait = self.plan.policy.resubmit_after.get(node.resubmitted as usize)?;
        (nothing && looks && *outcome != Outcome::Succeeded).then(|| node.track.since + *wait)
    }

    /// The node that the cluster's operations are for now: one of its own runs, or is about to, or is
    /// looked at. There is only one at a time (invariant 23).
    pub fn operating(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| match &node.track.phase {
            Phase::Asking { gate, .. } => gate.is_about_operations(),
            phase => *phase == Phase::Operating,
        })
    }

    /// Nodes whose pods go before those of this one do, or with them: they need room, too.
    pub fn leaving_before<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = &'a Node> {
        let place = self.nodes.iter().position(|other| other.planned.name == *node);
        let leaves = move |(index, other): &(usize, &Node)| {
            let begins = Some(Step::first_of_node()) == other.track.phase.step();
            let before = Some(*index) < place || (!begins && Some(*index) != place);
            before && other.is_active() && !other.is_out() && !other.is_given_up()
        };
        self.nodes.iter().enumerate().filter(leaves).map(|(_, other)| other)
    }

    /// Nodes between the point of no return and their completion.
    pub fn out(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_out())
    }

    /// Whether its plan is whole. If not, a crash has cut its start: nobody was told that it had
    /// begun, nothing of it may be, and another start takes its place.
    pub fn is_whole(&self) -> bool {
        self.nodes.len() >= self.planned as usize
    }

    /// Whether everything is over.
    pub fn is_finished(&self) -> bool {
        self.track.phase.is_over()
    }
}
