//! What goes wrong in a rehearsal: each fault strikes one node once, and must be caught.

use std::{collections::BTreeSet, fmt, str::FromStr};

use rehull_shared::evidence::Check;

use crate::domain::{gate::Gate, plan::Role};

/// One way in which the world lies or fails. The order is that of a worker's way, and behind it that
/// of a control plane's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The agent of the host is lost before anything is touched (F16).
    AgentLost,
    /// A disruption budget allows nothing for a pod of the node (F10).
    BudgetAtZero,
    /// A volume stays attached to the node when its pods have gone (F9).
    VolumeAttached,
    /// Somebody else's operation runs in the cluster, and does not end (F68).
    ForeignOperation,
    /// Kubean's operator does not take the removal up (F69).
    OperatorDown,
    /// The removal says Succeeded and has done nothing (F1).
    SucceededDidNothing,
    /// The removal says Failed and has done everything (F13).
    FailedDidAll,
    /// The removal leaves a kube-proxy and its shim running (F4).
    SurvivingProcess,
    /// The removal leaves the kubelet running (F2).
    SurvivingKubelet,
    /// The installer says that it is done, and the old system boots (F33).
    NotReinstalled,
    /// The installer puts another OS on the host (F32).
    WrongOs,
    /// The fresh system has another address (F30).
    MovedAddress,
    /// The node comes back Ready, and its pods do not start (F49).
    PodsDoNotStart,
    /// Somebody puts the inventory back in the order that it had (F62).
    OrderPutBack,
    /// The Service `kubernetes` leads to an API server that has ended (F8).
    AddressStays,
    /// The removal leaves the host's member in etcd (F5).
    MemberOutlives,
    /// A second member ails while a control plane is away (F54).
    SecondAils,
    /// The playbook makes new authorities on the host that is joined (F52).
    NewAuthority,
}

/// A part of the failure catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// 4.1: a removal looks done, but is not; or the other way round.
    Removal,
    /// 4.2: workloads and data.
    Workloads,
    /// 4.3: reinstall and identity of the host.
    Host,
    /// 4.4: the way back.
    Join,
    /// 4.5: the automation itself.
    Automation,
}

/// How a fault shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// The node is held at the gate, because the statement is false or nobody can say.
    Held(Gate, Check),
    /// The node is held at the gate, because the operation before it has never run.
    NeverRan(Gate),
    /// The node is held, because no new system enrols.
    NobodyEnrolled,
    /// The gate sees it, and rehull has an agent resolve it.
    Mended(Gate, Check),
    /// The gate passes by evidence, whatever the operation says of itself.
    Accepted(Gate),
}

