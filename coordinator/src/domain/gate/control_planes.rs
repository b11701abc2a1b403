//! The table's rows of control planes: what must hold of them beside what must hold of any node.

use rehull_shared::evidence::{Check, Witness};

use super::{Age, Gate, Need, Window, need, once, soaked};

impl Gate {
    /// What must hold beside that where control planes are migrated: of one of them, or of their
    /// cluster. Facts and reasons: domain reference 5.4.
    pub const fn control_plane_needs(self) -> &'static [Need] {
        use {Age::*, Check::*, Window::*, Witness::*};
        match self {
            Gate::ClusterPreflight => {
                const {
                    &[
                        once(EtcdHealthy, ControlPlanes),
                        once(QuorumKept, ControlPlanes),
                        once(EtcdServersRight, ControlPlanes),
                        once(ControlPlaneCertificatesValid, ControlPlanes),
                        once(ApiServersListed, ApiServers),
                        once(EndpointsElsewhere, ApiServers),
                        once(MembersDistinct, Coordinator),
                        once(ProxiesLeadToAll, Coordinator),
                    ]
                }
            }
            Gate::Backup => const { &[once(IdentityRecorded, Coordinator)] },
            Gate::Preflight => {
                const {
                    &[
                        once(EtcdHealthy, ControlPlanes),
                        once(QuorumKept, ControlPlanes),
                        // Before rehull itself makes another member lead.
                        once(LeaderSteady, ControlPlanes),
                        once(ApiServersListed, ApiServers),
                    ]
                }
            }
            Gate::RemoveAdmission => {
                const {
                    &[
                        need(EtcdHealthy, ControlPlanes, Brief, Once),
                        need(QuorumKept, ControlPlanes, Brief, Once),
                        need(IdentityKept, ControlPlanes, Brief, Once),
                        need(LeaderElsewhere, ControlPlanes, Brief, Once),
                        need(ApiServerStopped, Agent, Brief, Once),
                        need(EndpointsElsewhere, ApiServers, Brief, Once),
                        need(ApiServersListed, ApiServers, Brief, Once),
                        need(KubeconfigElsewhere, Management, Brief, Once),
                        once(BackupFresh, Coordinator),
                    ]
                }
            }
            Gate::Removal => {
                const {
                    &[
                        need(MemberAbsent, ControlPlanes, Usual, Lease),
                        once(EtcdHealthy, ControlPlanes),
                        once(IdentityKept, ControlPlanes),
                        need(ApiServersListed, ApiServers, Usual, Lease),
                        need(ApiServerLeaseStopped, ApiServers, Usual, Lease),
                        once(EndpointsElsewhere, ApiServers),
                        once(ApiServersSteady, Coordinator),
                    ]
                }
            }
            // From here on there is no way back to the old system: none is given up while etcd ails.
            Gate::Reinstall => const { &[need(EtcdHealthy, ControlPlanes, Brief, Once)] },
            Gate::Os => const { &[once(MemberAbsent, ControlPlanes)] },
            Gate::JoinAdmission | Gate::RejoinAdmission => {
                const {
                    &[
                        need(MemberAbsent, ControlPlanes, Brief, Once),
                        need(EtcdHealthy, ControlPlanes, Brief, Once),
                        need(IdentityKept, ControlPlanes, Brief, Once),
                        need(EndpointsElsewhere, ApiServers, Brief, Once),
                        need(InfoSigned, ApiServers, Brief, Once),
                        need(ApiServersListed, ApiServers, Brief, Once),
                    ]
                }
            }
            Gate::Join | Gate::Rejoin => {
                const {
                    &[
                        need(EtcdHealthy, ControlPlanes, Usual, Ready),
                        once(IdentityKept, ControlPlanes),
                        once(EtcdServersRight, ControlPlanes),
                        once(EtcdJoinsOnly, ControlPlanes),
                        need(ApiServerServes, OwnApiServer, Usual, Ready),
                        once(ApiServerVersionKept, OwnApiServer),
                        once(ApiServersListed, ApiServers),
                        once(ControlPlanePodsReady, ApiServers),
                        once(OthersSchedulable, ApiServers),
                        once(CertificatesValid, Agent),
                    ]
                }
            }
            Gate::Soak => {
                const {
                    &[
                        soaked(EtcdHealthy, ControlPlanes),
                        soaked(ApiServerServes, OwnApiServer),
                        once(ControlPlanePodsReady, ApiServers),
                    ]
                }
            }
            Gate::Abort => {
                const {
                    &[
                        once(EtcdHealthy, ControlPlanes),
                        once(ApiServerServes, OwnApiServer),
                        once(ApiServersListed, ApiServers),
                    ]
                }
            }
            Gate::Finalize => {
                const {
                    &[
                        once(EtcdHealthy, ControlPlanes),
                        once(IdentityKept, ControlPlanes),
                        once(EtcdServersRight, ControlPlanes),
                        once(ApiServersListed, ApiServers),
                        once(EndpointsElsewhere, ApiServers),
                        once(KubeconfigElsewhere, Management),
                        once(ProxiesLeadToAll, Coordinator),
                    ]
                }
            }
            // These are of control planes alone, or touch nothing of them.
            Gate::KubeconfigAdmission
            | Gate::Kubeconfig
            | Gate::Reorder
            | Gate::ReorderAdmission
            | Gate::Reordered
            | Gate::Quorum
            | Gate::Withdraw
            | Gate::Unprotect
            | Gate::Snapshot
            | Gate::Cordon
            | Gate::Drain
            | Gate::JoinCanary
            | Gate::Metadata
            | Gate::ClusterAbort
            | Gate::Protect => &[],
        }
    }

    /// What must hold beside that of the first control plane. Domain reference 5.5.
    pub const fn first_needs(self) -> &'static [Need] {
        use {Check::*, Witness::*};
        match self {
            Gate::Preflight => const { &[once(OtherControlPlanesDone, ApiServers)] },
            // Asked once more behind its hand-over, and wherever it goes on after a hold.
            Gate::KubeconfigAdmission => const { &[once(FirstControlPlaneApproved, Coordinator)] },
            Gate::Quorum | Gate::RemoveAdmission => {
                const {
                    &[
                        once(InventoryReordered, Management),
                        once(FirstControlPlaneApproved, Coordinator),
                    ]
                }
            }
            Gate::Withdraw => const { &[once(FirstControlPlaneApproved, Coordinator)] },
            Gate::JoinAdmission => const { &[once(InventoryReordered, Management)] },
            _ => &[],
        }
    }
}
