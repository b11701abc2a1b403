//! The state of the fleet: a fold of its events, and nothing that is not in them.

use std::{collections::BTreeMap, sync::Arc};

use rehull_shared::{
    evidence::Check,
    ids::{Attempt, ClusterName, Epoch, Generation, NodeName, Round},
    time::{Span, Timestamp},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    gate::{Asked, Bench, Blocker, Dossier, Gate},
    plan::{Plan, PlannedNode},
};

mod evolve;
pub use evolve::Corrupt;

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
}

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
    /// The generation whose agent has said farewell.
    pub farewell: Option<Generation>,
    /// Whether its reinstall was authorised: the data on its host is given up, and with it the way
    /// back.
    pub given_away: bool,
    /// The generation whose OS was verified (gate `Os`); another one must be verified first.
    pub verified: Option<Generation>,
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

/// The operations of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `remove-node.yml`.
    Remove,
    /// `scale.yml`.
    Join,
    /// `scale.yml` for a host that has not been reinstalled.
    Rejoin,
}

/// How far a reinstall is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reinstall {
    /// Who or what has said that the new system is installed; never a proof.
    pub announced_by: Option<String>,
    /// What the installer last said: percent and words.
    pub progress: Option<(u8, String)>,
}

/// One `ClusterOperation` that rehull creates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What was intended, before it was created.
    pub intent: OperationIntent,
    /// How far it is.
    pub progress: Progress,
    /// Whether everything that can be kept of it is in our log.
    pub archived: bool,
    /// How far it got, as its traces tell.
    pub extent: Extent,
    /// Whether evidence has proved what it did not say itself.
    pub accepted: bool,
}

/// What is fixed before an operation is created, so that it can be found again by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationIntent {
    /// Name of the object: unique for cluster, node, kind and attempt; at most 52 characters.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// In which attempt.
    pub attempt: Attempt,
    /// The stored inputs that it names.
    pub inputs: Inputs,
}

/// The immutable copies of inventory and vars that one operation names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// ConfigMap with `hosts.yml`.
    pub inventory: String,
    /// SHA-256 of its text.
    pub inventory_sha256: String,
    /// ConfigMap with `group_vars.yml`.
    pub vars: String,
    /// SHA-256 of its text.
    pub vars_sha256: String,
    /// Secret with the ssh key that the Cluster names, if any.
    pub ssh_secret: Option<String>,
    /// Hosts that were left out because they are out.
    pub left_out: Vec<NodeName>,
}

/// How far an operation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Intended, perhaps created: the world must be asked by name.
    Intended,
    /// Created.
    Submitted {
        /// Its UID.
        uid: String,
        /// Other operations that were running: the operator starts ours later.
        others: u32,
    },
    /// It did not start in time and is being deleted.
    Withdrawing {
        /// Its UID, if it was ever seen.
        uid: Option<String>,
    },
    /// A pod of it has started: proved by the actor annotation, not by its status.
    Started {
        /// Its UID.
        uid: String,
        /// The pod.
        pod: String,
    },
    /// It is over, or nobody knows: the next step is a look in any case.
    Ended {
        /// Its UID, if it was ever seen.
        uid: Option<String>,
        /// What it said.
        outcome: Outcome,
    },
}

/// What an operation says of itself: a hint, never a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Every playbook exited with 0.
    Succeeded,
    /// Some playbook did not, or a hook after all was done, or it could not begin.
    Failed,
    /// It is gone, stuck, contradictory or late.
    Unknown,
}

/// How far an operation that is over got, as its traces tell: a hint, never a proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// They do not tell.
    #[default]
    Unknown,
    /// Nothing of it has ever run.
    NotStarted,
    /// It ended before the play that resets the host.
    NotReset,
    /// It came to the play that resets the host, or past it.
    Reset,
}

/// What was done about processes that outlived a removal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Leftovers {
    /// Nothing.
    #[default]
    Untouched,
    /// The agent is to kill them.
    Ordered {
        /// The order's identity; repeating it does nothing.
        order: String,
        /// What to kill.
        processes: Vec<Process>,
    },
    /// The agent has answered.
    Answered,
}

