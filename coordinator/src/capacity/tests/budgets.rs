//! Disruption budgets, as the Eviction API reads them.

use serde_json::json;

use super::*;

/// The status of a budget for one of these many pods.
fn status(allowed: i32, healthy: i32, desired: i32, expected: i32) -> Value {
    json!({"disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": desired,
        "expectedPods": expected})
}

/// Three pods of `web`, of which one is on `n1`.
fn web(cluster: &mut Cluster, first: Value) {
    cluster.node("n1", json!({})).node("n2", json!({}));
    cluster.pod("web-1", "n1", first);
    cluster.pod("web-2", "n2", json!({})).pod("web-3", "n2", json!({}));
}

#[test]
fn a_budget_that_allows_one_disruption_lets_a_pod_go() {
    let mut cluster = Cluster::default();
    web(&mut cluster, json!({}));
    cluster.budget("guard", app("web"), status(1, 3, 2, 3));
    fits(&cluster.drain("n1"), 1);
}

#[test]
fn a_budget_that_allows_none_blocks_now_or_for_ever() {
    let mut cluster = Cluster::default();
    web(&mut cluster, json!({}));
    cluster.budget("guard", app("web"), status(0, 3, 3, 4));
    let line = "shop/web-1: blocked by PDB shop/guard (3 of 3 needed pods are healthy)";
    assert_eq!(lines(&cluster.drain("n1")), [line]);
    web(&mut cluster, json!({}));
    cluster.budget("guard", app("web"), status(0, 3, 3, 3));
    let line = "shop/web-1: blocked by PDB shop/guard (3 of 3 needed pods are healthy, which is \
                all of them)";
    assert_eq!(lines(&cluster.drain("n1")), [line]);
}

#[test]
fn a_budget_of_another_namespace_or_for_other_pods_blocks_nobody() {
    let mut cluster = Cluster::default();
    web(&mut cluster, json!({"metadata": {"namespace": "bank"}}));
    cluster.budget("guard", app("web"), status(0, 2, 2, 2));
    fits(&cluster.drain("n1"), 1);
    web(&mut cluster, json!({}));
    cluster.budget("guard", app("db"), status(0, 0, 0, 0));
    cluster.budget("none", json!(null), status(0, 0, 0, 0));
    fits(&cluster.drain("n1"), 1);
}

#[test]
fn an_empty_selector_guards_the_namespace_and_an_odd_one_too() {
    let odd = json!({"matchExpressions": [{"key": "a", "operator": "Odd"}]});
    for selector in [json!({}), odd] {
        let mut cluster = Cluster::default();
        web(&mut cluster, json!({}));
        cluster.budget("guard", selector, status(0, 3, 3, 3));
        assert_eq!(lines(&cluster.drain("n1")).len(), 1);
    }
}

#[test]
fn two_budgets_for_one_pod_are_one_too_many() {
    let mut cluster = Cluster::default();
    web(&mut cluster, json!({}));
    cluster.budget("guard", app("web"), status(1, 3, 2, 3));
    cluster.budget("all", json!({}), status(1, 3, 2, 3));
    let line = "shop/web-1: has more than one PodDisruptionBudget (shop/guard, shop/all), so the \
                Eviction API refuses";
    assert_eq!(lines(&cluster.drain("n1")), [line]);
}

#[test]
fn a_pod_that_is_not_ready_goes_if_the_others_are_enough_or_the_budget_says_so() {
    let sick = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let mut cluster = Cluster::default();
    web(&mut cluster, sick.clone());
    cluster.budget("guard", app("web"), status(0, 2, 2, 3));
    fits(&cluster.drain("n1"), 1);
    web(&mut cluster, sick.clone());
    cluster.budget("guard", app("web"), status(0, 2, 3, 3));
    assert_eq!(lines(&cluster.drain("n1")).len(), 1, "the others are not enough");
    web(&mut cluster, sick);
    let budget = json!({"metadata": {"name": "guard", "namespace": "shop"},
        "spec": {"selector": app("web"), "unhealthyPodEvictionPolicy": "AlwaysAllow"},
        "status": status(0, 2, 3, 3)});
    cluster.builder.budget(&serde_json::from_value(budget).unwrap());
    fits(&cluster.drain("n1"), 1);
}

#[test]
fn what_does_not_run_yet_may_always_go() {
    let mut cluster = Cluster::default();
    web(&mut cluster, json!({"status": {"phase": "Pending", "conditions": []}}));
    cluster.budget("guard", app("web"), status(0, 2, 3, 3));
    fits(&cluster.drain("n1"), 1);
}

#[test]
fn a_status_that_is_old_is_not_believed() {
    // It says three are healthy; two are.
    let mut cluster = Cluster::default();
    web(&mut cluster, json!({}));
    cluster.pod("web-4", "n2", json!({"status": {"conditions": []}}));
    cluster.budget("guard", app("web"), status(1, 4, 3, 4));
    let line = "shop/web-1: blocked by PDB shop/guard (3 of 3 needed pods are healthy)";
    assert_eq!(lines(&cluster.drain("n1")), [line]);
    for (generation, observed) in [(2, json!(1)), (1, json!(null))] {
        web(&mut cluster, json!({}));
        let mut old = status(1, 3, 2, 3);
        old["observedGeneration"] = observed;
        let budget = json!({"metadata": {"name": "guard", "namespace": "shop",
            "generation": generation}, "spec": {"selector": app("web")}, "status": old});
        cluster.builder.budget(&serde_json::from_value(budget).unwrap());
        let line = "shop/web-1: blocked by PDB shop/guard (it has no status yet)";
        assert_eq!(lines(&cluster.drain("n1")), [line]);
    }
}
