//! What a person has accepted does not stand in the way, and is said beside what was seen.

use k8s_openapi::api::core::v1::Node as NodeObject;
use rehull_shared::{evidence::Verdict, ids::NodeName};

use super::super::{Pass, api::few};
use crate::{
    domain::{
        approval::{Approval, Item},
        plan::PlannedNode,
        state::{BackupProof, Node, Subject},
    },
    items,
};

impl Pass<'_> {
    /// Items that nobody has accepted, and words about those that somebody has.
    pub(super) fn unaccepted(&self, subject: &Subject, items: Vec<Item>) -> (Vec<Item>, String) {
        let (mut open, mut accepted) = (Vec::new(), String::new());
        for item in items {
            match self.migration.approval(subject, &item, self.now()) {
                Some(Approval { by, until, .. }) => {
                    accepted += &format!("; {by} accepts until {until}: {}", item.words());
                }
                None => open.push(item),
            }
        }
        (open, accepted)
    }

    /// What the tag of the image says, or a person.
    pub(super) fn image_manages_systems(&self) -> Verdict {
        let plan = &self.migration.plan;
        let (open, accepted) = self.unaccepted(&Subject::Cluster, items::of_image(plan));
        match open.is_empty() {
            true => Verdict::pass(format!(
                "{} manages {} and {}{accepted}",
                plan.image, plan.source, plan.target
            )),
            false => Verdict::fail(few(open.iter().map(Item::words))),
        }
    }

    /// Whether the playbooks tell members of etcd apart, or a person answers for it.
    pub(super) fn members_distinct(&self) -> Verdict {
        let plan = &self.migration.plan;
        let (open, accepted) = self.unaccepted(&Subject::Cluster, items::of_members(plan));
        match open.is_empty() {
            true => Verdict::pass(format!(
                "{} members have addresses of which none is a part of another{accepted}",
                plan.control_planes.len()
            )),
            false => Verdict::fail(few(open.iter().map(Item::words))),
        }
    }

    /// Whether a backup of the cluster was proved; or a person goes on without that.
    pub(super) fn backup_proved(&self, subject: &Subject) -> Verdict {
        if let Some((BackupProof { backup, objects, nodes, .. }, at)) = &self.migration.proved {
            return Verdict::pass(format!(
                "{backup} was proved, {at}: an etcd that was made of it held {objects} objects and \
                 {nodes} Nodes"
            ));
        }
        let item = items::of_unproved(&self.migration.plan);
        match self.unaccepted(subject, vec![item]) {
            (open, accepted) if open.is_empty() => Verdict::pass(format!("none was{accepted}")),
            (open, _) => Verdict::fail(format!(
                "no backup was proved; a person may accept that {}",
                few(open.iter().map(Item::words))
            )),
        }
    }

    /// A person's word for the first control plane: nothing else lets it go.
    pub(super) fn first_approved(&self, node: Option<&Node>) -> Verdict {
        let Some(Node { planned: PlannedNode { name, .. }, .. }) = node else {
            return Verdict::unknown("it is asked of the first control plane alone");
        };
        match self.unaccepted(&Subject::Node(name.clone()), vec![items::of_first(name)]) {
            (open, accepted) if open.is_empty() => {
                Verdict::pass(format!("{name} may go{accepted}"))
            }
            (open, _) => Verdict::fail(format!(
                "nobody has approved that {}",
                few(open.iter().map(Item::words))
            )),
        }
    }

    /// A join canary that does not serve can be done without, if a person accepts that.
    pub(super) fn canary_verdict(
        &self,
        name: &NodeName,
        node: &NodeObject,
        seen: Result<String, String>,
    ) -> Verdict {
        let why = match seen {
            Ok(seen) => return Verdict::pass(seen),
            Err(why) => why,
        };
        let item = items::of_join_canary(node);
        let offered = item.words();
        match self.unaccepted(&Subject::Node(name.clone()), vec![item]) {
            (open, accepted) if open.is_empty() => Verdict::pass(format!("{why}{accepted}")),
            _ => Verdict::fail(format!("{why}; {offered}")),
        }
    }
}
