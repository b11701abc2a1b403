//! What a preflight found, one by one, each with the object that it is about.

use std::{collections::BTreeMap, fmt};

use rehull_shared::evidence::Check;

/// The object that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Kind.
    pub kind: String,
    /// Namespace; empty if it has none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID; empty where only the name is known.
    pub uid: String,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub about: Object,
    /// What was found.
    pub what: What,
}

/// What can be found. Numbers in brackets are those of the failure catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// No other node takes the pod (F20).
    DoesNotFit {
        /// Why each node refuses it.
        refusals: Refusals,
        /// Whether it would fit if pods of lower priority were made to go.
        preempting: bool,
    },
    /// Whether a node is left for the pod depends on the order in which pods are placed, and on
    /// which of several nodes each of them gets (F20).
    MayNotFit {
        /// Why each node refuses it, where it was left over.
        refusals: Refusals,
        /// In how many ways of placing them the pod was left over.
        failed: usize,
        /// How many ways were tried.
        tried: usize,
    },
    /// A new pod like this one would not be scheduled, or not even made, whatever node is free
    /// (F20).
    CannotRestart {
        /// Why not.
        why: String,
    },
    /// Something else than the default scheduler's filters decides where the pod goes (F20).
    Unforeseeable {
        /// What.
        why: String,
    },
    /// The pod may run on this node only (F22).
    Pinned {
        /// What pins it.
        by: String,
    },
    /// The pod bears the taint of a cordoned node: it may be put back as soon as it is evicted.
    MayComeBack,
    /// A disruption budget is against the eviction of the pod (F10).
    NoDisruption {
        /// `namespace/name` of the budget.
        budget: String,
        /// Why.
        why: Refusal,
    },
    /// More than one budget guards the pod: the Eviction API refuses that (F10).
    ManyBudgets {
        /// `namespace/name` of each.
        budgets: Vec<String>,
    },
    /// Nobody would make the pod anew (F12).
    Bare,
    /// A workload with one pod, which is here: it is away while the pod moves (F21).
    SingleReplica {
        /// Priority class, where it is one of the system's (F26).
        critical: Option<String>,
    },
    /// Every pod of a workload is here (F21).
    AllReplicasHere {
        /// How many.
        pods: usize,
    },
    /// A pod with a priority of the system's, of which there are others elsewhere (F26).
    Critical {
        /// Its priority class.
        class: String,
    },
    /// Too few pods answer DNS (F25).
    DnsAtRisk {
        /// Ready ones in the cluster.
        ready: usize,
        /// Ready ones on other nodes.
        elsewhere: usize,
    },
    /// All Ready pods that answer DNS are on one other node (F25).
    DnsOnOneNode {
        /// That node.
        node: String,
    },
    /// Data of the pod in a directory of the host, which the reinstall wipes (F19).
    HostPath {
        /// The directory or file.
        path: String,
        /// Whether the pod only reads it, or it is a socket or device.
        only_reads: bool,
    },
    /// Data that ends with the pod (F12, F19).
    EmptyDir {
        /// Names of the volumes.
        volumes: Vec<String>,
    },
    /// A volume on the disk of the host, which the reinstall wipes (F19).
    LocalVolume {
        /// `namespace/name` of the claim that it is bound to.
        claim: Option<String>,
    },
    /// A part of a storage system, which may hold data on the host (F23).
    StorageDaemon {
        /// Of which.
        of: &'static str,
    },
    /// A pod of a manifest on the host that is not one of Kubernetes' own (F27).
    StaticPod,
}

/// What a finding does to a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Nobody can accept it: something must change.
    Blocks,
    /// It blocks until a person accepts it.
    Acceptable,
    /// It is only shown.
    Shown,
}

/// Why a budget refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It would refuse even if all pods were healthy.
    Never(Healthy),
    /// Too few pods are healthy now.
    Now(Healthy),
    /// Its controller has not looked at it, or at its newest version.
    Unprocessed,
}

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Healthy {
    /// Pods that are healthy.
    pub current: i32,
    /// Pods that must be.
    pub desired: i32,
}

/// Why nodes refuse a pod, as the scheduler counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// All nodes.
    pub nodes: usize,
    /// Nodes by reason, in the scheduler's words; a node can have several.
    pub reasons: BTreeMap<String, usize>,
}

impl Finding {
    /// What it does to a migration: `domain.md` 4 and 5.3, G1.
    pub fn weight(&self) -> Weight {
        match &self.what {
            What::DoesNotFit { .. }
            | What::MayNotFit { .. }
            | What::CannotRestart { .. }
            | What::NoDisruption { .. }
            | What::ManyBudgets { .. }
            | What::DnsAtRisk { .. } => Weight::Blocks,
            _ if self.acceptable().is_some() => Weight::Acceptable,
            // Whoever runs one pod of a workload knows that it is away while it moves.
            _ => Weight::Shown,
        }
    }