/// What was done about a Node object that outlived its removal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Deletion {
    /// Nothing.
    #[default]
    Untouched,
    /// It will be deleted as soon as its host is proved to be clean.
    Wanted {
        /// Who wants it.
        by: String,
    },
    /// It is to be deleted.
    Ordered {
        /// Exactly this object.
        uid: String,
    },
    /// The API server has answered.
    Answered,
}

/// One process of a host, named so that another one with its pid is never taken for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot (`/proc/<pid>/stat`, field 22).
    pub start_ticks: u64,
    /// Name (`comm`), at most 15 characters.
    pub comm: String,
    /// Path of its program; empty if unreadable.
    pub exe: String,
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

/// What a node was before it was touched: the part that the rules need. The whole is kept in the
/// store of snapshots under its content hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// UID of the Node object.
    pub node_uid: String,
    /// Whether it was cordoned before.
    pub unschedulable: bool,
    /// Hash of the stored Kubernetes objects.
    pub objects_sha256: String,
    /// Hash of the stored facts of the host.
    pub host_sha256: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// `/sys/class/dmi/id/product_uuid`; empty if the machine has none.
    pub product_uuid: String,
    /// Hardware addresses of the network cards that carry the node's addresses.
    pub macs: Vec<String>,
}

/// A host and its agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The latest enrolment; 0 before the first.
    pub generation: Generation,
    /// Whether a person has revoked that enrolment: nothing of it counts any more.
    pub revoked: bool,
    /// The one token that is open.
    pub token: Option<Token>,
    /// Who enrolled last.
    pub identity: Option<HostIdentity>,
}

/// An invitation to enrol: only its hash is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// SHA-256 of the secret.
    pub sha256: String,
    /// Not valid from here on.
    pub expires: Timestamp,
}

/// What an enrolling host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostIdentity {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `/sys/class/dmi/id/product_uuid`; empty if the machine has none.
    pub product_uuid: String,
    /// `ID` and `VERSION_ID` of `/etc/os-release`.
    pub os: (String, String),
}

/// Whom an event or a round is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// The cluster itself.
    Cluster,
    /// One of its nodes.
    Node(NodeName),
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
    /// What comes after it.
    pub const fn next(self) -> Step {
        match self {
            Gate::ClusterPreflight => Step::Ask(Gate::Backup),
            Gate::Backup => Step::Work,
            Gate::Preflight => Step::Ask(Gate::Snapshot),
            Gate::Snapshot => Step::Ask(Gate::Cordon),
            Gate::Cordon => Step::Ask(Gate::Drain),
            Gate::Drain => Step::Ask(Gate::RemoveAdmission),
            Gate::RemoveAdmission => Step::Submit(Kind::Remove),
            Gate::Removal => Step::Ask(Gate::Reinstall),
            Gate::Reinstall => Step::Reinstall,
            Gate::Os => Step::Ask(Gate::JoinAdmission),
            Gate::JoinAdmission => Step::Submit(Kind::Join),
            Gate::RejoinAdmission => Step::Submit(Kind::Rejoin),
            Gate::Join | Gate::Rejoin => Step::Ask(Gate::Metadata),
            Gate::Metadata => Step::Ask(Gate::Soak),
            Gate::Soak | Gate::Finalize | Gate::Abort | Gate::ClusterAbort => Step::Finish,
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
            Step::Ask(Gate::Join) if resubmit => Step::Ask(Kind::Join.admitted_by()),
            Step::Ask(Gate::Rejoin) if resubmit => Step::Ask(Kind::Rejoin.admitted_by()),
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
                    | Gate::Metadata
                    | Gate::Soak
                    | Gate::Abort
                    | Gate::ClusterAbort
                    | Gate::Rejoin
            ),
            Step::Submit(_) | Step::Reinstall | Step::Work | Step::Finish => true,
        }
    }

    /// The gate that admits a step from which there is no way back: it must have been passed just
    /// now.
    pub const fn admitted_by(self) -> Option<Gate> {
        match self {
            Step::Submit(kind) => Some(kind.admitted_by()),
            Step::Reinstall => Some(Gate::Reinstall),
            Step::Ask(_) | Step::Work | Step::Finish => None,
        }
    }
}

