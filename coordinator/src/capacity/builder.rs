//! From the objects of an API server to a [`Model`], one object at a time, so that only what the
//! simulation reads is kept of each.

use std::collections::{BTreeSet, HashMap, HashSet};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    core::v1::{
        Namespace, Node as NodeObject, PersistentVolume, PersistentVolumeClaim, Pod as PodObject,
    },
    policy::v1::PodDisruptionBudget,
    scheduling::v1::PriorityClass,
    storage::v1::{CSINode, StorageClass},
};

use super::{
    budgets::Budgets,
    class::{self, Class, Namespaces, Taint},
    index::Index,
    labels::Labels,
    model::{ClassId, Model, Node, NodeId, Pod, PodId},
    notes::{self, Note},
    quantity,
    resources::{Amounts, CPU, Dimensions, MEMORY, Reader},
    room::Room,
    storage::{Mounts, Storage},
    symbols::{Symbol, Symbols},
    workloads::{Workloads, controller},
};
use crate::pods;

/// Takes the objects of a cluster in, in any order.
#[derive(Debug)]
pub struct Builder {
    symbols: Symbols,
    dimensions: Dimensions,
    nodes: Vec<NodeFacts>,
    /// Limits of drivers, by node.
    limits: Vec<(Symbol, Symbol, i64)>,
    classes: HashMap<Class, ClassId>,
    pods: Vec<(Pod, Option<Symbol>)>,
    /// What pods hold of their nodes, where it is not what they ask for.
    held: HashMap<PodId, Amounts>,
    /// Claims that pods mount, for drivers with limits.
    mounted: Vec<(PodId, Symbol)>,
    notes: HashMap<PodId, Vec<Note>>,
    namespaces: HashMap<Symbol, Labels>,
    priorities: HashMap<Symbol, i32>,
    default_priority: i32,
    storage: Storage,
    workloads: Workloads,
    budgets: Budgets,
}

#[derive(Debug)]
struct NodeFacts {
    node: Node,
    taints: Box<[Taint]>,
    allocatable: Amounts,
    slots: i64,
}

impl Default for Builder {
    fn default() -> Self {
        let mut symbols = Symbols::default();
        let dimensions = Dimensions::new(&mut symbols);
        Self {
            symbols,
            dimensions,
            nodes: Vec::new(),
            limits: Vec::new(),
            classes: HashMap::new(),
            pods: Vec::new(),
            held: HashMap::new(),
            mounted: Vec::new(),
            notes: HashMap::new(),
            namespaces: HashMap::new(),
            priorities: HashMap::new(),
            default_priority: 0,
            storage: Storage::default(),
            workloads: Workloads::default(),
            budgets: Budgets::default(),
        }
    }
}

impl Builder {
    /// Takes a Node in. One that does not say what it has has no room.
    pub fn node(&mut self, object: &NodeObject) {
        let symbols = &mut self.symbols;
        let spec = object.spec.as_ref();
        let status = object.status.as_ref();
        let conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let slots = allocatable.and_then(|all| quantity::units(&all.get("pods")?.0));
        let allocatable = Amounts::read(allocatable, 0, symbols, &mut self.dimensions);
        let taints = spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let taints: BTreeSet<Taint> =
            taints.filter_map(|taint| Taint::read(taint, symbols)).collect();
        let node = Node {
            name: symbols.of(object.metadata.name.as_deref().unwrap_or_default()),
            is_ready: conditions
                .into_iter()
                .any(|one| one.type_ == "Ready" && one.status == "True"),
            is_cordoned: spec.and_then(|spec| spec.unschedulable) == Some(true),
            taints: 0,
            labels: Labels::read(object.metadata.labels.as_ref(), symbols),
        };
        let taints = taints.into_iter().collect();
        self.nodes.push(NodeFacts { node, taints, allocatable, slots: slots.unwrap_or(0) });
    }

