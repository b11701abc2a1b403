//! What of a pod the scheduler looks at. Pods of one workload are alike in it, and share a class.

use k8s_openapi::{
    api::core::v1::{
        Affinity, NodeSelector, Pod, PodAffinityTerm, PodSpec, Taint as ObjectTaint, Toleration,
        TopologySpreadConstraint, Volume,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{
    labels::{Labels, Requirement, Selector, Test},
    resources::Amounts,
    symbols::{Symbol, Symbols},
};

/// The key of the taint of a cordoned node.
pub(super) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Pods that no filter can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Class {
    /// Namespace.
    pub(super) namespace: Symbol,
    /// Labels.
    pub(super) labels: Labels,
    /// Priority that the pods have; a new one gets that of the class of this name, or the default.
    pub(super) priority: i32,
    /// Name of the PriorityClass.
    pub(super) priority_class: Option<Symbol>,
    /// Whether it may make others go.
    pub(super) preempts: bool,
    /// What it asks for.
    pub(super) asked: Amounts,
    /// What it counts for when nodes are compared: processor and memory.
    pub(super) counted: [i64; 2],
    /// Taints that it bears.
    pub(super) tolerations: Box<[Tolerated]>,
    /// Labels that the node must have.
    pub(super) node_labels: Box<[Requirement]>,
    /// Terms of which the node must match one; `None` if there are no terms.
    pub(super) node_terms: Option<Box<[NodeTerm]>>,
    /// Pods that it must be near.
    pub(super) affinity: Box<[Term]>,
    /// Pods that it must be apart from.
    pub(super) anti_affinity: Box<[Term]>,
    /// How it must be spread (`DoNotSchedule`).
    pub(super) spread: Box<[Spread]>,
    /// Ports that it takes on its node.
    pub(super) ports: Box<[Port]>,
    /// Claims of its namespace that it mounts.
    pub(super) claims: Box<[Symbol]>,
    /// Storage classes of claims that are made with it and go with it; `None` is the default one.
    pub(super) ephemeral: Box<[Option<Symbol>]>,
}

/// A toleration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tolerated {
    key: Option<Symbol>,
    value: Symbol,
    effect: Option<Symbol>,
    exists: bool,
    odd: bool,
}

/// A taint that keeps pods away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Taint {
    key: Symbol,
    value: Symbol,
    effect: Symbol,
}

/// One term of a node affinity: all of it must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeTerm {
    /// Of labels.
    pub(super) labels: Box<[Requirement]>,
    /// Of the name.
    pub(super) name: Box<[Test]>,
}

/// One term of an affinity or anti-affinity between pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Term {
    /// Key of the label whose values are the domains.
    pub(super) topology: Symbol,
    /// Which pods.
    pub(super) selector: Selector,
    /// In which namespaces.
    pub(super) namespaces: Namespaces,
}

/// Namespaces of a term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Namespaces {
    /// All.
    All,
    /// These; and, until the namespaces are known, those that are selected.
    Some(Box<[Symbol]>, Option<Selector>),
}

/// A hard topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spread {
    /// Key of the label whose values are the domains.
    pub(super) topology: Symbol,
    /// Which pods of the namespace are counted.
    pub(super) selector: Selector,
    /// By how many a domain may exceed the emptiest one.
    pub(super) max_skew: i64,
    /// With fewer domains, the emptiest one counts as empty.
    pub(super) min_domains: usize,
    /// Only nodes that match the pod's node affinity have domains.
    pub(super) honors_affinity: bool,
    /// Only nodes whose taints the pod bears have domains.
    pub(super) honors_taints: bool,
}

/// A port of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Port {
    /// `None` is every address.
    address: Option<Symbol>,
    protocol: Symbol,
    number: i32,
}

impl Port {
    /// Whether two pods cannot have both on one node.
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        self.number == other.number
            && self.protocol == other.protocol
            && (self.address.is_none() || other.address.is_none() || self.address == other.address)
    }
}

impl Term {
    /// Whether it is about pods of this class, whose namespace has been resolved.
    pub(super) fn matches(&self, class: &Class, symbols: &Symbols) -> bool {
        let here = match &self.namespaces {
            Namespaces::All => true,
            Namespaces::Some(names, _) => names.contains(&class.namespace),
        };
        here && self.selector.matches(&class.labels, symbols)
    }
}