/// Faults by the node that each of them strikes.
pub(super) type Faults = BTreeSet<(String, Fault)>;

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 18] = [
        Fault::AgentLost,
        Fault::BudgetAtZero,
        Fault::VolumeAttached,
        Fault::ForeignOperation,
        Fault::OperatorDown,
        Fault::SucceededDidNothing,
        Fault::FailedDidAll,
        Fault::SurvivingProcess,
        Fault::SurvivingKubelet,
        Fault::NotReinstalled,
        Fault::WrongOs,
        Fault::MovedAddress,
        Fault::PodsDoNotStart,
        Fault::OrderPutBack,
        Fault::AddressStays,
        Fault::MemberOutlives,
        Fault::SecondAils,
        Fault::NewAuthority,
    ];

    /// Name, family, what happens in a sentence, and how it shows.
    const fn row(self) -> (&'static str, Family, &'static str, Sign) {
        match self {
            Fault::AgentLost => (
                "agent-lost",
                Family::Automation,
                "the agent ends before the node is touched",
                Sign::Held(Gate::Preflight, Check::HostIsNode),
            ),
            Fault::BudgetAtZero => (
                "budget-at-zero",
                Family::Workloads,
                "a disruption budget allows nothing for a pod of the node",
                Sign::Held(Gate::Preflight, Check::DisruptionsAllowed),
            ),
            Fault::VolumeAttached => (
                "volume-attached",
                Family::Removal,
                "a volume stays attached when the pods of the node have gone",
                Sign::Held(Gate::Drain, Check::VolumesDetached),
            ),
            Fault::ForeignOperation => (
                "foreign-operation",
                Family::Automation,
                "somebody begins an operation of the same cluster, and it does not end",
                Sign::Held(Gate::RemoveAdmission, Check::NoForeignOperation),
            ),
            Fault::OperatorDown => (
                "operator-down",
                Family::Automation,
                "Kubean's operator does not take the removal up",
                Sign::NeverRan(Gate::Removal),
            ),
            Fault::SucceededDidNothing => (
                "succeeded-did-nothing",
                Family::Removal,
                "the remove operation says Succeeded, and nothing has happened",
                Sign::Held(Gate::Removal, Check::NodeAbsent),
            ),
            Fault::FailedDidAll => (
                "failed-did-all",
                Family::Removal,
                "the remove operation says Failed, and everything has happened",
                Sign::Accepted(Gate::Removal),
            ),
            Fault::SurvivingProcess => (
                "surviving-process",
                Family::Removal,
                "the removal leaves a kube-proxy and its shim running",
                Sign::Mended(Gate::Removal, Check::NoLeftovers),
            ),
            Fault::SurvivingKubelet => (
                "surviving-kubelet",
                Family::Removal,
                "the removal leaves the kubelet running",
                Sign::Held(Gate::Removal, Check::KubeletStopped),
            ),
            Fault::NotReinstalled => (
                "not-reinstalled",
                Family::Host,
                "the installer says that it is done, and the old system boots again",
                Sign::NobodyEnrolled,
            ),
            Fault::WrongOs => (
                "wrong-os",
                Family::Host,
                "the installer puts another release of the OS on the host",
                Sign::Held(Gate::Os, Check::OsIsTarget),
            ),
            Fault::MovedAddress => (
                "moved-address",
                Family::Host,
                "the fresh system takes another address",
                Sign::Held(Gate::Os, Check::AddressesKept),
            ),
            Fault::PodsDoNotStart => (
                "pods-do-not-start",
                Family::Join,
                "the node is back and Ready, but no pod starts on it",
                Sign::Held(Gate::Join, Check::DaemonPodsReady),
            ),
            Fault::OrderPutBack => (
                "order-put-back",
                Family::Automation,
                "somebody puts the inventory back, in which the first control plane came last",
                Sign::Held(Gate::Reordered, Check::InventoryReordered),
            ),
            Fault::AddressStays => (
                "address-stays",
                Family::Removal,
                "the API server ends, and the Service kubernetes still leads to it",
                Sign::Held(Gate::Withdraw, Check::ApiServersListed),
            ),
            Fault::MemberOutlives => (
                "member-outlives",
                Family::Removal,
                "the removal leaves the member of the host in etcd",
                Sign::Mended(Gate::Removal, Check::MemberAbsent),
            ),
            Fault::SecondAils => (
                "second-ails",
                Family::Join,
                "a second member of etcd ails while the control plane is away",
                Sign::Held(Gate::JoinAdmission, Check::EtcdHealthy),
            ),
            Fault::NewAuthority => (
                "new-authority",
                Family::Join,
                "the re-add makes new authorities on the host, and not those of the cluster",
                Sign::Held(Gate::Join, Check::IdentityKept),
            ),
        }
    }

    /// Its name, as it is typed.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The part of the failure catalogue that it belongs to.
    pub fn family(self) -> Family {
        self.row().1
    }

    /// What happens, in a sentence.
    pub fn story(self) -> &'static str {
        self.row().2
    }

    /// Whether it can strike a node of this role.
    pub fn strikes(self, role: Role) -> bool {
        match self {
            Fault::OrderPutBack => role == Role::FirstControlPlane,
            Fault::AddressStays
            | Fault::MemberOutlives
            | Fault::SecondAils
            | Fault::NewAuthority => role.is_control_plane(),
            _ => true,
        }
    }

    /// How it must show.
    pub(super) fn sign(self) -> Sign {
        self.row().3
    }
}

impl Family {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Family::Removal => "removal",
            Family::Workloads => "workloads and data",
            Family::Host => "reinstall and host",
            Family::Join => "re-add",
            Family::Automation => "automation",
        }
    }
}

/// No fault has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no fault is called {0:?}; known are: {known}", known = known())]
pub struct UnknownFault(String);

fn known() -> String {
    Fault::ALL.map(Fault::name).join(", ")
}

impl FromStr for Fault {
    type Err = UnknownFault;
    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        let found = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        found.ok_or_else(|| UnknownFault(name.to_owned()))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_every_family_a_fault() {
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(fault));
        }
        let families: BTreeSet<Family> = Fault::ALL.map(Fault::family).into();
        assert_eq!(families.len(), 5);
        let words = "nothing".parse::<Fault>().unwrap_err().to_string();
        assert!(words.contains("agent-lost, budget-at-zero"), "{words}");
    }
}
