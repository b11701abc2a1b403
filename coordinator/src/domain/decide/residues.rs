//! What outlives a removal: processes on the host, and the Node object. Each is dealt with by an
//! intent of its own, and then everything is looked at again.

use rehull_shared::{
    evidence::{Check, Source, Verdict},
    ids::NodeName,
};

use super::Desk;
use crate::domain::{
    command::Refusal,
    event::Event,
    gate::{Gate, Seen},
    state::{Deletion, Leftovers, Member, MemberRemoval, Node, Phase, Process, Subject},
};

/// What the host must say before its Node object is deleted: a living kubelet would register it
/// again, and living containers would be nobody's.
const CLEAN: [Check; 3] = [Check::KubeletStopped, Check::NoLeftovers, Check::PortsFree];

impl Desk<'_> {
    /// Whether what a removal has left of this node may be ended without a person. The etcd on its host
    /// may still have a vote, which the others need as soon as one of them is not well: so each of them
    /// must have spoken in this round, for the cluster that was recorded.
    fn is_spare(&self, state: &Node) -> bool {
        let (Some(migration), Phase::Asking { gate, asked, dossier }) =
            (self.migration(), &state.track.phase)
        else {
            return false;
        };
        let subject = Subject::Node(state.planned.name.clone());
        let bench = migration.bench(&subject);
        let speak = || bench.confirms(*gate, &[Check::IdentityKept], *asked, dossier, self.now());
        !bench.role.is_control_plane() || (!state.is_frozen() && speak())
    }

    /// Orders survivors of a removal to be killed: once an attempt, and only when a witness of
    /// this round has seen that no kubelet runs (it would start them again), the API servers
    /// say that the Node is gone (else the removal itself has not happened, unless a person has
    /// looked and wants the rest of it done), and no etcd needs them.
    pub(super) fn kill(&self, node: NodeName, processes: Vec<Process>) -> Option<Event> {
        let migration = self.migration()?;
        let state = migration.node(&node)?;
        let Phase::Asking { gate: Gate::Removal, asked, dossier } = &state.track.phase else {
            return None;
        };
        let subject = Subject::Node(node.clone());
        let bench = migration.bench(&subject);
        let mut servers = bench.api_servers();
        let gone =
            servers.all(|at| dossier.passes(Check::NodeAbsent, &Source::ApiServer(at.to_owned())));
        let dead = dossier.passes(Check::KubeletStopped, &Source::Agent(node.clone()));
        let wanted = matches!(state.deletion, Deletion::Wanted { .. });
        let untouched = state.leftovers == Leftovers::Untouched;
        let may = untouched && (gone || wanted) && dead && self.is_spare(state);
        (may && !processes.is_empty()).then(|| Event::LeftoversOrdered {
            order: format!("{}/{}/{}/{}", migration.id, node, state.attempt, asked.round),
            node,
            processes,
        })
    }

    /// Orders a member of etcd to be removed that outlived the removal of its host: once an attempt,
    /// and only when the API servers say that the Node is gone and the agent of the host that nothing
    /// of it runs, and the others are well. A removed member that lives goes on answering its own API
    /// server.
    pub(super) fn remove_member(&self, node: NodeName, member: Member) -> Option<Event> {
        let migration = self.migration()?;
        let state = migration.node(&node)?;
        let Phase::Asking { gate: gate @ Gate::Removal, asked, dossier } = &state.track.phase
        else {
            return None;
        };
        let subject = Subject::Node(node.clone());
        let bench = migration.bench(&subject);
        let mut servers = bench.api_servers();
        let gone =
            servers.all(|at| dossier.passes(Check::NodeAbsent, &Source::ApiServer(at.to_owned())));
        let clean = bench.confirms(*gate, &CLEAN, *asked, dossier, self.now());
        let untouched = state.member == MemberRemoval::Untouched;
        (untouched && gone && clean && self.is_spare(state)).then(|| Event::MemberRemovalOrdered {
            order: format!("{}/{}/{}/member/{}", migration.id, node, state.attempt, asked.round),
            node,
            member,
        })
    }

    /// A person wants the Node object deleted that outlived its removal.
    pub(super) fn want_deletion(&mut self, name: &NodeName, by: &str) -> Result<(), Refusal> {
        self.knows(name)?;
        let node = self.known()?.node(name).expect("it was just known");
        let phase = &node.track.phase;
        if !phase.is_about_removal() {
            return Err(Refusal::NotNow {
                subject: Subject::Node(name.clone()),
                phase: phase.word().to_owned(),
                why: "a Node is deleted only when its removal has ended and is not proved: \
                      nothing else makes it superfluous"
                    .to_owned(),
            });
        }
        if !matches!(node.deletion, Deletion::Wanted { .. } | Deletion::Ordered { .. }) {
            let (node, by) = (name.clone(), by.to_owned());
            self.write(Event::NodeDeletionRequested { node, by });
        }
        Ok(())
    }

    /// Orders the deletion of a Node that a person or the policy wants, when the agent says in this
    /// round that the host is clean, and an API server that the Node is there.
    pub(super) fn delete_node(&mut self, name: &NodeName) {
        let Some(migration) = self.migration() else { return };
        let Some(node) = migration.node(name) else { return };
        let Phase::Asking { gate: gate @ Gate::Removal, asked, dossier } = &node.track.phase else {
            return;
        };
        let by = match &node.deletion {
            Deletion::Wanted { by } => by.clone(),
            Deletion::Untouched if migration.plan.policy.delete_node => "policy".to_owned(),
            _ => return,
        };
        let subject = Subject::Node(name.clone());
        let clean = migration.bench(&subject).confirms(*gate, &CLEAN, *asked, dossier, self.now());
        let there = dossier.iter().any(|Seen { evidence, .. }| {
            evidence.check == Check::NodeAbsent && matches!(evidence.verdict, Verdict::Fail(_))
        });
        if let (true, true, Some(recorded)) = (clean, there, &node.snapshot) {
            let (node, uid) = (name.clone(), recorded.node_uid.clone());
            self.write(Event::NodeDeletionOrdered { node, uid, by });
        }
    }
}
