//! The filters that look at where other pods are: PodTopologySpread and InterPodAffinity.
//!
//! What a class of pods asks of other pods is counted once, domain by domain, and kept up to date
//! with every pod that a simulation places.

use super::{
    class::{Class, Spread},
    filters::{Filter, Statics},
    index::Topology,
    model::{ClassId, Model, NodeId, Pod},
    symbols::Symbol,
};

/// What one class asks of other pods.
#[derive(Debug)]
pub(super) struct Constraints<'m> {
    class: ClassId,
    affinity: Vec<&'m Topology>,
    /// Whether the pod is one of those that it must be near: then the first may go anywhere.
    is_near_itself: bool,
    anti_affinity: Vec<&'m Topology>,
    spread: Vec<Rule<'m>>,
}

#[derive(Debug)]
struct Rule<'m> {
    spread: &'m Spread,
    topology: &'m Topology,
    /// One, if the pod itself is counted.
    itself: i64,
    /// Nodes whose pods are counted.
    counts_on: Vec<bool>,
    /// Domains that have such a node.
    is_domain: Vec<bool>,
    domains: usize,
}

/// Pods by domain, for each of the constraints.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    affinity: Vec<Vec<u32>>,
    affinity_pods: u64,
    anti_affinity: Vec<Vec<u32>>,
    spread: Vec<Vec<u32>>,
    /// Pods that must be apart from this one, by topology key.
    repelling: Vec<(Symbol, Vec<u32>)>,
}

impl<'m> Constraints<'m> {
    /// Those of a class, for nodes that are about to be cordoned.
    pub(super) fn new(model: &'m Model, id: ClassId, statics: &Statics) -> Self {
        let class = &model.classes[id];
        let topology = |key: &Symbol| &model.index.topologies[key];
        let nodes = model.nodes.len();
        let keys: Vec<&Topology> = class.spread.iter().map(|one| topology(&one.topology)).collect();
        let has_keys: Vec<bool> =
            (0..nodes).map(|node| keys.iter().all(|one| one.of[node].is_some())).collect();
        let rule = |spread: &'m Spread| {
            let topology = topology(&spread.topology);
            let counts_on: Vec<bool> = (0..nodes)
                .map(|node| {
                    has_keys[node]
                        && (!spread.honors_affinity || statics.has_affinity[node])
                        && (!spread.honors_taints || statics.bears[node])
                })
                .collect();
            let mut is_domain = vec![false; topology.sizes.len()];
            for node in (0..nodes).filter(|node| counts_on[*node]) {
                is_domain[topology.of[node].unwrap_or_default() as usize] = true;
            }
            let domains = is_domain.iter().filter(|is| **is).count();
            let itself = spread.selector.matches(&class.labels, &model.symbols).into();
            Rule { spread, topology, itself, counts_on, is_domain, domains }
        };
        Self {
            class: id,
            affinity: class.affinity.iter().map(|term| topology(&term.topology)).collect(),
            is_near_itself: is_near(model, class, id),
            anti_affinity: class
                .anti_affinity
                .iter()
                .map(|term| topology(&term.topology))
                .collect(),
            spread: class.spread.iter().map(rule).collect(),
        }
    }

    /// Whether a pod that is placed can make room for others of this class, or move the place where
    /// they must go: then the order of placing matters in both directions.
    pub(super) fn is_fickle(&self) -> bool {
        !self.affinity.is_empty() || !self.spread.is_empty()
    }

    /// Counts the pods that are placed, but for those that leave.
    pub(super) fn count(&self, model: &Model, leaves: impl Fn(&Pod) -> bool) -> Counts {
        let class = &model.classes[self.class];
        let empty = |topology: &&Topology| vec![0; topology.sizes.len()];
        let mut counts = Counts {
            affinity: self.affinity.iter().map(empty).collect(),
            affinity_pods: 0,
            anti_affinity: self.anti_affinity.iter().map(empty).collect(),
            spread: self.spread.iter().map(|rule| empty(&rule.topology)).collect(),
            repelling: Vec::new(),
        };
        let placed = |id: ClassId| {
            let pods = model.index.pods_of_class[id].iter().map(|pod| &model.pods[*pod]);
            pods.filter(|pod| !leaves(pod))
        };
        if let Some(term) = class.affinity.first() {
            for id in model.candidates(&term.selector, None) {
                if is_near(model, class, id) {
                    placed(id).for_each(|pod| counts.near(self, pod.node));
                }
            }
        }
        for (place, term) in class.anti_affinity.iter().enumerate() {
            for id in model.candidates(&term.selector, None) {
                if model.is_about(term, id) {
                    placed(id).for_each(|pod| counts.apart(self, place, pod.node));
                }
            }
        }
        for (place, rule) in self.spread.iter().enumerate() {
            for id in model.candidates(&rule.spread.selector, Some(class.namespace)) {
                if rule.spread.counts(class.namespace, &model.classes[id], &model.symbols) {
                    let stay = placed(id).filter(|pod| !pod.is_going);
                    stay.for_each(|pod| counts.spread(rule, place, pod.node));
                }
            }
        }
        for id in model.index.repelling(class.namespace) {
            for term in &model.classes[id].anti_affinity {
                if model.is_about(term, self.class) {
                    placed(id).for_each(|pod| counts.repel(model, term.topology, pod.node));
                }
            }
        }
        counts
    }

    /// Counts one pod more.
    pub(super) fn place(&self, model: &Model, counts: &mut Counts, other: ClassId, node: NodeId) {
        let (class, placed) = (&model.classes[self.class], &model.classes[other]);
        let node = Some(node);
        if !class.affinity.is_empty() && is_near(model, class, other) {
            counts.near(self, node);
        }
        for (place, term) in class.anti_affinity.iter().enumerate() {
            if model.is_about(term, other) {
                counts.apart(self, place, node);
            }
        }
        for (place, rule) in self.spread.iter().enumerate() {
            if rule.spread.counts(class.namespace, placed, &model.symbols) {
                counts.spread(rule, place, node);
            }
        }
        for term in &placed.anti_affinity {
            if model.is_about(term, self.class) {
                counts.repel(model, term.topology, node);
            }
        }
    }

    /// For each spread constraint, how many pods the emptiest domain has.
    pub(super) fn emptiest(&self, counts: &Counts) -> Vec<i64> {
        let least = |(rule, pods): (&Rule, &Vec<u32>)| {
            if rule.domains < rule.spread.min_domains {
                return 0;
            }
            let domains = pods.iter().zip(&rule.is_domain).filter(|(_, is)| **is);
            domains.map(|(pods, _)| i64::from(*pods)).min().unwrap_or(0)
        };
        self.spread.iter().zip(&counts.spread).map(least).collect()
    }

    /// Why a node refuses a pod of this class, if it does.
    pub(super) fn refuse(
        &self,
        model: &Model,
        counts: &Counts,
        emptiest: &[i64],
        node: NodeId,
    ) -> Option<Filter> {
        for ((rule, pods), least) in self.spread.iter().zip(&counts.spread).zip(emptiest) {
            let Some(domain) = rule.topology.of[node] else { return Some(Filter::SpreadLabel) };
            let skew = i64::from(pods[domain as usize]) + rule.itself - least;
            if skew > rule.spread.max_skew {
                return Some(Filter::Spread);
            }
        }
        let mut is_near = true;
        for (topology, pods) in self.affinity.iter().zip(&counts.affinity) {
            let Some(domain) = topology.of[node] else { return Some(Filter::Affinity) };
            is_near &= pods[domain as usize] > 0;
        }
        // The first of pods that must be near each other may go anywhere.
        let is_first = counts.affinity_pods == 0 && self.is_near_itself;
        if !(is_near || is_first) {
            return Some(Filter::Affinity);
        }
        let has = |topology: &Topology, pods: &[u32]| {
            topology.of[node].is_some_and(|domain| pods[domain as usize] > 0)
        };
        if self.anti_affinity.iter().zip(&counts.anti_affinity).any(|(one, pods)| has(one, pods)) {
            return Some(Filter::AntiAffinity);
        }
        let mut repelling = counts.repelling.iter();
        repelling
            .any(|(key, pods)| has(&model.index.topologies[key], pods))
            .then_some(Filter::ExistingAntiAffinity)
    }
}

