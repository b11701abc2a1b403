//! The gates: one table, read by the judge, the collector, `explain` and the documentation.

use rehull_shared::{
    evidence::{Check, Witness},
    time::Span,
};
use serde::{Deserialize, Serialize};

use super::{plan::Role, policy::Policy};

mod control_planes;
mod judge;
pub use judge::{Asked, Bench, Blocker, Dossier, Proof, Seen};

/// A named set of needs. The order is the path of a worker; G numbers are the domain reference's.
///
/// Stored in the log by name: never rename one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Gate {
    /// The cluster may be touched at all.
    ClusterPreflight,
    /// What a recovery needs is exported.
    Backup,
    /// The site lets nodes of the cluster be removed; only where a plan asks for that.
    Unprotect,
    /// G1: this node may be touched.
    Preflight,
    /// G2: what the node was is recorded, off the node.
    Snapshot,
    /// The node takes no new pods.
    Cordon,
    /// G3: the node's pods are elsewhere.
    Drain,
    /// G4: the remove operation may be submitted. Behind it lies the point of no return.
    RemoveAdmission,
    /// G5: the node is gone from the cluster, and dead on its host.
    Removal,
    /// G6: the disk may be wiped.
    Reinstall,
    /// G7: the host is the same machine with the target OS, fit to join.
    Os,
    /// G8: the join operation may be submitted.
    JoinAdmission,
    /// G9: the node is back, and works.
    Join,
    /// Pods on the node reach the others and are reached; only where a plan asks for that.
    JoinCanary,
    /// G10: the node carries what it carried before.
    Metadata,
    /// G11: nothing got worse.
    Soak,
    /// The cluster is finished.
    Finalize,
    /// A node that was given up before the point of no return is as it was.
    Abort,
    /// Nothing is left behind of a migration that was given up.
    ClusterAbort,
    /// The site protects the cluster again; only where that was taken away.
    Protect,
    /// A removed node may be joined again with the system that it still has.
    RejoinAdmission,
    /// It is back with that system, and works.
    Rejoin,
    /// Kubean may be told to ask another control plane than the first; only for the first.
    KubeconfigAdmission,
    /// Kubean asks another one.
    Kubeconfig,
    /// The first control plane comes last in the inventory of the Cluster; only for the first.
    Reorder,
    /// The new order may be applied.
    ReorderAdmission,
    /// It is applied, and nothing but the order has changed.
    Reordered,
    /// The cluster bears it that a control plane goes: etcd, its clients and its backup; only for
    /// control planes.
    Quorum,
    /// The API server of a control plane is out of service, and no client has been cut off.
    Withdraw,
}

/// One row of the table: a statement, who must confirm it, how fresh, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub struct Need {
    /// The statement.
    pub check: Check,
    /// Who must confirm it. Every witness of the kind must; one that is silent blocks.
    pub witness: Witness,
    /// How old the newest confirmation may be when the gate is judged.
    pub age: Age,
    /// For how long it must have been confirmed without a break.
    pub window: Window,
}

/// How old an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// 30 s: for what others change at any moment.
    Brief,
    /// [`Policy::evidence_max_age`].
    Usual,
}

/// For how long a statement must have been true without a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// One look is enough.
    Once,
    /// [`Policy::absence_window`]: nothing proves an absence but time.
    Absence,
    /// [`Policy::lease_window`].
    Lease,
    /// [`Policy::ready_window`].
    Ready,
    /// [`Policy::soak`], or [`Policy::canary_soak`] for the canary and for control planes.
    Soak,
}

/// How long the join of a control plane may wait for its admission: etcd bears no loss meanwhile.
const FRAGILE_DEADLINE: Span = Span::from_mins(2);

const fn need(check: Check, witness: Witness, age: Age, window: Window) -> Need {
    Need { check, witness, age, window }
}

const fn once(check: Check, witness: Witness) -> Need {
    need(check, witness, Age::Usual, Window::Once)
}

const fn soaked(check: Check, witness: Witness) -> Need {
    need(check, witness, Age::Usual, Window::Soak)
}

impl Gate {
    /// Every gate, in the order of the path.
    pub const ALL: [Gate; 29] = [
        Gate::ClusterPreflight,
        Gate::Backup,
        Gate::Unprotect,
        Gate::Preflight,
        Gate::Snapshot,
        Gate::KubeconfigAdmission,
        Gate::Kubeconfig,
        Gate::Reorder,
        Gate::ReorderAdmission,
        Gate::Reordered,
        Gate::Cordon,
        Gate::Drain,
        Gate::Quorum,
        Gate::Withdraw,
        Gate::RemoveAdmission,
        Gate::Removal,
        Gate::Reinstall,
        Gate::Os,
        Gate::JoinAdmission,
        Gate::Join,
        Gate::JoinCanary,
        Gate::Metadata,
        Gate::Soak,
        Gate::Finalize,
        Gate::Abort,
        Gate::ClusterAbort,
        Gate::Protect,
        Gate::RejoinAdmission,
        Gate::Rejoin,
    ];