    /// Takes a Pod in; one that is over takes nothing.
    pub fn pod(&mut self, object: &PodObject) {
        if pods::is_finished(object) {
            return;
        }
        let status = object.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        let id = self.pods.len();
        let (symbols, dimensions) = (&mut self.symbols, &mut self.dimensions);
        let requests = Reader { symbols, dimensions }.requests(object);
        let metadata = &object.metadata;
        let namespace = symbols.of(metadata.namespace.as_deref().unwrap_or_default());
        let owner = controller(metadata, namespace, symbols);
        let (is_daemon, is_static) = (pods::daemon_set(object).is_some(), pods::is_static(object));
        let spec = object.spec.as_ref();
        let named = |name: Option<&String>| name.filter(|name| !name.is_empty()).cloned();
        let bound = named(spec.and_then(|spec| spec.node_name.as_ref()));
        let nominated = named(status.and_then(|status| status.nominated_node_name.as_ref()));
        let is_going = metadata.deletion_timestamp.is_some();
        let is_gated = spec.is_some_and(|spec| spec.scheduling_gates.iter().flatten().count() > 0);
        let waits = bound.is_none() && nominated.is_none() && !is_gated && !is_going;
        let node = bound.or(nominated).map(|name| symbols.of(&name));
        for claim in class::all_claims(object) {
            self.mounted.push((id, symbols.of(&claim)));
        }
        let notes = notes::read(object, is_daemon, is_static);
        if !notes.is_empty() {
            self.notes.insert(id, notes);
        }
        if requests.held != requests.asked {
            self.held.insert(id, requests.held);
        }
        let class = class::read(object, requests.asked, requests.counted, symbols);
        let next = self.classes.len();
        let pod = Pod {
            namespace,
            name: metadata.name.as_deref().unwrap_or_default().into(),
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            class: *self.classes.entry(class).or_insert(next),
            node: None,
            owner,
            made_s: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            is_ready: pods::is_ready(object),
            is_pending: phase == Some("Pending"),
            is_going,
            stays: is_daemon || is_static,
            waits,
        };
        self.pods.push((pod, node));
    }

    /// Takes a PersistentVolume in.
    pub fn volume(&mut self, object: &PersistentVolume) {
        self.storage.volume(object, &mut self.symbols);
    }

    /// Takes a PersistentVolumeClaim in.
    pub fn claim(&mut self, object: &PersistentVolumeClaim) {
        self.storage.claim(object, &mut self.symbols);
    }

    /// Takes a StorageClass in.
    pub fn storage_class(&mut self, object: &StorageClass) {
        self.storage.class(object, &mut self.symbols);
    }

    /// Takes a CSINode in: how many volumes of a driver its node can have.
    pub fn csi_node(&mut self, object: &CSINode) {
        let node = self.symbols.of(object.metadata.name.as_deref().unwrap_or_default());
        for driver in &object.spec.drivers {
            if let Some(count) = driver.allocatable.as_ref().and_then(|one| one.count) {
                self.limits.push((node, self.symbols.of(&driver.name), count.into()));
            }
        }
    }

    /// Takes a Namespace in.
    pub fn namespace(&mut self, object: &Namespace) {
        let name = self.symbols.of(object.metadata.name.as_deref().unwrap_or_default());
        let labels = Labels::read(object.metadata.labels.as_ref(), &mut self.symbols);
        self.namespaces.insert(name, labels);
    }

    /// Takes a PriorityClass in.
    pub fn priority_class(&mut self, object: &PriorityClass) {
        let name = self.symbols.of(object.metadata.name.as_deref().unwrap_or_default());
        let value = object.value.unwrap_or(0);
        if object.global_default == Some(true) {
            self.default_priority = value;
        }
        self.priorities.insert(name, value);
    }

    /// Takes a PodDisruptionBudget in.
    pub fn budget(&mut self, object: &PodDisruptionBudget) {
        self.budgets.add(object, &mut self.symbols);
    }

    /// Takes a ReplicaSet in.
    pub fn replica_set(&mut self, object: &ReplicaSet) {
        self.workloads.replica_set(object, &mut self.symbols);
    }

    /// Takes a StatefulSet in.
    pub fn stateful_set(&mut self, object: &StatefulSet) {
        self.workloads.stateful_set(object, &mut self.symbols);
    }

    /// Takes a Deployment in.
    pub fn deployment(&mut self, object: &Deployment) {
        self.workloads.deployment(object, &mut self.symbols);
    }

    /// Puts everything together.
    pub fn build(mut self) -> Model {
        self.nodes.sort_by(|a, b| {
            let name = |facts: &NodeFacts| self.symbols.text(facts.node.name);
            name(a).cmp(name(b))
        });
        let taints = share_taints(&mut self.nodes);
        let names = self.nodes.iter().map(|facts| facts.node.name);
        let node_ids: HashMap<Symbol, NodeId> = names.zip(0..).collect();
        let mut classes = in_order(std::mem::take(&mut self.classes));
        resolve_namespaces(&mut classes, &self.namespaces, &self.symbols);
        let pods: Vec<Pod> = std::mem::take(&mut self.pods)
            .into_iter()
            .map(|(pod, node)| Pod {
                node: node.and_then(|node| node_ids.get(&node).copied()),
                ..pod
            })
            .collect();
        let mounts: Vec<Mounts> =
            classes.iter().map(|class| self.storage.mounts(class, &self.symbols)).collect();
        let mut room = self.room(&classes, &pods);
        self.limit_volumes(&mut room, &mut classes, &mounts, &pods, &node_ids);
        let of_all = |dimension| {
            let amounts = self.nodes.iter().map(|facts| facts.allocatable.get(dimension));
            amounts.collect::<Vec<i64>>()
        };
        let capacity = [of_all(CPU), of_all(MEMORY)];
        let nodes: Vec<Node> = self.nodes.into_iter().map(|facts| facts.node).collect();
        let index = Index::new(&nodes, &classes, &pods, &self.storage, &self.workloads);
        Model {
            cordon: Taint::unschedulable(&mut self.symbols),
            symbols: self.symbols,
            dimensions: self.dimensions,
            nodes,
            node_ids,
            taints,
            classes,
            mounts,
            pods,
            notes: self.notes,
            storage: self.storage,
            workloads: self.workloads,
            budgets: self.budgets,
            priorities: self.priorities,
            default_priority: self.default_priority,
            room,
            capacity,
            index,
        }
    }