impl Spread {
    /// Whether it counts pods of this class, for a pod of a namespace.
    pub(super) fn counts(&self, namespace: Symbol, class: &Class, symbols: &Symbols) -> bool {
        // The scheduler counts nothing for an empty selector.
        class.namespace == namespace
            && !self.selector.is_empty()
            && self.selector.matches(&class.labels, symbols)
    }
}

impl Taint {
    /// A taint that keeps new pods away; `None` for one that only asks them to stay away.
    pub(super) fn read(taint: &ObjectTaint, symbols: &mut Symbols) -> Option<Self> {
        let keeps_away = matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
        let value = taint.value.as_deref().unwrap_or_default();
        keeps_away.then(|| Self {
            key: symbols.of(&taint.key),
            value: symbols.of(value),
            effect: symbols.of(&taint.effect),
        })
    }

    /// The taint that a cordoned node gets.
    pub(super) fn unschedulable(symbols: &mut Symbols) -> Self {
        Self {
            key: symbols.of(UNSCHEDULABLE),
            value: symbols.of(""),
            effect: symbols.of("NoSchedule"),
        }
    }
}

impl Tolerated {
    fn read(toleration: &Toleration, symbols: &mut Symbols) -> Self {
        let operator = toleration.operator.as_deref().unwrap_or_default();
        Self {
            key: named(toleration.key.as_deref()).map(|key| symbols.of(key)),
            value: symbols.of(toleration.value.as_deref().unwrap_or_default()),
            effect: named(toleration.effect.as_deref()).map(|effect| symbols.of(effect)),
            exists: operator == "Exists",
            odd: !matches!(operator, "" | "Equal" | "Exists"),
        }
    }

    /// Whether it bears a taint.
    pub(super) fn bears(&self, taint: &Taint) -> bool {
        !self.odd
            && self.effect.is_none_or(|effect| effect == taint.effect)
            && self.key.is_none_or(|key| key == taint.key)
            && (self.exists || self.value == taint.value)
    }
}

impl NodeTerm {
    /// The terms of a node selector; one that asks for nothing matches nothing, and is left out.
    pub(super) fn read(selector: &NodeSelector, symbols: &mut Symbols) -> Box<[Self]> {
        let terms = selector.node_selector_terms.iter();
        let mut read = Vec::new();
        for term in terms {
            let labels = term.match_expressions.iter().flatten();
            let labels: Box<[_]> = labels.map(|one| Requirement::of_node(one, symbols)).collect();
            let fields = term.match_fields.iter().flatten();
            let name: Box<[_]> = fields
                .map(|one| match one.key.as_str() {
                    "metadata.name" => Requirement::of_node(one, symbols).test,
                    _ => Test::Never,
                })
                .collect();
            if !labels.is_empty() || !name.is_empty() {
                read.push(Self { labels, name });
            }
        }
        read.into()
    }
}

/// Reads the class of a pod whose requests are known.
pub(super) fn read(pod: &Pod, asked: Amounts, counted: [i64; 2], symbols: &mut Symbols) -> Class {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let namespace = symbols.of(pod.metadata.namespace.as_deref().unwrap_or_default());
    let labels = Labels::read(pod.metadata.labels.as_ref(), symbols);
    let affinity = spec.affinity.clone().unwrap_or_default();
    let mut terms = |terms: Option<&Vec<PodAffinityTerm>>| -> Box<[Term]> {
        let terms = terms.into_iter().flatten();
        terms.map(|term| self::term(term, namespace, symbols)).collect()
    };
    let (near, apart) = (required_near(&affinity), required_apart(&affinity));
    let (near, apart) = (terms(near), terms(apart));
    let selector = spec.node_selector.iter().flatten();
    let node_labels =
        selector.map(|(key, value)| Requirement::equal(key, value, symbols)).collect();
    let node = affinity.node_affinity.as_ref();
    let node =
        node.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let spreads = spec.topology_spread_constraints.iter().flatten();
    let hard = spreads.filter(|one| one.when_unsatisfiable == "DoNotSchedule");
    Class {
        namespace,
        priority: spec.priority.unwrap_or_default(),
        priority_class: named(spec.priority_class_name.as_deref()).map(|name| symbols.of(name)),
        preempts: spec.preemption_policy.as_deref() != Some("Never"),
        asked,
        counted,
        tolerations: (spec.tolerations.iter().flatten())
            .map(|one| Tolerated::read(one, symbols))
            .collect(),
        node_labels,
        node_terms: node.map(|selector| NodeTerm::read(selector, symbols)),
        affinity: near,
        anti_affinity: apart,
        spread: hard.map(|one| spread(one, &labels, symbols)).collect(),
        ports: ports(spec, symbols),
        claims: claims(spec, symbols),
        ephemeral: ephemeral(spec, symbols),
        labels,
    }
}

