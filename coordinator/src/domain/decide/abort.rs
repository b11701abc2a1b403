//! Giving up: before the point of no return what was touched is put back, and proved to be; between
//! a removal and the reinstall the host may join again with the system that it still has.

use rehull_shared::ids::NodeName;

use super::Desk;
use crate::domain::{
    command::Refusal,
    event::Event,
    state::{Migration, Node, Phase, Subject},
};

impl Desk<'_> {
    /// A person gives a node up, or the whole migration.
    pub(super) fn abort(&mut self, subject: &Subject, by: &str) -> Result<(), Refusal> {
        let migration = self.known()?;
        let (phase, fault, going) = match subject {
            Subject::Cluster => {
                let fault = migration.out().next().map(|node| beyond(migration, node));
                (&migration.track.phase, fault, migration.aborted_by.is_some())
            }
            Subject::Node(name) => {
                self.knows(name)?;
                let node = migration.node(name).expect("it was just known");
                let fault = node.is_out().then(|| beyond(migration, node));
                (&node.track.phase, fault, node.is_given_up())
            }
        };
        let of_phase = match phase {
            Phase::Done | Phase::Aborted => Some("it is over: nothing is left to be given up"),
            Phase::Operating => {
                Some("its operation runs, and nobody stops one: ask again when it has ended")
            }
            _ => None,
        };
        match fault.or(of_phase.map(str::to_owned)) {
            Some(why) => {
                let (subject, phase) = (subject.clone(), phase.word().to_owned());
                return Err(Refusal::NotNow { subject, phase, why });
            }
            None if going => (),
            None => self.write(Event::AbortRequested { subject: subject.clone(), by: by.into() }),
        }
        Ok(())
    }

    /// When the whole migration is given up, each node is; one with an operation when that has ended.
    pub(super) fn abort_with_all(&mut self) {
        let Some(migration) = self.migration() else { return };
        let Some(by) = migration.aborted_by.clone() else { return };
        let open = |node: &&Node| {
            let runs = node.track.phase == Phase::Operating;
            !runs && !node.track.phase.is_over() && !node.is_given_up()
        };
        let open = migration.nodes.iter().filter(open).map(|node| node.planned.name.clone());
        for name in open.collect::<Vec<_>>() {
            let subject = Subject::Node(name);
            self.write(Event::AbortRequested { subject, by: by.clone() });
        }
    }

    /// A person wants a removed node back with the system that it still has. Unless the others may
    /// go on, no other node begins until a person lets it.
    pub(super) fn roll_back(
        &mut self,
        name: &NodeName,
        go_on: bool,
        by: &str,
    ) -> Result<(), Refusal> {
        self.knows(name)?;
        let migration = self.known()?;
        let node = migration.node(name).expect("it was just known");
        if !node.can_be_rolled_back() {
            let why = match node.given_away {
                true => "its reinstall was authorised, and the data on it given up: only forward",
                false => {
                    "a node is put back only while it is held or paused between its removal and \
                     the reinstall of its host: `rehull migrate hold` holds it there"
                }
            };
            let (subject, phase) = (Subject::Node(name.clone()), node.track.phase.word().into());
            return Err(Refusal::NotNow { subject, phase, why: why.to_owned() });
        }
        let works = migration.track.phase == Phase::Working && migration.track.hold.is_none();
        let (node, by) = (name.clone(), by.to_owned());
        // First: a crash may fall between the two.
        if works && !go_on {
            let (subject, why) = (Subject::Cluster, format!("{name} is rolled back"));
            self.write(Event::HoldRequested { subject, why, by: by.clone() });
        }
        self.write(Event::RollbackRequested { node, by });
        Ok(())
    }

    /// Ends a node that has nothing more to do: it is on the target, or as it was.
    pub(super) fn finish_node(&mut self, name: &NodeName) {
        let Some(node) = self.migration().and_then(|migration| migration.node(name)) else {
            return;
        };
        let (aborted, node) = (node.is_given_up() || node.is_rolled_back(), name.clone());
        self.write(match aborted {
            true => Event::NodeAborted { node },
            false => Event::NodeFinished { node },
        });
    }
}

/// Why it is too late, and what can be done instead.
fn beyond(migration: &Migration, node: &Node) -> String {
    let (cluster, name) = (&migration.plan.cluster, &node.planned.name);
    let finish = match &node.track.phase {
        _ if node.can_be_rolled_back() => format!(
            "put it back with `rehull migrate resolve {cluster} {name} --rollback-join`, or let it \
             finish"
        ),
        Phase::Held { .. } => {
            format!("see `rehull explain {cluster} {name}` for what lets it go on")
        }
        _ => format!("let it finish, which `rehull watch {cluster}` shows"),
    };
    format!(
        "{name} is past the point of no return: its removal cannot be undone. Pause with \
         `rehull migrate pause {cluster}` so that no other node begins; {finish}"
    )
}
