//! Where to look: the way from a label, a namespace, a node to what it is about.

use std::collections::{BTreeSet, HashMap};

use super::{
    class::{Class, Namespaces, NodeTerm, Port, Spread},
    labels::Selector,
    model::{ClassId, Node, NodeId, Pod, PodId},
    storage::Storage,
    symbols::Symbol,
    workloads::{Key, Workloads},
};

/// Domains of one topology key.
#[derive(Debug)]
pub(super) struct Topology {
    /// The domain of each node; `None` where the label is missing.
    pub(super) of: Vec<Option<u32>>,
    /// Nodes in each domain.
    pub(super) sizes: Vec<u32>,
}

/// All indexes of a snapshot.
#[derive(Debug)]
pub(super) struct Index {
    /// The value of every label key that somebody asks nodes for, by node.
    pub(super) columns: HashMap<Symbol, Vec<Option<Symbol>>>,
    /// Domains, by topology key.
    pub(super) topologies: HashMap<Symbol, Topology>,
    /// The pods that are placed on each node.
    pub(super) pods_of_node: Vec<Vec<PodId>>,
    /// The placed pods of each class.
    pub(super) pods_of_class: Vec<Vec<PodId>>,
    /// All pods of a class that wait for a node.
    pub(super) waiting: Vec<PodId>,
    /// All pods behind which a workload stands in the end.
    pub(super) pods_of_root: HashMap<Key, Vec<PodId>>,
    /// Host ports that are taken on each node.
    pub(super) ports: HashMap<NodeId, Vec<Port>>,
    by_label: HashMap<(Symbol, Symbol), Vec<ClassId>>,
    by_namespace: HashMap<Symbol, Vec<ClassId>>,
    /// Classes with an anti-affinity that may be about pods of a namespace.
    repelling: HashMap<Symbol, Vec<ClassId>>,
    /// Those whose anti-affinity may be about pods of every namespace.
    repelling_all: Vec<ClassId>,
}

impl Index {
    /// Makes them all.
    pub(super) fn new(
        nodes: &[Node],
        classes: &[Class],
        pods: &[Pod],
        storage: &Storage,
        workloads: &Workloads,
    ) -> Self {
        let columns = columns(nodes, classes, storage);
        let mut index = Self {
            topologies: topologies(classes, &columns),
            columns,
            pods_of_node: vec![Vec::new(); nodes.len()],
            pods_of_class: vec![Vec::new(); classes.len()],
            waiting: Vec::new(),
            pods_of_root: HashMap::new(),
            ports: HashMap::new(),
            by_label: HashMap::new(),
            by_namespace: HashMap::new(),
            repelling: HashMap::new(),
            repelling_all: Vec::new(),
        };
        for (id, pod) in pods.iter().enumerate() {
            if let Some(node) = pod.node {
                index.pods_of_node[node].push(id);
                index.pods_of_class[pod.class].push(id);
                let ports = &classes[pod.class].ports;
                if !ports.is_empty() {
                    index.ports.entry(node).or_default().extend(ports);
                }
            } else if pod.waits {
                index.waiting.push(id);
            }
            if let Some(owner) = pod.owner {
                index.pods_of_root.entry(workloads.root(owner)).or_default().push(id);
            }
        }
        for (id, class) in classes.iter().enumerate() {
            index.class(id, class);
        }
        index
    }

    fn class(&mut self, id: ClassId, class: &Class) {
        for pair in class.labels.iter() {
            self.by_label.entry(pair).or_default().push(id);
        }
        self.by_namespace.entry(class.namespace).or_default().push(id);
        let mut namespaces = BTreeSet::new();
        let mut is_about_all = false;
        for term in &class.anti_affinity {
            match &term.namespaces {
                Namespaces::All => is_about_all = true,
                Namespaces::Some(names, _) => namespaces.extend(names),
            }
        }
        if is_about_all {
            self.repelling_all.push(id);
        } else {
            for namespace in namespaces {
                self.repelling.entry(namespace).or_default().push(id);
            }
        }
    }

    /// Classes that a selector may select, rather too many than too few: those that share its
    /// rarest label, those of the namespace, or all of them.
    pub(super) fn candidates(
        &self,
        selector: &Selector,
        namespace: Option<Symbol>,
        all: usize,
    ) -> Vec<ClassId> {
        let list = |classes: Option<&'_ Vec<ClassId>>| classes.cloned().unwrap_or_default();
        let by_label = selector.exact().map(|pair| self.by_label.get(&pair));
        let here = namespace.map(|namespace| self.by_namespace.get(&namespace));
        match by_label.chain(here).min_by_key(|classes| classes.map_or(0, Vec::len)) {
            Some(classes) => list(classes),
            None => (0..all).collect(),
        }
    }

    /// Classes with an anti-affinity that may be about pods of a namespace.
    pub(super) fn repelling(&self, namespace: Symbol) -> impl Iterator<Item = ClassId> {
        let here = self.repelling.get(&namespace).into_iter().flatten();
        here.chain(&self.repelling_all).copied()
    }
}

/// A column for every key that a filter may ask nodes for, and for no other: nodes can have
/// hundreds of labels.
fn columns(
    nodes: &[Node],
    classes: &[Class],
    storage: &Storage,
) -> HashMap<Symbol, Vec<Option<Symbol>>> {
    let mut keys = BTreeSet::new();
    let of_terms = |terms: &[NodeTerm], keys: &mut BTreeSet<Symbol>| {
        keys.extend(terms.iter().flat_map(|term| &term.labels).map(|one| one.key));
    };
    for class in classes {
        keys.extend(class.node_labels.iter().map(|one| one.key));
        of_terms(class.node_terms.as_deref().unwrap_or_default(), &mut keys);
        keys.extend(topology_keys(class));
    }
    for volume in &storage.volumes {
        of_terms(volume.terms.as_deref().unwrap_or_default(), &mut keys);
    }
    keys.extend(storage.keys());
    let column = |key| nodes.iter().map(|node| node.labels.get(key)).collect();
    keys.into_iter().map(|key| (key, column(key))).collect()
}

fn topology_keys(class: &Class) -> impl Iterator<Item = Symbol> {
    let terms = class.affinity.iter().chain(&class.anti_affinity).map(|term| term.topology);
    terms.chain(class.spread.iter().map(|Spread { topology, .. }| *topology))
}

fn topologies(
    classes: &[Class],
    columns: &HashMap<Symbol, Vec<Option<Symbol>>>,
) -> HashMap<Symbol, Topology> {
    let keys: BTreeSet<Symbol> = classes.iter().flat_map(topology_keys).collect();
    let domains = |key: Symbol| {
        let mut known: HashMap<Symbol, u32> = HashMap::new();
        let mut sizes = Vec::new();
        let of = columns[&key].iter().map(|value| {
            value.map(|value| {
                let next = sizes.len() as u32;
                let domain = *known.entry(value).or_insert(next);
                if domain == next {
                    sizes.push(0);
                }
                sizes[domain as usize] += 1;
                domain
            })
        });
        let of = of.collect();
        Topology { of, sizes }
    };
    keys.into_iter().map(|key| (key, domains(key))).collect()
}
