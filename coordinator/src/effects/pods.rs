//! What kinds of pods there are, and which disruption budgets guard them.

use std::collections::BTreeMap;

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::core::{Selector, SelectorExt};

/// `namespace/name`.
pub(super) fn name(pod: &Pod) -> String {
    full_name(pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref())
}

/// `namespace/name` of anything in a namespace.
pub(super) fn full_name(namespace: Option<&str>, name: Option<&str>) -> String {
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// Kind and name of the controller that would make the pod anew.
pub(super) fn controller(pod: &Pod) -> Option<(&str, &str)> {
    let owners = pod.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    controllers.next().map(|owner| (owner.kind.as_str(), owner.name.as_str()))
}

/// `namespace/name` of the DaemonSet that the pod belongs to.
pub(super) fn daemon_set(pod: &Pod) -> Option<String> {
    let (_, name) = controller(pod).filter(|(kind, _)| *kind == "DaemonSet")?;
    Some(full_name(pod.metadata.namespace.as_deref(), Some(name)))
}

/// Whether it is over.
pub(super) fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether it must be moved before the node can go: it belongs to no DaemonSet, is no static pod
/// (whose mirror cannot be evicted), and is not over.
pub(super) fn is_movable(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let mirror = annotations.is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"));
    !mirror && daemon_set(pod).is_none() && !is_finished(pod)
}

/// Whether it is Ready and stays.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// The budgets that guard a pod. One whose selector cannot be understood guards every pod of its
/// namespace: rather one too many than one too few.
pub(super) fn budgets<'a>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::testing::{budget, from, pod};

    #[test]
    fn daemons_static_and_finished_pods_need_not_move() {
        assert!(is_movable(&pod("web-1", "n1", "ReplicaSet")));
        assert!(!is_movable(&pod("proxy-1", "n1", "DaemonSet")));
        let mut mirror = pod("nginx-proxy-n1", "n1", "Node");
        let mark = ("kubernetes.io/config.mirror".to_owned(), "hash".to_owned());
        mirror.metadata.annotations = Some([mark].into());
        assert!(!is_movable(&mirror));
        let mut over = pod("job-1", "n1", "Job");
        over.status = from(serde_json::json!({"phase": "Failed"}));
        assert!(!is_movable(&over));
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