    /// What must hold, of any node or cluster. Facts and reasons: domain reference 5.3.
    pub const fn needs(self) -> &'static [Need] {
        use {Age::*, Check::*, Window::*, Witness::*};
        match self {
            Gate::ClusterPreflight => {
                const {
                    &[
                        once(ManagementSeparate, Management),
                        once(KubeconfigUsable, Management),
                        once(VersionsPinned, Management),
                        once(ImageManagesSystems, Coordinator),
                        once(InventoryUnderstood, Management),
                        need(NoForeignOperation, Management, Brief, Once),
                        once(NodesReady, ApiServers),
                        once(AnswersFresh, ApiServers),
                        once(KubeletVersionsEqual, ApiServers),
                        once(SystemPodsReady, ApiServers),
                        once(JoinCanaryPossible, ApiServers),
                    ]
                }
            }
            Gate::Backup => const { &[once(ObjectsExported, Coordinator)] },
            Gate::Unprotect => const { &[once(ProtectionOff, Coordinator)] },
            Gate::Protect => const { &[once(ProtectionOn, Coordinator)] },
            Gate::Preflight => {
                const {
                    &[
                        once(InventoryUnderstood, Management),
                        need(NoForeignOperation, Management, Brief, Once),
                        once(NodesReady, ApiServers),
                        once(AnswersFresh, ApiServers),
                        once(KubeletVersionsEqual, ApiServers),
                        once(SystemPodsReady, ApiServers),
                        once(CapacityElsewhere, ApiServers),
                        once(DisruptionsAllowed, ApiServers),
                        once(DataElsewhere, ApiServers),
                        once(HostIsNode, Agent),
                        once(OsIsSource, Agent),
                        once(CertificatesValid, Agent),
                        once(ClockInSync, Agent),
                        once(PackagesUsable, Agent),
                        once(OldRepositoriesServe, Coordinator),
                    ]
                }
            }
            Gate::Snapshot => {
                const { &[once(NodeRecorded, Coordinator), once(HostRecorded, Coordinator)] }
            }
            Gate::Cordon => {
                // Pods that came after the preflight are there to stay now, with their data.
                const { &[once(NodeCordoned, ApiServers), once(DataElsewhere, ApiServers)] }
            }
            Gate::Drain => {
                const {
                    &[
                        once(NodeDrained, ApiServers),
                        once(VolumesDetached, ApiServers),
                        once(NoNewPending, ApiServers),
                    ]
                }
            }
            Gate::RemoveAdmission => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        need(InputsStored, Management, Brief, Once),
                        need(NodeCordoned, ApiServers, Brief, Once),
                        need(NodeDrained, ApiServers, Brief, Once),
                        need(NodesReady, ApiServers, Brief, Once),
                        need(AnswersFresh, ApiServers, Brief, Once),
                        once(DataElsewhere, ApiServers),
                        need(HostIsNode, Agent, Brief, Once),
                    ]
                }
            }
            Gate::Removal => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        once(AnswersFresh, ApiServers),
                        need(NodeAbsent, ApiServers, Usual, Absence),
                        need(LeaseStopped, ApiServers, Usual, Lease),
                        once(VolumesDetached, ApiServers),
                        once(NoPodsBound, ApiServers),
                        once(KubeletStopped, Agent),
                        once(NoLeftovers, Agent),
                        once(PortsFree, Agent),
                        once(NodeFilesGone, Agent),
                    ]
                }
            }
            Gate::Reinstall => {
                const {
                    &[
                        need(NodeAbsent, ApiServers, Brief, Once),
                        once(NodeRecorded, Coordinator),
                        once(HostRecorded, Coordinator),
                        once(ApprovalsHold, Coordinator),
                        once(FarewellSaid, Coordinator),
                    ]
                }
            }
            Gate::Os => {
                const {
                    &[
                        once(OsIsTarget, Agent),
                        once(InstallationNew, Agent),
                        once(HostIsNode, Agent),
                        once(AddressesKept, Agent),
                        once(HardwareKept, Agent),
                        once(KubeletStopped, Agent),
                        once(NoLeftovers, Agent),
                        once(PortsFree, Agent),
                        once(NodeFilesGone, Agent),
                        once(SwapOff, Agent),
                        once(FirewallOff, Agent),
                        once(ClockInSync, Agent),
                        once(PackagesUsable, Agent),
                        once(RepositoriesServe, Agent),
                        once(DiskFree, Agent),
                        once(ResolverUsable, Agent),
                        once(NodeAbsent, ApiServers),
                    ]
                }
            }
            Gate::JoinAdmission => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        need(InputsStored, Management, Brief, Once),
                        need(NodeAbsent, ApiServers, Brief, Once),
                        need(NodesReady, ApiServers, Brief, Once),
                        need(AnswersFresh, ApiServers, Brief, Once),
                        need(OsIsTarget, Agent, Brief, Once),
                        need(PortsFree, Agent, Brief, Once),
                    ]
                }
            }
            Gate::Join => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        once(NodeNew, ApiServers),
                        once(NodeHeldBack, ApiServers),
                        need(NodeReady, ApiServers, Usual, Ready),
                        once(NodeOsIsTarget, ApiServers),
                        once(KubeletVersionKept, ApiServers),
                        once(NodeAddressKept, ApiServers),
                        once(NodeIsHost, ApiServers),
                        once(DaemonPodsReady, ApiServers),
                        once(NoPendingRequests, ApiServers),
                        once(NodesReady, ApiServers),
                        once(AnswersFresh, ApiServers),
                        once(HostIsNode, Agent),
                        once(OsIsTarget, Agent),
                    ]
                }
            }
            Gate::JoinCanary => {
                const { &[once(JoinCanaryServes, ApiServers), once(NodeReady, ApiServers)] }
            }
            Gate::Metadata => {
                const {
                    &[
                        once(JoinCanaryRemoved, ApiServers),
                        once(MetadataRestored, ApiServers),
                        once(SchedulableAsBefore, ApiServers),
                    ]
                }
            }
            Gate::Soak => {
                const {
                    &[
                        soaked(NodeReady, ApiServers),
                        soaked(DaemonPodsReady, ApiServers),
                        soaked(NoNewFailures, ApiServers),
                        once(NodesReady, ApiServers),
                        once(SystemPodsReady, ApiServers),
                        once(NoNewPending, ApiServers),
                        once(HostIsNode, Agent),
                    ]
                }
            }
            Gate::Finalize => {
                const {
                    &[
                        once(NodesOnTarget, ApiServers),
                        once(NodesReady, ApiServers),
                        once(KubeletVersionsEqual, ApiServers),
                        once(InputsRemoved, Management),
                        need(NoForeignOperation, Management, Brief, Once),
                    ]
                }
            }
            Gate::Abort => {
                // For a while: a cordon that was on its way when the node was given up would show.
                const { &[need(SchedulableAsBefore, ApiServers, Usual, Ready)] }
            }
            Gate::ClusterAbort => const { &[once(InputsRemoved, Management)] },
            Gate::RejoinAdmission => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        need(InputsStored, Management, Brief, Once),
                        // The removal may never have been proved.
                        need(NodeAbsent, ApiServers, Brief, Absence),
                        need(NodesReady, ApiServers, Brief, Once),
                        need(HostIsNode, Agent, Brief, Once),
                        need(OsIsSource, Agent, Brief, Once),
                        need(KubeletStopped, Agent, Brief, Once),
                        need(NoLeftovers, Agent, Brief, Once),
                        need(PortsFree, Agent, Brief, Once),
                        need(NodeFilesGone, Agent, Brief, Once),
                    ]
                }
            }
            Gate::Rejoin => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        once(NodeNew, ApiServers),
                        once(NodeHeldBack, ApiServers),
                        need(NodeReady, ApiServers, Usual, Ready),
                        once(KubeletVersionKept, ApiServers),
                        once(NodeAddressKept, ApiServers),
                        once(NodeIsHost, ApiServers),
                        once(DaemonPodsReady, ApiServers),
                        once(NoPendingRequests, ApiServers),
                        once(NodesReady, ApiServers),
                        once(AnswersFresh, ApiServers),
                        once(HostIsNode, Agent),
                        once(OsIsSource, Agent),
                    ]
                }
            }
            Gate::KubeconfigAdmission | Gate::ReorderAdmission => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        need(InputsStored, Management, Brief, Once),
                        need(NodesReady, ApiServers, Brief, Once),
                        need(EtcdHealthy, ControlPlanes, Brief, Once),
                    ]
                }
            }
            Gate::Kubeconfig => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        once(KubeconfigElsewhere, Management),
                    ]
                }
            }
            Gate::Reorder => const { &[once(InventoryReordered, Management)] },
            Gate::Reordered => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        once(InventoryReordered, Management),
                        once(KubeconfigElsewhere, Management),
                        once(NodesReady, ApiServers),
                        once(AnswersFresh, ApiServers),
                        once(KubeletVersionsEqual, ApiServers),
                        once(OthersSchedulable, ApiServers),
                        once(SystemPodsReady, ApiServers),
                        once(ApiServersListed, ApiServers),
                        once(EtcdHealthy, ControlPlanes),
                        once(IdentityKept, ControlPlanes),
                        once(EtcdServersRight, ControlPlanes),
                    ]
                }
            }
            Gate::Quorum => {
                const {
                    &[
                        once(EtcdHealthy, ControlPlanes),
                        once(QuorumKept, ControlPlanes),
                        once(IdentityKept, ControlPlanes),
                        once(ControlPlaneCertificatesValid, ControlPlanes),
                        once(LeaderElsewhere, ControlPlanes),
                        once(EndpointNotHere, ControlPlanes),
                        once(EndpointsElsewhere, ApiServers),
                        once(ApiServersListed, ApiServers),
                        once(KubeconfigElsewhere, Management),
                        once(ProxiesLeadToAll, Coordinator),
                        once(BackupFresh, Coordinator),
                        once(BackupProved, Coordinator),
                    ]
                }
            }
            Gate::Withdraw => {
                const {
                    &[
                        once(EtcdHealthy, ControlPlanes),
                        once(IdentityKept, ControlPlanes),
                        once(LeaderElsewhere, ControlPlanes),
                        once(EndpointNotHere, ControlPlanes),
                        once(ApiServerStopped, Agent),
                        once(ApiServersListed, ApiServers),
                    ]
                }
            }
        }
    }

    /// Whether nodes of this role, or their cluster, ever come to it.
    pub const fn is_of(self, role: Role) -> bool {
        match self {
            Gate::KubeconfigAdmission
            | Gate::Kubeconfig
            | Gate::Reorder
            | Gate::ReorderAdmission
            | Gate::Reordered => matches!(role, Role::FirstControlPlane),
            Gate::Quorum | Gate::Withdraw => role.is_control_plane(),
            _ => true,
        }
    }

    /// All that must hold of a node of this role, or of a cluster whose nodes have it.
    pub fn needs_of(self, role: Role) -> impl Iterator<Item = &'static Need> {
        let control_plane = if role.is_control_plane() { self.control_plane_needs() } else { &[] };
        let first = if role == Role::FirstControlPlane { self.first_needs() } else { &[] };
        self.needs().iter().chain(control_plane).chain(first)
    }

    /// The number that the domain reference gives the gate; the cluster's gates have none.
    pub const fn number(self) -> Option<u8> {
        match self {
            Gate::Preflight => Some(1),
            Gate::Snapshot => Some(2),
            Gate::Drain => Some(3),
            Gate::RemoveAdmission => Some(4),
            Gate::Removal => Some(5),
            Gate::Reinstall => Some(6),
            Gate::Os => Some(7),
            Gate::JoinAdmission => Some(8),
            Gate::Join => Some(9),
            Gate::Metadata => Some(10),
            Gate::Soak => Some(11),
            Gate::ClusterPreflight
            | Gate::Backup
            | Gate::Unprotect
            | Gate::Cordon
            | Gate::JoinCanary
            | Gate::Finalize
            | Gate::Abort
            | Gate::ClusterAbort
            | Gate::Protect
            | Gate::RejoinAdmission
            | Gate::Rejoin
            | Gate::KubeconfigAdmission
            | Gate::Kubeconfig
            | Gate::Reorder
            | Gate::ReorderAdmission
            | Gate::Reordered
            | Gate::Quorum
            | Gate::Withdraw => None,
        }
    }

    /// How long the gate may stay unanswered before its subject is held. While a control plane is away
    /// a second member of etcd that ails must not be waited for: nothing goes on without a person then.
    pub fn deadline(self, policy: &Policy, watched: bool, role: Role) -> Span {
        match self {
            Gate::JoinAdmission | Gate::RejoinAdmission if role.is_control_plane() => {
                policy.gate_deadline.min(FRAGILE_DEADLINE)
            }
            Gate::Drain => policy.drain_deadline,
            Gate::Soak => Window::Soak.length(policy, watched) + policy.gate_deadline,
            _ => policy.gate_deadline,
        }
    }
}

impl Age {
    /// In seconds, under this policy.
    pub fn limit(self, policy: &Policy) -> Span {
        match self {
            Age::Brief => Span::from_secs(30).min(policy.evidence_max_age),
            Age::Usual => policy.evidence_max_age,
        }
    }
}

impl Window {
    /// In seconds, under this policy; `watched` for what is watched longer.
    pub fn length(self, policy: &Policy, watched: bool) -> Span {
        match self {
            Window::Once => Span::default(),
            Window::Absence => policy.absence_window,
            Window::Lease => policy.lease_window,
            Window::Ready => policy.ready_window,
            Window::Soak if watched => policy.canary_soak,
            Window::Soak => policy.soak,
        }
    }
}
