//! Reinstalls: announced by people, proved by the enrolment of the new system.

use rehull_shared::ids::NodeName;

use super::Desk;
use crate::domain::{
    command::Refusal,
    event::Event,
    gate::Gate,
    plan::Installer,
    state::{Phase, Subject},
};

impl Desk<'_> {
    /// A person says that the host is reinstalled. It proves nothing, but a manual reinstall does
    /// not go on without it: somebody must have meant this very machine.
    pub(super) fn confirm_reinstalled(&mut self, name: &NodeName, by: &str) -> Result<(), Refusal> {
        self.knows(name)?;
        let phase = self.known()?.node(name).map(|node| &node.track.phase);
        match phase {
            Some(Phase::Reinstalling(reinstall)) if reinstall.announced_by.is_none() => {
                self.write(Event::ReinstallAnnounced { node: name.clone(), by: by.to_owned() });
                Ok(())
            }
            Some(Phase::Reinstalling(_)) => Ok(()),
            other => Err(Refusal::NotNow {
                subject: Subject::Node(name.clone()),
                phase: other.map_or("unknown", Phase::word).to_owned(),
                why: "its reinstall has not been authorised, so nobody should have wiped it".into(),
            }),
        }
    }

    /// Looks at the new system once its agent has enrolled: nothing else proves a reinstall.
    pub(super) fn look_at_new_system(&mut self, name: &NodeName) {
        let Some(migration) = self.migration() else { return };
        let Some(node) = migration.node(name) else { return };
        let Phase::Reinstalling(reinstall) = &node.track.phase else { return };
        let announced =
            reinstall.announced_by.is_some() || migration.plan.installer != Installer::Manual;
        let enrolled = self.scribe.fleet.enrolled_after_farewell(self.cluster, node).is_some();
        if announced && enrolled {
            self.ask(&Subject::Node(name.clone()), Gate::Os);
        }
    }
}
