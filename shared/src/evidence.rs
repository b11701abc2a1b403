//! What was observed, by whom and when. Never what it means.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Generation, NodeName, Round},
    text::{SEEN_BYTES_MAX, bounded},
    time::Timestamp,
};

/// One observation: the answer of one source to one check of one round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The round that asked. Answers to another round count for nothing.
    pub round: Round,
    /// What was looked at.
    pub check: Check,
    /// Who looked.
    pub source: Source,
    /// What was seen.
    pub verdict: Verdict,
    /// The earliest moment at which it can have been seen, by the coordinator's clock: when the
    /// question was sent. So a slow answer is never taken for a fresh one, whatever its own clock.
    pub observed_at: Timestamp,
    /// The installation that answered, for answers of agents.
    pub generation: Option<Generation>,
}

/// What was seen, in words an operator understands. Silence, a timeout, a refused connection and
/// an unreadable answer are `Unknown`, and `Unknown` never passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The statement of the check is true.
    Pass(String),
    /// The statement of the check is false.
    Fail(String),
    /// Nobody can say.
    Unknown(String),
}

impl Verdict {
    /// The statement is true; `seen` is bounded to one line.
    pub fn pass(seen: impl AsRef<str>) -> Self {
        Self::Pass(bounded(seen.as_ref(), SEEN_BYTES_MAX))
    }

    /// The statement is false; `seen` is bounded to one line.
    pub fn fail(seen: impl AsRef<str>) -> Self {
        Self::Fail(bounded(seen.as_ref(), SEEN_BYTES_MAX))
    }

    /// Nobody can say; `why` is bounded to one line.
    pub fn unknown(why: impl AsRef<str>) -> Self {
        Self::Unknown(bounded(why.as_ref(), SEEN_BYTES_MAX))
    }

    /// Passes if `holds`, else fails.
    pub fn when(holds: bool, seen: impl AsRef<str>) -> Self {
        if holds { Self::pass(seen) } else { Self::fail(seen) }
    }

    /// What was seen, or why nothing could be.
    pub fn seen(&self) -> &str {
        match self {
            Self::Pass(seen) | Self::Fail(seen) | Self::Unknown(seen) => seen,
        }
    }

    /// `pass`, `fail` or `unknown`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Fail(_) => "fail",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// Who looked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Source {
    /// The agent on a host.
    Agent(NodeName),
    /// One API server of the workload cluster, by its own address (`host:port`).
    ApiServer(String),
    /// The API of the management cluster.
    Management,
    /// The coordinator's own records: its log and its store of snapshots.
    Coordinator,
    /// The agents of all control planes that are to be there, compared with one another.
    ControlPlanes,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(node) => write!(f, "agent {node}"),
            Self::ApiServer(address) => write!(f, "API server {address}"),
            Self::Management => f.write_str("management API"),
            Self::Coordinator => f.write_str("coordinator"),
            Self::ControlPlanes => f.write_str("control planes"),
        }
    }
}

/// The kind of source that can answer a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// The agent on the node itself.
    Agent,
    /// Every API server of the workload cluster, each by its own address.
    ApiServers,
    /// The API of the management cluster.
    Management,
    /// The coordinator's own records.
    Coordinator,
    /// The agents of all control planes that are to be there, compared with one another: one that is
    /// silent leaves it unknown.
    ControlPlanes,
    /// The API server on the node itself, by its own address.
    OwnApiServer,
}

