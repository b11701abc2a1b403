//! InterPodAffinity: required terms, in both directions.

use serde_json::json;

use super::*;

fn terms(kind: &str, topology: &str, selector: Value, more: Value) -> Value {
    let mut term = json!({"topologyKey": topology, "labelSelector": selector});
    merge(&mut term, more);
    spec(json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}))
}

fn apart(topology: &str, from: &str) -> Value {
    terms("podAntiAffinity", topology, app(from), json!({}))
}

fn near(topology: &str, to: &str) -> Value {
    terms("podAffinity", topology, app(to), json!({}))
}

#[test]
fn a_pod_stays_apart_from_those_that_it_names() {
    let mut cluster = Cluster::default();
    cluster.zoned(&["a1", "a2", "b1"]);
    cluster.pod("web-1", "a1", apart("kubernetes.io/hostname", "db"));
    cluster.pod("db-1", "a2", json!({})).pod("db-2", "b1", json!({}));
    let why = "1 node(s) were unschedulable, 2 node(s) didn't match pod anti-affinity rules";
    refused(&cluster.drain("a1"), "web-1", why);
    cluster.zoned(&["a1", "a2", "b1"]);
    cluster.pod("web-1", "a1", apart("zone", "db")).pod("db-1", "a2", json!({}));
    fits(&cluster.drain("a1"), 1);
}

#[test]
fn pods_that_are_there_keep_others_away() {
    // The trap: the pod itself asks for nothing.
    let mut cluster = Cluster::default();
    cluster.zoned(&["a1", "a2", "b1"]);
    cluster.pod("web-1", "a1", json!({}));
    cluster.pod("db-1", "a2", apart("zone", "web")).pod("db-2", "b1", apart("zone", "web"));
    let why =
        "1 node(s) were unschedulable, 2 node(s) didn't satisfy existing pods anti-affinity rules";
    refused(&cluster.drain("a1"), "web-1", why);
}

#[test]
fn the_pods_that_leave_keep_nobody_away() {
    let mut cluster = Cluster::default();
    cluster.zoned(&["a1", "a2"]);
    cluster.pod("web-1", "a1", apart("zone", "web"));
    fits(&cluster.drain("a1"), 1);
    // But two of them do, once one has been placed.
    cluster.zoned(&["a1", "a2"]);
    cluster.pod("web-1", "a1", apart("kubernetes.io/hostname", "web"));
    cluster.pod("web-2", "a1", apart("kubernetes.io/hostname", "web"));
    let report = cluster.drain("a1");
    let why = "1 node(s) didn't match pod anti-affinity rules, 1 node(s) were unschedulable";
    refused(&report, "web-2", why);
}

#[test]
fn a_node_without_the_label_is_in_no_domain() {
    let mut cluster = Cluster::default();
    cluster.zoned(&["a1", "a2"]).node("bare", json!({}));
    cluster.pod("web-1", "a1", apart("zone", "db")).pod("db-1", "a2", json!({}));
    fits(&cluster.drain("a1"), 1);
    // Near something it cannot be without one.
    cluster.zoned(&["a1"]).node("bare", json!({}));
    cluster.pod("web-1", "a1", near("zone", "db")).pod("db-1", "bare", json!({}));
    let why = "1 node(s) didn't match pod affinity rules, 1 node(s) were unschedulable";
    refused(&cluster.drain("a1"), "web-1", why);
}

#[test]
fn a_pod_follows_what_it_must_be_near() {
    let mut cluster = Cluster::default();
    cluster.zoned(&["a1", "a2", "b1"]);
    cluster.pod("web-1", "a1", near("zone", "db")).pod("db-1", "a2", json!({}));
    fits(&cluster.drain("a1"), 1);
    // The trap: what it must be near leaves with it, and the queue has it first.
    cluster.zoned(&["a1", "b1"]);
    let old = json!({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z"}});
    let mut web = near("zone", "db");
    merge(&mut web, old);
    cluster.pod("web-1", "a1", web).pod("db-1", "a1", json!({}));
    fits(&cluster.drain("a1"), 2);
}

#[test]
fn the_first_of_pods_that_must_be_near_each_other_may_go_anywhere() {
    let mut cluster = Cluster::default();
    cluster.zoned(&["a1", "a2", "b1"]);
    cluster.pod("web-1", "a1", near("zone", "web")).pod("web-2", "a1", near("zone", "web"));
    fits(&cluster.drain("a1"), 2);
    // With another one elsewhere they must follow it, and find no room there.
    cluster.zoned(&["a1", "b1", "c1"]);
    let mut big = near("zone", "web");
    merge(&mut big, asks("3", "1Gi"));
    cluster.pod("web-1", "a1", big.clone()).pod("web-2", "b1", big);
    let why = "1 Insufficient cpu, 1 node(s) didn't match pod affinity rules, \
               1 node(s) were unschedulable";
    refused(&cluster.drain("a1"), "web-1", why);
}

#[test]
fn namespaces_are_the_own_one_those_named_and_those_selected() {
    let elsewhere = json!({"metadata": {"namespace": "bank"}});
    let team = json!({"matchLabels": {"team": "money"}});
    for (more, is_about) in [
        (json!({}), false),
        (json!({"namespaces": ["bank"]}), true),
        (json!({"namespaces": ["shop"]}), false),
        (json!({ "namespaceSelector": team }), true),
        (json!({"namespaceSelector": {"matchLabels": {"team": "x"}}}), false),
        (json!({"namespaceSelector": {}}), true),
        (json!({"namespaces": ["shop"], "namespaceSelector": team}), true),
    ] {
        let mut cluster = Cluster::default();
        let namespace = json!({"metadata": {"name": "bank", "labels": {"team": "money"}}});
        cluster.builder.namespace(&serde_json::from_value(namespace).unwrap());
        cluster.zoned(&["a1", "a2"]);
        let term = terms("podAntiAffinity", "zone", app("db"), more.clone());
        cluster.pod("web-1", "a1", term).pod("db-1", "a2", elsewhere.clone());
        let found = lines(&cluster.drain("a1"));
        assert_eq!(!found.is_empty(), is_about, "{more}: {found:?}");
        // The same, seen from the other side: the pod of the bank moves.
        let mut cluster = Cluster::default();
        let namespace = json!({"metadata": {"name": "bank", "labels": {"team": "money"}}});
        cluster.builder.namespace(&serde_json::from_value(namespace).unwrap());
        cluster.zoned(&["a1", "a2"]);
        let term = terms("podAntiAffinity", "zone", app("db"), more.clone());
        cluster.pod("web-1", "a2", term).pod("db-1", "a1", elsewhere.clone());
        let found = lines(&cluster.drain("a1"));
        assert_eq!(!found.is_empty(), is_about, "{more}: {found:?}");
    }
}

#[test]
fn no_selector_selects_no_pod_and_an_empty_one_all() {
    for (selector, is_about) in [(json!(null), false), (json!({}), true)] {
        let mut cluster = Cluster::default();
        cluster.zoned(&["a1", "a2"]);
        let term = terms("podAntiAffinity", "zone", selector, json!({}));
        cluster.pod("web-1", "a1", term).pod("db-1", "a2", json!({}));
        assert_eq!(!lines(&cluster.drain("a1")).is_empty(), is_about);
    }
}
