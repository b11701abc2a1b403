//! The site's deletion protection: switched off before any node is touched, on again before the end,
//! and never off without being said.

use rehull_shared::{
    evidence::{Check, Source},
    ids::Round,
};

use super::Desk;
use crate::domain::{
    event::Event,
    gate::{Blocker, Gate},
    state::{Phase, Step, Subject},
};

impl Desk<'_> {
    /// Intends the switching that the cluster's gate asks for, once in every round: the program may
    /// run from then on, and runs again where a crash has lost what came of it.
    pub(super) fn switch_protection(&mut self) {
        let Some(migration) = self.migration() else { return };
        let Some(on) = self.switching_gate().and_then(Gate::protects) else { return };
        let switch = migration.protection.switch.as_ref();
        if switch.is_none_or(|switch| switch.on != on || switch.round != migration.track.round) {
            self.write(Event::ProtectionIntended { on });
        }
    }

    /// Takes in what came of it. Where it has not worked a person is needed at once: nothing changes
    /// by waiting.
    pub(super) fn hear_of_protection(&mut self, round: Round, done: bool, seen: &str) {
        let under_way = self.migration().and_then(|migration| migration.switching());
        let Some(on) = under_way.filter(|switch| switch.round == round).map(|switch| switch.on)
        else {
            return;
        };
        self.write(Event::ProtectionAnswered { on, done, seen: seen.to_owned() });
        let gate = self.switching_gate().filter(|_| !done);
        if let Some(gate) = gate {
            let check = if on { Check::ProtectionOn } else { Check::ProtectionOff };
            let (source, seen) = (Source::Coordinator, seen.to_owned());
            let why = vec![Blocker::Contradicted { check, source, seen }];
            self.write(Event::Held { subject: Subject::Cluster, why, resume: Step::Ask(gate) });
        }
    }

    /// The gate that is asked and that switches the protection, if it is one.
    fn switching_gate(&self) -> Option<Gate> {
        let Phase::Asking { gate, .. } = &self.migration()?.track.phase else { return None };
        Some(*gate).filter(|gate| gate.protects().is_some())
    }
}