impl Phase {
    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        matches!(self, Phase::Done | Phase::Aborted)
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

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Remove, Kind::Join, Kind::Rejoin];

    /// The gate that looks at what it did.
    pub const fn verified_by(self) -> Gate {
        match self {
            Kind::Remove => Gate::Removal,
            Kind::Join => Gate::Join,
            Kind::Rejoin => Gate::Rejoin,
        }
    }

    /// The gate before it.
    pub const fn admitted_by(self) -> Gate {
        match self {
            Kind::Remove => Gate::RemoveAdmission,
            Kind::Join => Gate::JoinAdmission,
            Kind::Rejoin => Gate::RejoinAdmission,
        }
    }

    /// What everybody contradicts when it has done nothing at all. Of a removal: the Node is there,
    /// its kubelet runs and renews its lease, and its files are there.
    pub const fn done_by_nobody(self) -> &'static [Check] {
        match self {
            Kind::Remove => &[
                Check::NodeAbsent,
                Check::LeaseStopped,
                Check::KubeletStopped,
                Check::NodeFilesGone,
            ],
            Kind::Join | Kind::Rejoin => &[Check::NodeNew, Check::NodeReady],
        }
    }

    /// The word in names of objects.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Remove => "rm",
            Kind::Join => "add",
            Kind::Rejoin => "back",
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

    /// The bench that judges a subject.
    pub fn bench<'a>(&'a self, subject: &'a Subject) -> Bench<'a> {
        let node = match subject {
            Subject::Cluster => None,
            Subject::Node(name) => Some(name),
        };
        let canary = node.and_then(|name| self.node(name)).is_some_and(|node| self.is_canary(node));
        Bench { plan: &self.plan, node, canary }
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

    /// Whether no gate of any node was ever asked.
    pub fn is_untouched(&self) -> bool {
        self.nodes.iter().all(|node| node.track.round == Round::default())
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
        let places = [Step::Ask(Gate::Removal), Step::Ask(Gate::Reinstall), Step::Reinstall];
        let between = self.track.phase.step().is_some_and(|step| places.contains(&step));
        rests && between && !self.given_away
    }

    /// Whether it has begun and has not finished.
    pub fn is_active(&self) -> bool {
        self.track.phase != Phase::Planned && !self.track.phase.is_over()
    }

    /// Whether it goes back to what it was, or has.
    pub fn is_given_up(&self) -> bool {
        match self.track.phase.step() {
            Some(Step::Ask(Gate::Abort)) => true,
            Some(Step::Finish) => self.operations.is_empty(),
            _ => self.track.phase == Phase::Aborted,
        }
    }

    /// Whether it is between the point of no return, its first submitted removal, and its end.
    pub fn is_out(&self) -> bool {
        !self.operations.is_empty() && !self.track.phase.is_over()
    }

    /// Whether the cluster must do without it: it is out, and not yet proved to be back (gate
    /// `Join`). Operations for other nodes leave it out of their inventory.
    pub fn is_absent(&self) -> bool {
        let back = [Step::Ask(Gate::Metadata), Step::Ask(Gate::Soak), Step::Finish];
        let is_back = self.track.phase.step().is_some_and(|step| back.contains(&step));
        self.is_out() && !is_back
    }
}

impl Operation {
    /// Its UID, once it was seen.
    pub fn uid(&self) -> Option<&str> {
        match &self.progress {
            Progress::Intended => None,
            Progress::Submitted { uid, .. } | Progress::Started { uid, .. } => Some(uid),
            Progress::Withdrawing { uid } | Progress::Ended { uid, .. } => uid.as_deref(),
        }
    }
}

/// How much later an operation may start for each other one that is running: the operator works
/// through about five requests a second for all of them (`kubean-observed.md` 4).
pub const START_DELAY_PER_OPERATION: Span = Span::from_secs(5);