    /// What a person would accept with it, so that nothing else can take its place; `None` if
    /// nobody can accept it, or needs to.
    pub fn acceptable(&self) -> Option<String> {
        let Object { kind, namespace, name, uid } = &self.about;
        let uid = if uid.is_empty() { format!("{namespace}/{name}") } else { uid.clone() };
        let word = match &self.what {
            What::HostPath { path, only_reads: false } => {
                return Some(format!("hostPath {path} of {namespace}"));
            }
            What::Unforeseeable { .. } => "unforeseeable",
            What::Pinned { .. } => "pinned",
            What::Bare => "bare",
            What::LocalVolume { .. } => "local",
            What::StorageDaemon { .. } => "storage",
            What::StaticPod => "static",
            What::DoesNotFit { .. }
            | What::MayNotFit { .. }
            | What::CannotRestart { .. }
            | What::NoDisruption { .. }
            | What::ManyBudgets { .. }
            | What::DnsAtRisk { .. }
            | What::MayComeBack
            | What::SingleReplica { .. }
            | What::AllReplicasHere { .. }
            | What::Critical { .. }
            | What::DnsOnOneNode { .. }
            | What::HostPath { only_reads: true, .. }
            | What::EmptyDir { .. } => return None,
        };
        Some(format!("{kind} {uid} {word}"))
    }

    /// The check that it belongs to.
    pub fn check(&self) -> Check {
        match &self.what {
            What::DoesNotFit { .. }
            | What::MayNotFit { .. }
            | What::CannotRestart { .. }
            | What::Unforeseeable { .. }
            | What::Pinned { .. }
            | What::MayComeBack => Check::CapacityElsewhere,
            What::NoDisruption { .. }
            | What::ManyBudgets { .. }
            | What::Bare
            | What::SingleReplica { .. }
            | What::AllReplicasHere { .. }
            | What::Critical { .. }
            | What::DnsAtRisk { .. }
            | What::DnsOnOneNode { .. } => Check::DisruptionsAllowed,
            What::HostPath { .. }
            | What::EmptyDir { .. }
            | What::LocalVolume { .. }
            | What::StorageDaemon { .. }
            | What::StaticPod => Check::DataElsewhere,
        }
    }
}

impl Weight {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Acceptable => "needs approval",
            Self::Shown => "shown",
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = (&self.kind, &self.name);
        match (kind.as_str(), self.namespace.as_str()) {
            ("Pod", namespace) => write!(f, "{namespace}/{name}"),
            (_, "") => write!(f, "{kind} {name}"),
            (_, namespace) => write!(f, "{kind} {namespace}/{name}"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about, self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DoesNotFit { refusals, preempting: false } => {
                write!(f, "fits on no other node: {refusals}")
            }
            Self::DoesNotFit { refusals, preempting: true } => {
                let but = "it would have to preempt pods of lower priority";
                write!(f, "fits on no other node: {refusals}; {but}")
            }
            Self::MayNotFit { refusals, failed, tried } => {
                let how = "as the pods of the node may be placed";
                write!(f, "may fit on no other node, {how} ({failed} of {tried} ways): {refusals}")
            }
            Self::CannotRestart { why } => write!(f, "would not start again: {why}"),
            Self::Unforeseeable { why } => write!(f, "nobody can say where it would go: {why}"),
            Self::Pinned { by } => write!(f, "may run on this node only: {by}"),
            Self::MayComeBack => f.write_str("tolerates a cordoned node, and may come back to it"),
            Self::NoDisruption { budget, why } => write!(f, "blocked by PDB {budget} ({why})"),
            Self::ManyBudgets { budgets } => write!(
                f,
                "has more than one PodDisruptionBudget ({}), so the Eviction API refuses",
                budgets.join(", ")
            ),
            Self::Bare => f.write_str("no controller would make it anew"),
            Self::SingleReplica { critical: None } => {
                f.write_str("its only pod is here: away while it moves")
            }
            Self::SingleReplica { critical: Some(class) } => {
                write!(f, "its only pod is here ({class}): away while it moves")
            }
            Self::AllReplicasHere { pods } => write!(f, "all of its {pods} pods are here"),
            Self::Critical { class } => write!(f, "is {class}"),
            Self::DnsAtRisk { ready, elsewhere } => write!(
                f,
                "{ready} Ready pods answer DNS, {elsewhere} of them elsewhere; \
                 two must, and one elsewhere"
            ),
            Self::DnsOnOneNode { node } => {
                write!(f, "every Ready pod that answers DNS is on {node}")
            }
            Self::HostPath { path, only_reads: false } => {
                write!(f, "may keep data in {path} of the host")
            }
            Self::HostPath { path, only_reads: true } => write!(f, "reads {path} of the host"),
            Self::EmptyDir { volumes } => {
                write!(f, "loses its emptyDir: {}", volumes.join(", "))
            }
            Self::LocalVolume { claim: Some(claim) } => {
                write!(f, "the data of claim {claim} is on the disk of the host")
            }
            Self::LocalVolume { claim: None } => f.write_str("is on the disk of the host"),
            Self::StorageDaemon { of } => write!(f, "is a part of {of}, and may hold data here"),
            Self::StaticPod => f.write_str("is made from a file on the host"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never(healthy) => write!(f, "{healthy}, which is all of them"),
            Self::Now(healthy) => healthy.fmt(f),
            Self::Unprocessed => f.write_str("it has no status yet"),
        }
    }
}

impl fmt::Display for Healthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} needed pods are healthy", self.current, self.desired)
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The scheduler sorts the lines that it has made.
        let mut lines: Vec<String> =
            self.reasons.iter().map(|(reason, nodes)| format!("{nodes} {reason}")).collect();
        lines.sort();
        write!(f, "0/{} nodes are available: {}", self.nodes, lines.join(", "))
    }
}
