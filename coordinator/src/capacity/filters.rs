//! The filters whose answer does not depend on where other pods are: cordon, taints, node affinity,
//! and where volumes may be mounted.

use super::{
    class::{Class, NodeTerm, Taint},
    labels::{Requirement, Test},
    model::{ClassId, Model, Node, NodeId},
    storage::{Mounts, Zone},
    symbols::Symbol,
};

/// Why a node refuses a pod, in the order in which the scheduler's default profile asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Filter {
    /// NodeUnschedulable.
    Cordoned,
    /// Not one of the scheduler's, which leaves it to taints that some pods bear.
    NotReady,
    /// TaintToleration.
    Taints,
    /// NodeAffinity, and the node selector.
    NodeAffinity,
    /// NodePorts.
    Ports,
    /// NodeResourcesFit: no pod more. What is short of resources has words of its own.
    Slots,
    /// VolumeBinding: a claim's volume does not exist.
    VolumeGone,
    /// VolumeBinding: the volume is elsewhere.
    VolumeAffinity,
    /// VolumeBinding: no volume can be made there.
    VolumeBinding,
    /// VolumeZone.
    Zone,
    /// PodTopologySpread: the node has no domain.
    SpreadLabel,
    /// PodTopologySpread.
    Spread,
    /// InterPodAffinity: not near what it must be near.
    Affinity,
    /// InterPodAffinity: not apart from what it must be apart from.
    AntiAffinity,
    /// InterPodAffinity: not apart from what must be apart from it.
    ExistingAntiAffinity,
}

impl Filter {
    /// The scheduler's words (v1.34).
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Cordoned => "node(s) were unschedulable",
            Self::NotReady => "node(s) were not ready",
            Self::Taints => "node(s) had untolerated taint(s)",
            Self::NodeAffinity => "node(s) didn't match Pod's node affinity/selector",
            Self::Ports => "node(s) didn't have free ports for the requested pod ports",
            Self::Slots => "Too many pods",
            Self::VolumeGone => {
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
            }
            Self::VolumeAffinity => "node(s) didn't match PersistentVolume's node affinity",
            Self::VolumeBinding => "node(s) didn't find available persistent volumes to bind",
            Self::Zone => "node(s) had no available volume zone",
            Self::SpreadLabel => {
                "node(s) didn't match pod topology spread constraints (missing required label)"
            }
            Self::Spread => "node(s) didn't match pod topology spread constraints",
            Self::Affinity => "node(s) didn't match pod affinity rules",
            Self::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Self::ExistingAntiAffinity => {
                "node(s) didn't satisfy existing pods anti-affinity rules"
            }
        }
    }
}

/// The answers of these filters for one class, by node. Those of volumes come after others.
#[derive(Debug)]
pub(super) struct Statics {
    /// Before ports and resources.
    pub(super) early: Vec<Option<Filter>>,
    /// After them.
    pub(super) late: Vec<Option<Filter>>,
    /// Whether each node matches the pod's node affinity and selector.
    pub(super) has_affinity: Vec<bool>,
    /// Whether the pod bears all taints of each node.
    pub(super) bears: Vec<bool>,
}

impl Model {
    /// Asks these filters of all nodes, of which some are about to be cordoned.
    pub(super) fn statics(&self, class: ClassId, leaving: &[NodeId]) -> Statics {
        let (class, mounts) = (&self.classes[class], &self.mounts[class]);
        let has_affinity = self.node_affinity(class);
        let tolerated: Vec<bool> = self
            .taints
            .iter()
            .map(|taints| taints.iter().all(|taint| bears(class, taint)))
            .collect();
        let bears_cordon = bears(class, &self.cordon);
        let mut bears: Vec<bool> = self.nodes.iter().map(|node| tolerated[node.taints]).collect();
        for node in leaving {
            bears[*node] &= bears_cordon;
        }
        let early = (0..self.nodes.len()).map(|id| {
            let node = &self.nodes[id];
            if leaving.contains(&id) || (node.is_cordoned && !bears_cordon) {
                Some(Filter::Cordoned)
            } else if !node.is_ready {
                Some(Filter::NotReady)
            } else if !bears[id] {
                Some(Filter::Taints)
            } else {
                (!has_affinity[id]).then_some(Filter::NodeAffinity)
            }
        });
        let early = early.collect();
        Statics { early, late: self.volumes(mounts), has_affinity, bears }
    }

