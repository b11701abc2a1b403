//! What goes wrong in a rehearsal: each fault strikes one node once, and must be caught.

use rehull_shared::evidence::Check;

use crate::domain::gate::Gate;

/// One way in which the world lies or fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// The removal says Succeeded and has done nothing (F1).
    SucceededDidNothing,
    /// The removal leaves a kube-proxy and its shim running (F4).
    SurvivingProcess,
    /// The removal leaves the kubelet running (F2).
    SurvivingKubelet,
    /// The installer puts another OS on the host (F32).
    WrongOs,
}

impl Fault {
    /// All of them.
    pub(super) const ALL: [Fault; 4] = [
        Fault::SucceededDidNothing,
        Fault::SurvivingProcess,
        Fault::SurvivingKubelet,
        Fault::WrongOs,
    ];

    /// Those of removals.
    pub(super) fn removals() -> &'static [Fault] {
        &[Fault::SucceededDidNothing, Fault::SurvivingProcess, Fault::SurvivingKubelet]
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::SucceededDidNothing => "succeeded-did-nothing",
            Fault::SurvivingProcess => "surviving-process",
            Fault::SurvivingKubelet => "surviving-kubelet",
            Fault::WrongOs => "wrong-os",
        }
    }

    /// What happens, in a sentence.
    pub(super) fn story(self) -> &'static str {
        match self {
            Fault::SucceededDidNothing => {
                "the remove operation says Succeeded, and nothing has happened"
            }
            Fault::SurvivingProcess => "the removal leaves a kube-proxy and its shim running",
            Fault::SurvivingKubelet => "the removal leaves the kubelet running",
            Fault::WrongOs => "the installer puts another release of the OS on the host",
        }
    }

    /// The gate that must catch it, and the statement by which.
    pub(super) fn caught_by(self) -> (Gate, Check) {
        match self {
            Fault::SucceededDidNothing => (Gate::Removal, Check::NodeAbsent),
            Fault::SurvivingProcess => (Gate::Removal, Check::NoLeftovers),
            Fault::SurvivingKubelet => (Gate::Removal, Check::KubeletStopped),
            Fault::WrongOs => (Gate::Os, Check::OsIsTarget),
        }
    }
}
