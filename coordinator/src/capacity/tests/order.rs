//! Priorities, pods that waited before, and what depends on luck.

use serde_json::json;

use super::*;

fn class(value: i32, but: Value) -> Value {
    let mut class = json!({"metadata": {"name": format!("p{value}")}, "value": value});
    merge(&mut class, but);
    class
}

impl Cluster {
    fn priority(&mut self, value: i32, but: Value) -> &mut Self {
        self.builder.priority_class(&serde_json::from_value(class(value, but)).unwrap());
        self
    }
}

fn of(value: i32) -> Value {
    json!({"spec": {"priority": value, "priorityClassName": format!("p{value}")}})
}

fn with(mut one: Value, other: Value) -> Value {
    merge(&mut one, other);
    one
}

#[test]
fn the_higher_priority_is_placed_first_and_the_older_one_among_equals() {
    let mut cluster = Cluster::default();
    let two = |cluster: &mut Cluster, a: Value, b: Value| {
        cluster.priority(10, json!({})).node("n1", json!({})).node("n2", json!({}));
        cluster.pod("a-1", "n1", with(asks("3", "1Gi"), a));
        cluster.pod("b-1", "n1", with(asks("3", "1Gi"), b));
    };
    let why = "1 Insufficient cpu, 1 node(s) were unschedulable";
    two(&mut cluster, json!({}), of(10));
    let found = lines(&cluster.drain("n1"));
    assert!(found[0].starts_with("shop/a-1: fits on no other node"), "{found:?}");
    let made = |at: &str| json!({"metadata": {"creationTimestamp": at}});
    two(&mut cluster, made("2026-01-02T00:00:00Z"), made("2026-01-01T00:00:00Z"));
    let found = lines(&cluster.drain("n1"));
    assert!(found[0].starts_with("shop/a-1: fits on no other node"), "{found:?}");
    assert!(found[0].ends_with(why), "{found:?}");
    assert_eq!(found.len(), 1, "luck matters only where there is room for all: {found:?}");
}

#[test]
fn a_pod_that_would_have_to_preempt_does_not_fit_and_it_is_said() {
    let mut cluster = Cluster::default();
    let full = |cluster: &mut Cluster, but: Value| {
        cluster.priority(10, json!({})).node("n1", json!({})).node("n2", json!({}));
        cluster.pod("a-1", "n1", with(asks("3", "1Gi"), but));
        cluster.pod("b-1", "n2", asks("3", "1Gi"));
    };
    full(&mut cluster, of(10));
    let found = lines(&cluster.drain("n1"));
    assert!(found[0].ends_with("it would have to preempt pods of lower priority"), "{found:?}");
    full(&mut cluster, with(of(10), spec(json!({"preemptionPolicy": "Never"}))));
    assert!(!lines(&cluster.drain("n1"))[0].contains("preempt"));
    full(&mut cluster, json!({}));
    assert!(!lines(&cluster.drain("n1"))[0].contains("preempt"));
}

#[test]
fn a_new_pod_gets_the_priority_that_its_class_has_now() {
    let mut cluster = Cluster::default();
    cluster.node("n1", json!({})).node("n2", json!({})).pod("a-1", "n1", of(10));
    let line = "shop/a-1: would not start again: no PriorityClass with name p10 was found";
    assert_eq!(lines(&cluster.drain("n1")), [line]);
    // A default that came later than the pod.
    cluster.priority(5, json!({"globalDefault": true})).priority(1, json!({}));
    cluster.node("n1", json!({})).node("n2", json!({}));
    cluster.pod("a-1", "n1", with(asks("3", "1Gi"), of(1)));
    cluster.pod("b-1", "n1", asks("3", "1Gi"));
    let found = lines(&cluster.drain("n1"));
    assert!(found[0].starts_with("shop/a-1: fits on no other node"), "{found:?}");
}

#[test]
fn pods_that_waited_before_take_room_but_are_not_blamed_on_the_cordon() {
    let mut cluster = Cluster::default();
    let two = |cluster: &mut Cluster, waiting: Value| {
        cluster.priority(10, json!({})).node("n1", json!({})).node("n2", json!({}));
        cluster.pod("a-1", "n1", asks("3", "1Gi"));
        cluster.pod("w-1", "", with(asks("3", "1Gi"), waiting));
    };
    two(&mut cluster, of(10));
    let found = lines(&cluster.drain("n1"));
    assert!(found[0].starts_with("shop/a-1: fits on no other node"), "{found:?}");
    assert_eq!(found.len(), 1);
    // One that must not be placed yet, and one for which there is no room anyway, take none.
    two(&mut cluster, spec(json!({"schedulingGates": [{"name": "g"}]})));
    fits(&cluster.drain("n1"), 1);
    two(&mut cluster, asks("5", "1Gi"));
    fits(&cluster.drain("n1"), 1);
    // One that waits for its victims to go has its node already.
    two(&mut cluster, json!({"status": {"nominatedNodeName": "n2"}}));
    let found = lines(&cluster.drain("n1"));
    assert!(found[0].contains("1 Insufficient cpu"), "{found:?}");
}

#[test]
fn what_depends_on_the_choice_of_others_may_not_fit() {
    // `any` fits on both nodes, `ssd` on one; the scheduler would most likely choose well.
    let mut cluster = Cluster::default();
    cluster.node("n1", json!({}));
    cluster.node("n2", json!({"metadata": {"labels": {"disk": "ssd"}}}));
    cluster.node("n3", json!({}));
    cluster.pod("any-1", "n1", asks("3", "1Gi"));
    let ssd = spec(json!({"nodeSelector": {"disk": "ssd"}}));
    cluster.pod("ssd-1", "n1", with(asks("3", "1Gi"), ssd)).pod("busy-1", "n2", asks("1", "1Gi"));
    let report = cluster.drain("n1");
    let found = lines(&report);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("shop/ssd-1: may fit on no other node, as the pods of the node may"),
        "{found:?}"
    );
    assert_eq!(report.placement.ways, 9);
    assert_eq!(report.findings[0].weight(), Weight::Blocks);
}

#[test]
fn the_pod_with_the_fewest_nodes_is_named() {
    let mut cluster = Cluster::default();
    for name in ["n1", "n2", "n3", "n4"] {
        cluster.node(name, json!({"metadata": {"labels": {"name": name}}}));
    }
    cluster.pod("a-1", "n1", json!({}));
    cluster.pod("b-1", "n1", spec(json!({"nodeSelector": {"name": "n3"}})));
    let report = cluster.drain("n1");
    assert_eq!(report.placement.tightest, Some(("shop/b-1".to_owned(), 1)));
    assert_eq!((report.placement.pods, report.placement.nodes), (2, 3));
}

#[test]
fn two_nodes_at_once_are_drained_together() {
    let mut cluster = Cluster::default();
    for name in ["n1", "n2", "n3"] {
        cluster.node(name, json!({})).pod(&format!("{name}-1"), name, asks("2", "1Gi"));
    }
    let model = std::mem::take(&mut cluster.builder).build();
    fits(&model.examine(&["n1"]).unwrap(), 1);
    let found = lines(&model.examine(&["n1", "n2"]).unwrap());
    assert!(found[0].ends_with("1 Insufficient cpu, 2 node(s) were unschedulable"), "{found:?}");
}
