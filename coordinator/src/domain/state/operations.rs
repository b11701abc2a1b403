//! Operations of a node, what they said, and what they left behind.

use rehull_shared::{
    evidence::Check,
    ids::{Attempt, NodeName},
    time::Span,
};
use serde::{Deserialize, Serialize};

use crate::domain::{gate::Gate, plan::Role};

/// The operations of a node. Those of a control plane run `cluster.yml` where those of a worker run
/// `scale.yml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `remove-node.yml`.
    Remove,
    /// `scale.yml`.
    Join,
    /// `scale.yml` for a host that has not been reinstalled.
    Rejoin,
    /// `kubeconfig.yml`, by which Kubean asks another control plane than the first from then on.
    Kubeconfig,
    /// `upgrade-cluster.yml` with the first control plane put last in its inventory.
    Reorder,
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

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] =
        [Kind::Remove, Kind::Join, Kind::Rejoin, Kind::Kubeconfig, Kind::Reorder];

    /// The gate that looks at what it did.
    pub const fn verified_by(self) -> Gate {
        match self {
            Kind::Remove => Gate::Removal,
            Kind::Join => Gate::Join,
            Kind::Rejoin => Gate::Rejoin,
            Kind::Kubeconfig => Gate::Kubeconfig,
            Kind::Reorder => Gate::Reordered,
        }
    }

    /// The gate before it.
    pub const fn admitted_by(self) -> Gate {
        match self {
            Kind::Remove => Gate::RemoveAdmission,
            Kind::Join => Gate::JoinAdmission,
            Kind::Rejoin => Gate::RejoinAdmission,
            Kind::Kubeconfig => Gate::KubeconfigAdmission,
            Kind::Reorder => Gate::ReorderAdmission,
        }
    }

    /// What everybody contradicts when it has done nothing at all. Of a removal: the Node is there,
    /// its kubelet runs and renews its lease, and its files are there. Empty if nobody could tell.
    /// The kubelet of a control plane renews no lease while its own API server is out of service; that its
    /// member of etcd is there says as much.
    pub const fn done_by_nobody(self, role: Role) -> &'static [Check] {
        match self {
            Kind::Remove if role.is_control_plane() => &[
                Check::NodeAbsent,
                Check::MemberAbsent,
                Check::KubeletStopped,
                Check::NodeFilesGone,
            ],
            Kind::Remove => &[
                Check::NodeAbsent,
                Check::LeaseStopped,
                Check::KubeletStopped,
                Check::NodeFilesGone,
            ],
            Kind::Join | Kind::Rejoin => &[Check::NodeNew, Check::NodeReady],
            Kind::Kubeconfig => &[Check::KubeconfigElsewhere],
            // It changes nothing that anybody could miss.
            Kind::Reorder => &[],
        }
    }

    /// The word in names of objects.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Remove => "rm",
            Kind::Join => "add",
            Kind::Rejoin => "back",
            Kind::Kubeconfig => "conf",
            Kind::Reorder => "order",
        }
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

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Outcome::Succeeded => "says Succeeded",
            Outcome::Failed => "says Failed",
            Outcome::Unknown => "unknown",
        })
    }
}

/// How much later an operation may start for each other one that is running: the operator works
/// through about five requests a second for all of them (`kubean-observed.md` 4).
pub const START_DELAY_PER_OPERATION: Span = Span::from_secs(5);