fn named(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn required_near(affinity: &Affinity) -> Option<&Vec<PodAffinityTerm>> {
    let near = affinity.pod_affinity.as_ref()?;
    near.required_during_scheduling_ignored_during_execution.as_ref()
}

fn required_apart(affinity: &Affinity) -> Option<&Vec<PodAffinityTerm>> {
    let apart = affinity.pod_anti_affinity.as_ref()?;
    apart.required_during_scheduling_ignored_during_execution.as_ref()
}

/// `matchLabelKeys` of a term need no care: the API server has put them into its selector.
fn term(term: &PodAffinityTerm, namespace: Symbol, symbols: &mut Symbols) -> Term {
    let names = term.namespaces.as_deref().unwrap_or_default();
    let namespaces = match &term.namespace_selector {
        None if names.is_empty() => Namespaces::Some([namespace].into(), None),
        Some(selector) if is_empty(selector) => Namespaces::All,
        selector => {
            let selected = selector.as_ref().map(|one| Selector::read(Some(one), symbols));
            Namespaces::Some(names.iter().map(|name| symbols.of(name)).collect(), selected)
        }
    };
    let selector = Selector::read(term.label_selector.as_ref(), symbols);
    Term { topology: symbols.of(&term.topology_key), selector, namespaces }
}

fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.iter().flatten().next().is_none()
        && selector.match_expressions.iter().flatten().next().is_none()
}

fn spread(read: &TopologySpreadConstraint, labels: &Labels, symbols: &mut Symbols) -> Spread {
    let mut selector = Selector::read(read.label_selector.as_ref(), symbols).0.into_vec();
    for key in read.match_label_keys.iter().flatten() {
        let key = symbols.of(key);
        if let Some(value) = labels.get(key) {
            selector.push(Requirement { key, test: Test::In([value].into()) });
        }
    }
    Spread {
        topology: symbols.of(&read.topology_key),
        selector: Selector(selector.into()),
        max_skew: read.max_skew.into(),
        min_domains: read.min_domains.and_then(|least| least.try_into().ok()).unwrap_or(1),
        honors_affinity: read.node_affinity_policy.as_deref() != Some("Ignore"),
        honors_taints: read.node_taints_policy.as_deref() == Some("Honor"),
    }
}

/// The host ports of containers that run as long as the pod.
fn ports(spec: &PodSpec, symbols: &mut Symbols) -> Box<[Port]> {
    let init = spec.init_containers.iter().flatten();
    let sidecars = init.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let ports = sidecars.chain(&spec.containers).flat_map(|one| one.ports.iter().flatten());
    let mut taken = Vec::new();
    for port in ports {
        let Some(number) = port.host_port.filter(|number| *number > 0) else { continue };
        let address = named(port.host_ip.as_deref()).filter(|address| *address != "0.0.0.0");
        let protocol = named(port.protocol.as_deref()).unwrap_or("TCP");
        let address = address.map(|address| symbols.of(address));
        taken.push(Port { address, protocol: symbols.of(protocol), number });
    }
    taken.into()
}

/// Names of the claims that a pod mounts now, those that go with it too.
pub(super) fn all_claims(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let claim = |volume: &Volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{name}-{}", volume.name)),
        (None, None) => None,
    };
    volumes.filter_map(claim).collect()
}

/// The claims that outlive the pod.
fn claims(spec: &PodSpec, symbols: &mut Symbols) -> Box<[Symbol]> {
    let volumes = spec.volumes.iter().flatten();
    let claims = volumes.filter_map(|one| one.persistent_volume_claim.as_ref());
    claims.map(|claim| symbols.of(&claim.claim_name)).collect()
}

fn ephemeral(spec: &PodSpec, symbols: &mut Symbols) -> Box<[Option<Symbol>]> {
    let volumes = spec.volumes.iter().flatten().filter_map(|one| one.ephemeral.as_ref());
    volumes
        .map(|one| {
            let template = one.volume_claim_template.as_ref();
            let class = template.and_then(|template| template.spec.storage_class_name.as_deref());
            named(class).map(|class| symbols.of(class))
        })
        .collect()
}
