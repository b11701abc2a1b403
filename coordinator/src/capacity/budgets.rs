//! Which disruption budgets guard a pod, and what they say to its eviction.
//!
//! As the Eviction API does: `pkg/registry/core/pod/storage/eviction.go` of Kubernetes.

use std::collections::HashMap;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::{
    findings::{Finding, Healthy, Refusal, What},
    labels::Selector,
    model::{Model, Pod, PodId},
    symbols::{Symbol, Symbols},
};

/// A disruption budget.
#[derive(Debug)]
struct Budget {
    name: Symbol,
    /// `None` guards nobody.
    selector: Option<Selector>,
    /// Whether pods that are not Ready may go whatever else holds.
    always_allows_unhealthy: bool,
    /// Whether its status is about its newest version.
    is_processed: bool,
    allowed: i32,
    healthy: i32,
    desired: i32,
    expected: i32,
    /// Names of pods that are about to go.
    disrupted: Box<[Box<str>]>,
}

/// The budgets of a snapshot, by namespace.
#[derive(Debug, Default)]
pub(super) struct Budgets(HashMap<Symbol, Vec<Budget>>);

impl Budgets {
    /// Takes a budget in.
    pub(super) fn add(&mut self, object: &PodDisruptionBudget, symbols: &mut Symbols) {
        let metadata = &object.metadata;
        let namespace = symbols.of(metadata.namespace.as_deref().unwrap_or_default());
        let spec = object.spec.clone().unwrap_or_default();
        let observed = object.status.as_ref().map(|status| status.observed_generation.unwrap_or(0));
        let status = object.status.clone().unwrap_or_default();
        let disrupted = status.disrupted_pods.iter().flatten();
        let budget = Budget {
            name: symbols.of(metadata.name.as_deref().unwrap_or_default()),
            selector: spec.selector.map(|selector| Selector::read(Some(&selector), symbols)),
            always_allows_unhealthy: spec.unhealthy_pod_eviction_policy.as_deref()
                == Some("AlwaysAllow"),
            is_processed: observed
                .is_some_and(|observed| observed >= metadata.generation.unwrap_or(0)),
            allowed: status.disruptions_allowed.unwrap_or(0),
            healthy: status.current_healthy.unwrap_or(0),
            desired: status.desired_healthy.unwrap_or(0),
            expected: status.expected_pods.unwrap_or(0),
            disrupted: disrupted.map(|(name, _)| name.as_str().into()).collect(),
        };
        self.0.entry(namespace).or_default().push(budget);
    }
}

impl Model {
    /// What budgets have against the eviction of these pods.
    pub(super) fn disruptions(&self, evicted: &[PodId]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for id in evicted {
            let pod = &self.pods[*id];
            // What does not run yet, or is on its way, may always go.
            if pod.is_pending || pod.is_going {
                continue;
            }
            let budgets = self.guards(pod);
            let full = |budget: &Budget| self.full_name(pod.namespace, budget.name);
            let what = match budgets.as_slice() {
                [] => None,
                [one] => {
                    self.refusal(pod, one).map(|why| What::NoDisruption { budget: full(one), why })
                }
                many => {
                    Some(What::ManyBudgets { budgets: many.iter().map(|one| full(one)).collect() })
                }
            };
            findings.extend(what.map(|what| self.finding(*id, what)));
        }
        findings
    }

    /// The budgets that guard a pod. One whose selector cannot be understood guards every pod of
    /// its namespace: rather one too many than one too few.
    fn guards(&self, pod: &Pod) -> Vec<&Budget> {
        let labels = &self.classes[pod.class].labels;
        let guards = |budget: &&Budget| {
            let selector = budget.selector.as_ref();
            selector.is_some_and(|one| one.is_odd() || one.matches(labels, &self.symbols))
        };
        self.budgets.0.get(&pod.namespace).into_iter().flatten().filter(guards).collect()
    }

    fn refusal(&self, pod: &Pod, budget: &Budget) -> Option<Refusal> {
        let is_met = budget.healthy >= budget.desired && budget.desired > 0;
        if !pod.is_ready && (budget.always_allows_unhealthy || is_met) {
            return None;
        }
        if !budget.is_processed {
            return Some(Refusal::Unprocessed);
        }
        let current = budget.healthy.min(self.healthy(pod.namespace, budget));
        let healthy = Healthy { current, desired: budget.desired };
        let allowed = budget.allowed.min(current.saturating_sub(budget.desired));
        match allowed {
            1.. => None,
            _ if budget.desired >= budget.expected => Some(Refusal::Never(healthy)),
            _ => Some(Refusal::Now(healthy)),
        }
    }

    /// How many of the pods that a budget really selects are healthy, whatever its status says:
    /// that may be old.
    fn healthy(&self, namespace: Symbol, budget: &Budget) -> i32 {
        let Some(selector) = budget.selector.as_ref().filter(|one| !one.is_odd()) else {
            return budget.healthy;
        };
        let classes = self.candidates(selector, Some(namespace)).into_iter();
        let classes = classes.filter(|class| {
            let class = &self.classes[*class];
            class.namespace == namespace && selector.matches(&class.labels, &self.symbols)
        });
        let pods = classes.flat_map(|class| &self.index.pods_of_class[class]);
        let healthy = pods
            .map(|pod| &self.pods[*pod])
            .filter(|pod| pod.is_ready && !pod.is_going && !budget.disrupted.contains(&pod.name));
        i32::try_from(healthy.count()).unwrap_or(i32::MAX)
    }
}