impl Counts {
    fn near(&mut self, constraints: &Constraints, node: Option<NodeId>) {
        for (topology, pods) in constraints.affinity.iter().zip(&mut self.affinity) {
            self.affinity_pods += u64::from(add(topology, pods, node));
        }
    }

    fn apart(&mut self, constraints: &Constraints, place: usize, node: Option<NodeId>) {
        add(constraints.anti_affinity[place], &mut self.anti_affinity[place], node);
    }

    fn spread(&mut self, rule: &Rule, place: usize, node: Option<NodeId>) {
        if node.is_some_and(|node| rule.counts_on[node]) {
            add(rule.topology, &mut self.spread[place], node);
        }
    }

    fn repel(&mut self, model: &Model, key: Symbol, node: Option<NodeId>) {
        let topology = &model.index.topologies[&key];
        let place = self.repelling.iter().position(|one| one.0 == key).unwrap_or_else(|| {
            self.repelling.push((key, vec![0; topology.sizes.len()]));
            self.repelling.len() - 1
        });
        add(topology, &mut self.repelling[place].1, node);
    }
}

/// Counts a pod in the domain of its node, if it has one.
fn add(topology: &Topology, pods: &mut [u32], node: Option<NodeId>) -> bool {
    let domain = node.and_then(|node| topology.of[node]);
    if let Some(domain) = domain {
        pods[domain as usize] += 1;
    }
    domain.is_some()
}

/// Whether all affinity terms of a class are about pods of another.
fn is_near(model: &Model, class: &Class, other: ClassId) -> bool {
    !class.affinity.is_empty() && class.affinity.iter().all(|term| model.is_about(term, other))
}