    /// Whether a node has the labels that one of several terms asks for.
    pub(super) fn has_labels(&self, terms: &[NodeTerm], node: NodeId) -> bool {
        let holds =
            |one: &Requirement| one.holds(self.index.columns[&one.key][node], &self.symbols);
        terms.iter().any(|term| term.labels.iter().all(holds))
    }

    fn node_affinity(&self, class: &Class) -> Vec<bool> {
        let mut matches = vec![true; self.nodes.len()];
        self.restrict(&mut matches, &class.node_labels);
        if let Some(terms) = &class.node_terms {
            let some = self.some_term(terms);
            matches.iter_mut().zip(some).for_each(|(one, some)| *one &= some);
        }
        matches
    }

    /// Which nodes match one of several terms.
    fn some_term(&self, terms: &[NodeTerm]) -> Vec<bool> {
        let mut some = vec![false; self.nodes.len()];
        for term in terms {
            let mut all = vec![true; self.nodes.len()];
            self.restrict(&mut all, &term.labels);
            for test in &term.name {
                all.iter_mut()
                    .zip(&self.nodes)
                    .for_each(|(one, node)| *one &= is_named(node, test));
            }
            some.iter_mut().zip(all).for_each(|(one, all)| *one |= all);
        }
        some
    }

    /// Leaves the nodes of which all requirements hold.
    fn restrict(&self, matches: &mut [bool], requirements: &[Requirement]) {
        for one in requirements {
            let column = &self.index.columns[&one.key];
            matches
                .iter_mut()
                .zip(column)
                .filter(|(matches, _)| **matches)
                .for_each(|(matches, value)| *matches = one.holds(*value, &self.symbols));
        }
    }

    fn volumes(&self, mounts: &Mounts) -> Vec<Option<Filter>> {
        let mut late = vec![None; self.nodes.len()];
        let mut refuse = |which: &dyn Fn(NodeId) -> bool, filter: Filter| {
            late.iter_mut()
                .enumerate()
                .filter(|(node, refused)| refused.is_none() && which(*node))
                .for_each(|(_, refused)| *refused = Some(filter));
        };
        if mounts.is_gone {
            refuse(&|_| true, Filter::VolumeGone);
        }
        for volume in &mounts.volumes {
            if let Some(terms) = &self.storage.volumes[*volume].terms {
                // Fields are left out: the scheduler asks volumes about labels alone.
                let mut terms = terms.clone();
                terms.iter_mut().for_each(|term| term.name = Box::default());
                let some = self.some_term(&terms);
                refuse(&|node| !some[node], Filter::VolumeAffinity);
            }
        }
        for terms in mounts.provisioned.iter().filter(|terms| !terms.is_empty()) {
            let terms = terms.iter().filter(|labels| !labels.is_empty());
            let terms: Vec<NodeTerm> = terms
                .map(|labels| NodeTerm { labels: labels.clone(), name: Box::default() })
                .collect();
            let some = self.some_term(&terms);
            refuse(&|node| !some[node], Filter::VolumeBinding);
        }
        for volume in &mounts.volumes {
            let zones = &self.storage.volumes[*volume].zones;
            if !zones.is_empty() {
                refuse(&|node| !self.is_in_zones(node, zones), Filter::Zone);
            }
        }
        late
    }

    /// Whether a node is where a volume is; one without any zone is everywhere.
    fn is_in_zones(&self, node: NodeId, zones: &[Zone]) -> bool {
        let value = |key: &Symbol| self.index.columns[key][node];
        let has_zone = self.storage.zone_keys.iter().any(|key| value(key).is_some());
        !has_zone
            || zones.iter().all(|zone| {
                let value = value(&zone.key).or_else(|| value(&zone.newer));
                value.is_some_and(|value| zone.values.contains(&value))
            })
    }
}

fn bears(class: &Class, taint: &Taint) -> bool {
    class.tolerations.iter().any(|toleration| toleration.bears(taint))
}

fn is_named(node: &Node, test: &Test) -> bool {
    match test {
        Test::In(names) => names.contains(&node.name),
        Test::NotIn(names) => !names.contains(&node.name),
        _ => false,
    }
}
