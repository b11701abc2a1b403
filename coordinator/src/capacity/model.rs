//! A snapshot of a cluster in the form that a simulation reads fast: texts are numbers, pods that
//! are alike are one class, and every question of a filter has its index.

use std::collections::HashMap;

use super::{
    budgets::Budgets,
    class::{Class, Taint, Term},
    findings::Object,
    index::Index,
    labels::{Labels, Selector},
    notes::Note,
    resources::Dimensions,
    room::Room,
    storage::{Mounts, Storage},
    symbols::{Symbol, Symbols},
    workloads::{Key, Workloads},
};

/// A place in [`Model::nodes`].
pub(super) type NodeId = usize;
/// A place in [`Model::classes`].
pub(super) type ClassId = usize;
/// A place in [`Model::pods`].
pub(super) type PodId = usize;

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    /// Name.
    pub(super) name: Symbol,
    /// Whether its kubelet says that it is Ready.
    pub(super) is_ready: bool,
    /// Whether it is cordoned.
    pub(super) is_cordoned: bool,
    /// Its taints that keep pods away: a place in [`Model::taints`].
    pub(super) taints: usize,
    /// Labels.
    pub(super) labels: Labels,
}

/// A pod that is not over.
#[derive(Debug)]
pub(super) struct Pod {
    /// Namespace.
    pub(super) namespace: Symbol,
    /// Name.
    pub(super) name: Box<str>,
    /// UID.
    pub(super) uid: Box<str>,
    /// What filters see of it.
    pub(super) class: ClassId,
    /// Where it runs, or will run as soon as others have gone; `None` while it waits, or if there
    /// is no such node.
    pub(super) node: Option<NodeId>,
    /// The controller that would make it anew.
    pub(super) owner: Option<Key>,
    /// When it was made, in seconds since 1970.
    pub(super) made_s: i64,
    /// Whether it is Ready.
    pub(super) is_ready: bool,
    /// Whether it has been placed, but does not run yet.
    pub(super) is_pending: bool,
    /// Whether it is being deleted.
    pub(super) is_going: bool,
    /// Whether it belongs to the node: its DaemonSet would make it anew there, or a file on the
    /// host.
    pub(super) stays: bool,
    /// Whether it may be placed now, and waits for a node.
    pub(super) waits: bool,
}

/// A snapshot of a cluster. It is made by a [`Builder`](super::Builder).
#[derive(Debug)]
pub struct Model {
    pub(super) symbols: Symbols,
    pub(super) dimensions: Dimensions,
    /// Sorted by name.
    pub(super) nodes: Vec<Node>,
    pub(super) node_ids: HashMap<Symbol, NodeId>,
    /// Every set of taints that a node has.
    pub(super) taints: Vec<Box<[Taint]>>,
    /// The taint of a cordoned node.
    pub(super) cordon: Taint,
    pub(super) classes: Vec<Class>,
    /// What the volumes of each class ask for.
    pub(super) mounts: Vec<Mounts>,
    pub(super) pods: Vec<Pod>,
    pub(super) notes: HashMap<PodId, Vec<Note>>,
    pub(super) storage: Storage,
    pub(super) workloads: Workloads,
    pub(super) budgets: Budgets,
    /// Values of PriorityClasses, by name.
    pub(super) priorities: HashMap<Symbol, i32>,
    /// Priority of pods that name no class.
    pub(super) default_priority: i32,

    /// What is free.
    pub(super) room: Room,
    /// What each node has: processor and memory.
    pub(super) capacity: [Vec<i64>; 2],
    pub(super) index: Index,
}

impl Model {
    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// How many pods there are that are not over.
    pub fn pods(&self) -> usize {
        self.pods.len()
    }

    /// A text.
    pub(super) fn text(&self, symbol: Symbol) -> &str {
        self.symbols.text(symbol)
    }

    /// `namespace/name`.
    pub(super) fn full_name(&self, namespace: Symbol, name: Symbol) -> String {
        format!("{}/{}", self.text(namespace), self.text(name))
    }

    /// The identity of a pod.
    pub(super) fn pod_object(&self, pod: PodId) -> Object {
        let pod = &self.pods[pod];
        Object {
            kind: "Pod".to_owned(),
            namespace: self.text(pod.namespace).to_owned(),
            name: pod.name.clone().into(),
            uid: pod.uid.clone().into(),
        }
    }

    /// The identity of a workload.
    pub(super) fn workload_object(&self, key: Key) -> Object {
        let (kind, namespace, name) = key;
        let uid = self.workloads.get(key).map_or("", |workload| &workload.uid);
        Object {
            kind: self.text(kind).to_owned(),
            namespace: self.text(namespace).to_owned(),
            name: self.text(name).to_owned(),
            uid: uid.to_owned(),
        }
    }

    /// Whether a term is about pods of a class.
    pub(super) fn is_about(&self, term: &Term, class: ClassId) -> bool {
        term.matches(&self.classes[class], &self.symbols)
    }

    /// Classes that a selector may select, rather too many than too few.
    pub(super) fn candidates(
        &self,
        selector: &Selector,
        namespace: Option<Symbol>,
    ) -> Vec<ClassId> {
        self.index.candidates(selector, namespace, self.classes.len())
    }
}
