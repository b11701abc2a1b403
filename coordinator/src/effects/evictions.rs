//! One eviction through the Eviction API, which is the only way in which rehull moves a pod: it
//! keeps to disruption budgets, and so do we (invariant 33).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{Eviction, PodDisruptionBudget},
    },
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions},
};
use kube::{
    Api, Client,
    api::PostParams,
    core::{Selector, SelectorExt},
};
use rehull_shared::ids::NodeName;
use serde_json::Value;

use super::{
    Pass,
    api::{Failure, call, few},
};
use crate::{
    domain::{approval::Item, state::Subject},
    items, pods,
};

/// How an eviction was answered.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// The pod will go.
    Accepted,
    /// It has gone already, or another one has taken its name.
    Gone,
    /// The API server says no, and why.
    Refused(Failure),
    /// Nobody answered: the eviction may have been carried out all the same.
    Silent(Failure),
}

/// Asks for the eviction of exactly this pod; with `dry_run` nothing happens but the answer.
pub(super) async fn evict(client: &Client, pod: &Pod, dry_run: bool) -> Answer {
    let metadata = &pod.metadata;
    let (name, namespace) = (metadata.name.clone(), metadata.namespace.clone());
    let preconditions = Preconditions { uid: metadata.uid.clone(), ..Preconditions::default() };
    let eviction = Eviction {
        metadata: ObjectMeta { name, namespace, ..ObjectMeta::default() },
        delete_options: Some(DeleteOptions {
            preconditions: Some(preconditions),
            ..DeleteOptions::default()
        }),
    };
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = PostParams { dry_run, field_manager: None };
    let name = metadata.name.as_deref().unwrap_or_default();
    // Not `Api::evict`: it loses the delete options, and with them the precondition.
    match call(api.create_subresource::<_, Value>("eviction", name, &params, &eviction)).await {
        Ok(_) => Answer::Accepted,
        Err(failure) if failure.is_absence() => Answer::Gone,
        Err(Failure::Refused(status)) if status.code == 409 => Answer::Gone,
        Err(failure @ Failure::Refused(_)) => Answer::Refused(failure),
        Err(failure) => Answer::Silent(failure),
    }
}

/// A refusal in words: the pod, and the budgets that guard it or what the API server said.
pub(super) fn refusal(pod: &Pod, failure: &Failure, budgets: &[PodDisruptionBudget]) -> String {
    let guards = self::budgets(pod, budgets);
    let blocked = matches!(failure, Failure::Refused(status) if status.code == 429);
    if blocked && !guards.is_empty() {
        return format!(
            "{}: blocked by PDB {}",
            pods::name(pod),
            few(guards.into_iter().map(words))
        );
    }
    format!("{}: {failure}", pods::name(pod))
}

/// The budgets that guard a pod. One whose selector cannot be understood guards every pod of its
/// namespace: rather one too many than one too few.
pub(crate) fn budgets<'a>(
    pod: &Pod,
    all: &'a [PodDisruptionBudget],
) -> Vec<&'a PodDisruptionBudget> {
    let empty = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
    let guards = |budget: &&PodDisruptionBudget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
        budget.metadata.namespace == pod.metadata.namespace
            && selector.is_some_and(|selector| {
                Selector::try_from(selector).map_or(true, |selector| selector.matches(labels))
            })
    };
    all.iter().filter(guards).collect()
}

/// A budget and what it allows, in words.
fn words(budget: &PodDisruptionBudget) -> String {
    let (namespace, name) = (&budget.metadata.namespace, &budget.metadata.name);
    let name = pods::full_name(namespace.as_deref(), name.as_deref());
    match &budget.status {
        Some(status) => format!(
            "{name} ({} of {} needed pods are healthy)",
            status.current_healthy.unwrap_or(0),
            status.desired_healthy.unwrap_or(0)
        ),
        None => format!("{name} (it has no status yet)"),
    }
}

impl Pass<'_> {
    /// What stands in the way of evicting a pod of this node whatever a budget says: no controller
    /// would make it anew, and nobody accepts that now, of this very pod.
    pub(super) fn objection(&self, node: &NodeName, pod: &Pod) -> Option<Item> {
        let subject = Subject::Node(node.clone());
        let stays = pod.metadata.deletion_timestamp.is_none();
        let item = items::of_bare(pod).filter(|_| stays)?;
        self.migration.approval(&subject, &item, self.now()).is_none().then_some(item)
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;
    use crate::effects::testing::{budget, from, pod};

    #[test]
    fn a_refusal_names_the_pod_and_its_budget() {
        let web = pod("web-1", "n1", "ReplicaSet");
        let budgets = [budget("guard", "web", 0), budget("other", "db", 0)];
        let no = |code| Failure::Refused(Status::failure("no", "Because").with_code(code).boxed());
        assert_eq!(
            refusal(&web, &no(429), &budgets),
            "default/web-1: blocked by PDB default/guard (1 of 1 needed pods are healthy)"
        );
        assert_eq!(refusal(&web, &no(500), &budgets), "default/web-1: 500 Because: no");
        assert_eq!(refusal(&web, &no(429), &[]), "default/web-1: 429 Because: no");
    }

    #[test]
    fn budgets_guard_by_namespace_and_selector() {
        let web = pod("web-1", "n1", "ReplicaSet");
        let mut all = vec![budget("web", "web", 1), budget("db", "db", 1)];
        let of = |all: &[_]| budgets(&web, all).len();
        assert_eq!(of(&all), 1);
        all[0].metadata.namespace = Some("other".into());
        assert_eq!(of(&all), 0, "budgets of other namespaces guard nobody here");
        all[1].spec = from(serde_json::json!({"selector": {}}));
        assert_eq!(of(&all), 1, "an empty selector is for every pod of the namespace");
        let odd = serde_json::json!({"matchExpressions": [{"key": "a", "operator": "Odd"}]});
        all[1].spec = from(serde_json::json!({"selector": odd}));
        assert_eq!(of(&all), 1, "what cannot be understood guards");
    }
}