/// A statement about the world that can be true. Its number in the failure catalogue of the domain
/// reference stands behind it.
///
/// Variants are stored in the log by name: never rename one, never give a name a new meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Check {
    // -- the cluster, from the management side
    /// The management cluster is not the workload cluster (F79).
    ManagementSeparate,
    /// The kubeconfig works and does not point at a node that will be removed (F61).
    KubeconfigUsable,
    /// The spray-job image and the Kubernetes version are pinned and equal the running ones (F75).
    VersionsPinned,
    /// The spray-job image manages both operating systems.
    ImageManagesSystems,
    /// The inventory is understood, names the nodes literally and holds no passwords (F15, F67).
    InventoryUnderstood,
    /// No other operation of this cluster is running or waiting (F68).
    NoForeignOperation,
    /// The operation's own inventory and vars are stored as planned, without out nodes (F66, F74).
    InputsStored,
    /// Objects needed for a recovery are exported.
    ObjectsExported,
    /// No object that rehull made for operations is left behind.
    InputsRemoved,
    // -- the cluster, from its API servers
    /// Every node that is not declared out is Ready.
    NodesReady,
    /// The API server's answers are fresh: it shows that kubelets renew their leases.
    AnswersFresh,
    /// Every node runs the recorded kubelet version (F42).
    KubeletVersionsEqual,
    /// DaemonSets and Deployments of the system namespaces are complete (F23, F25, F29).
    SystemPodsReady,
    /// No new pod has been pending for longer than allowed (F20).
    NoNewPending,
    /// The other nodes have room for the pods of this one (F20).
    CapacityElsewhere,
    /// Every disruption budget allows one more disruption for the pods of this node (F10).
    DisruptionsAllowed,
    /// Nothing on the node is lost with its disk (F12, F19, F23, F27).
    DataElsewhere,
    /// Every node of the cluster that was planned is on the target OS.
    NodesOnTarget,
    /// The pods of the join canary could be made, if one is planned.
    JoinCanaryPossible,
    // -- the node, from the API servers
    /// The Node object is recorded with its identity and metadata (F24).
    NodeRecorded,
    /// The node is cordoned.
    NodeCordoned,
    /// Only pods of DaemonSets and static pods are left on the node (F10-F12).
    NodeDrained,
    /// No VolumeAttachment names the node (F9).
    VolumesDetached,
    /// The Node object is absent, and stays absent (F1, F2, F50).
    NodeAbsent,
    /// The lease of the kubelet is absent or no longer renewed (F2, F3).
    LeaseStopped,
    /// No pod is bound to the node.
    NoPodsBound,
    /// The Node object is a new one, made after the operation began.
    NodeNew,
    /// The new Node takes no pods before it carries what the old one did (F24).
    NodeHeldBack,
    /// The node is Ready, and stays Ready (F49).
    NodeReady,
    /// The Node object shows the target OS (F32).
    NodeOsIsTarget,
    /// The Node object shows the recorded kubelet version (F42).
    KubeletVersionKept,
    /// The Node object shows the inventory's address (F45).
    NodeAddressKept,
    /// The Node object and the agent name the same boot and machine (F78).
    NodeIsHost,
    /// The pods of DaemonSets on the node are Ready (F49).
    DaemonPodsReady,
    /// No pod on the node fails again and again whose like did not fail before it was touched.
    NoNewFailures,
    /// No certificate request of the node is pending (F60).
    NoPendingRequests,
    /// A pod on the node and one elsewhere fetch from one another, by DNS name through a Service (F49).
    JoinCanaryServes,
    /// The pods of the join canary are gone again.
    JoinCanaryRemoved,
    /// Labels, annotations and taints are as recorded, but for what the system owns (F24).
    MetadataRestored,
    /// The node is schedulable exactly if it was so before.
    SchedulableAsBefore,
    // -- the host, from its agent
    /// The host is the one of the inventory: name and address (F30, F31).
    HostIsNode,
    /// The host runs the source OS.
    OsIsSource,
    /// Facts of the host are recorded.
    HostRecorded,
    /// No certificate of the node expires soon (F59).
    CertificatesValid,
    /// The clock of the host is right (F39).
    ClockInSync,
    /// The host's package manager answers and nobody holds its lock (F40, F80).
    PackagesUsable,
    /// The package repositories of the host, or those that it will have, answer (F40).
    RepositoriesServe,
    /// Those of every host that still runs the source OS do (F80).
    OldRepositoriesServe,
    /// No kubelet is running (F2, F3).
    KubeletStopped,
    /// No container, runtime or control-plane process is left (F4).
    NoLeftovers,
    /// The ports of Kubernetes are free (F4, F51).
    PortsFree,
    /// The directories of Kubernetes are gone (F17, F53).
    NodeFilesGone,
    /// The agent of the old installation has said farewell.
    FarewellSaid,
    /// Whoever accepted the loss of data on the node still does (F19).
    ApprovalsHold,
    /// The host runs the target OS (F32).
    OsIsTarget,
    /// The installation is new: other boot id and machine id than before (F33, F34).
    InstallationNew,
    /// The host has the recorded addresses and network cards (F30).
    AddressesKept,
    /// The host has the recorded hardware identity (F34).
    HardwareKept,
    /// Swap is off (F38).
    SwapOff,
    /// No firewall of the distribution is active (F37).
    FirewallOff,
    /// Enough disk space and inodes are free (F43).
    DiskFree,
    /// The resolver is usable by pods (F44).
    ResolverUsable,
    // -- control planes, from their agents together
    /// Every member of etcd is well, and they are exactly those of the control planes that are to be
    /// there (F5, F6, F54).
    EtcdHealthy,
    /// The cluster bears it that the member of this node goes: all voters are well, and enough of them.
    QuorumKept,
    /// Another member leads etcd.
    LeaderElsewhere,
    /// The address that stands before the API servers, if it moves between hosts, is not on this one.
    EndpointNotHere,
    /// No member of etcd has the node's address (F5, F7).
    MemberAbsent,
    /// Certificate authorities and etcd are those that were recorded, on every control plane (F52, F53).
    IdentityKept,
    /// Every API server asks a member of etcd that is there (F55).
    EtcdServersRight,
    /// No certificate of any control plane that is to be there expires soon (F59).
    ControlPlaneCertificatesValid,
    /// Etcd on the host was started to join what is there: it would never make a new cluster.
    EtcdJoinsOnly,
    // -- control planes, from API servers
    /// What joins, and what is upgraded, is sent to an API server that stays (F56, F57).
    EndpointsElsewhere,
    /// What those read who join is signed with a fresh token (F57).
    InfoSigned,
    /// The API server on the node is ready.
    ApiServerServes,
    /// The API server on the node has the recorded version (F42).
    ApiServerVersionKept,
    /// The Service `kubernetes` leads to the API servers that are to be there, and to no others.
    ApiServersListed,
    /// The pods of the node's control plane are Ready.
    ControlPlanePodsReady,
    /// No other node is cordoned that was not when this one was recorded: upgrades cordon, and may leave
    /// it so.
    OthersSchedulable,
    // -- control planes, from elsewhere
    /// The proxies of workers lead to all control planes, and to nobody else (F28).
    ProxiesLeadToAll,
    /// No process of an API server is left on the host, and its port is free.
    ApiServerStopped,
    /// The kubeconfig that Kubean keeps does not point at the node.
    KubeconfigElsewhere,
    /// The node comes last of the control planes in the inventory of the Cluster (F62).
    InventoryReordered,
    /// A backup of the cluster's etcd and keys was taken a short while ago, and is stored whole.
    BackupFresh,
    /// What tells this cluster from any other is recorded.
    IdentityRecorded,
    /// All other control planes run the target OS.
    OtherControlPlanesDone,
    /// A person has made an etcd of a backup of this cluster, and looked at what it holds.
    BackupProved,
    /// A person has approved that the first control plane goes, and has typed its name for it.
    FirstControlPlaneApproved,
    // -- the site
    /// The site's hook has said that the cluster may be changed: its deletion protection is off.
    ProtectionOff,
    /// The site's hook has said that the deletion protection of the cluster is on again.
    ProtectionOn,
    // -- control planes, from the plan
    /// The playbooks of the image find the member of etcd of each control plane, and of no other (F7).
    MembersDistinct,
    // -- control planes, while one of them is away
    /// No API server of the host renews its lease any more (F5).
    ApiServerLeaseStopped,
    /// The API servers that are to serve have answered all the while (F14).
    ApiServersSteady,
    // -- control planes, before one of them goes
    /// Etcd has elected no leader for a while: one whose members lose each other now and then is none
    /// to take a member from.
    LeaderSteady,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