    /// What the pods leave of what the nodes have.
    fn room(&self, classes: &[Class], pods: &[Pod]) -> Room {
        let of_all = |dimension| {
            let amounts = self.nodes.iter().map(|facts| facts.allocatable.get(dimension));
            amounts.collect()
        };
        let free = self.dimensions.iter().map(of_all).collect();
        let slots = self.nodes.iter().map(|facts| facts.slots).collect();
        let mut room = Room::new(free, slots);
        for (id, pod) in pods.iter().enumerate() {
            let Some(node) = pod.node else { continue };
            let class = &classes[pod.class];
            room.take(node, self.held.get(&id).unwrap_or(&class.asked), class.counted);
        }
        room
    }

    /// Makes the volumes of each driver with limits a resource of nodes. A volume that several pods
    /// of a node share is attached once; a new pod is taken to need all of its own.
    fn limit_volumes(
        &mut self,
        room: &mut Room,
        classes: &mut [Class],
        mounts: &[Mounts],
        pods: &[Pod],
        node_ids: &HashMap<Symbol, NodeId>,
    ) {
        let limited: BTreeSet<Symbol> = self.limits.iter().map(|one| one.1).collect();
        for driver in &limited {
            let dimension = self.dimensions.volumes(*driver);
            let limits = self.limits.iter().filter(|one| one.1 == *driver);
            let limits = limits.filter_map(|(node, _, count)| Some((*node_ids.get(node)?, *count)));
            room.limit(dimension, limits);
            for (class, mounts) in classes.iter_mut().zip(mounts) {
                let asked = mounts.drivers.iter().filter(|one| *one == driver).count();
                if asked > 0 {
                    class.asked.set(dimension, asked as i64);
                }
            }
        }
        let mut attached = HashSet::new();
        for (id, claim) in &self.mounted {
            let pod = &pods[*id];
            let volume = self.storage.bound(pod.namespace, *claim);
            let csi = volume.and_then(|volume| self.storage.volumes[volume].csi);
            if let (Some(node), Some(csi)) = (pod.node, csi)
                && limited.contains(&csi.0)
                && attached.insert((node, csi))
            {
                room.attach(node, self.dimensions.volumes(csi.0));
            }
        }
    }
}

/// The classes by their numbers.
fn in_order(classes: HashMap<Class, ClassId>) -> Vec<Class> {
    let mut classes: Vec<(Class, ClassId)> = classes.into_iter().collect();
    classes.sort_unstable_by_key(|one| one.1);
    classes.into_iter().map(|one| one.0).collect()
}

/// Lets nodes with the same taints share them.
fn share_taints(nodes: &mut [NodeFacts]) -> Vec<Box<[Taint]>> {
    let mut known: HashMap<Box<[Taint]>, usize> = HashMap::new();
    for facts in nodes {
        let next = known.len();
        facts.node.taints = *known.entry(std::mem::take(&mut facts.taints)).or_insert(next);
    }
    let mut sets: Vec<_> = known.into_iter().collect();
    sets.sort_unstable_by_key(|one| one.1);
    sets.into_iter().map(|one| one.0).collect()
}

/// Puts the namespaces that terms select into them.
fn resolve_namespaces(
    classes: &mut [Class],
    namespaces: &HashMap<Symbol, Labels>,
    symbols: &Symbols,
) {
    for class in classes {
        for term in class.affinity.iter_mut().chain(&mut class.anti_affinity) {
            let Namespaces::Some(names, selector) = &mut term.namespaces else { continue };
            let Some(selector) = selector.take() else { continue };
            let selected =
                namespaces.iter().filter(|(_, labels)| selector.matches(labels, symbols));
            let all: BTreeSet<Symbol> =
                names.iter().copied().chain(selected.map(|(name, _)| *name)).collect();
            *names = all.into_iter().collect();
        }
    }
}
