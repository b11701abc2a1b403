//! PodTopologySpread: hard constraints.

use serde_json::json;

use super::*;

fn spread(topology: &str, more: Value) -> Value {
    let mut one = json!({"maxSkew": 1, "topologyKey": topology,
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": app("web")});
    merge(&mut one, more);
    spec(json!({ "topologySpreadConstraints": [one] }))
}

const REFUSES: &str = "node(s) didn't match pod topology spread constraints";

#[test]
fn an_empty_cordoned_node_is_the_emptiest_domain() {
    // The trap: nothing may exceed the node that takes nothing, so nothing fits.
    let mut cluster = Cluster::default();
    let by_host = || spread("kubernetes.io/hostname", json!({}));
    cluster.zoned(&["a1", "a2", "b1"]);
    for (name, node) in [("web-1", "a1"), ("web-2", "a2"), ("web-3", "b1")] {
        cluster.pod(name, node, by_host());
    }
    let why = format!("1 node(s) were unschedulable, 2 {REFUSES}");
    refused(&cluster.drain("a1"), "web-1", &why);
    // Unless the constraint leaves out nodes whose taints the pod does not bear.
    let honors = || spread("kubernetes.io/hostname", json!({"nodeTaintsPolicy": "Honor"}));
    cluster.zoned(&["a1", "a2", "b1"]);
    for (name, node) in [("web-1", "a1"), ("web-2", "a2"), ("web-3", "b1")] {
        cluster.pod(name, node, honors());
    }
    fits(&cluster.drain("a1"), 1);
}

#[test]
fn a_soft_constraint_is_no_filter() {
    let mut cluster = Cluster::default();
    let soft = || spread("kubernetes.io/hostname", json!({"whenUnsatisfiable": "ScheduleAnyway"}));
    cluster.zoned(&["a1", "a2"]);
    cluster.pod("web-1", "a1", soft()).pod("web-2", "a2", soft());
    fits(&cluster.drain("a1"), 1);
}

#[test]
fn domains_may_differ_by_the_skew() {
    for (skew, is_fit) in [(1, false), (2, true)] {
        let mut cluster = Cluster::default();
        let by_zone = || spread("zone", json!({ "maxSkew": skew }));
        cluster.zoned(&["a1", "b1", "c1"]);
        cluster.pod("web-1", "a1", by_zone()).pod("web-2", "b1", by_zone());
        let full = json!({"status": {"allocatable": {"pods": "0"}}});
        cluster.node("c2", full);
        cluster.pod("web-3", "c1", by_zone());
        // Zone a has no other node, so b or c must take a second one.
        assert_eq!(lines(&cluster.drain("a1")).is_empty(), is_fit, "skew {skew}");
    }
}

#[test]
fn a_node_without_the_label_takes_nothing_and_has_no_domain() {
    let mut cluster = Cluster::default();
    cluster.zoned(&["a1", "a2"]).node("bare", json!({}));
    let by_zone = || spread("zone", json!({}));
    cluster.pod("web-1", "a1", by_zone()).pod("web-2", "bare", by_zone());
    let report = cluster.drain("a1");
    fits(&report, 1);
    cluster.zoned(&["a1"]).node("bare", json!({}));
    cluster.pod("web-1", "a1", by_zone());
    let why = format!("1 {REFUSES} (missing required label), 1 node(s) were unschedulable");
    refused(&cluster.drain("a1"), "web-1", &why);
}

#[test]
fn a_node_needs_the_labels_of_all_constraints_to_be_counted() {
    // `a2` has no rack: its pod is not counted, though it is in the zone.
    let mut cluster = Cluster::default();
    let racked = |name: &str| json!({"metadata": {"labels": {"zone": &name[..1], "rack": name}}});
    cluster.node("a1", racked("a1")).node("b1", racked("b1")).zoned(&["a2"]);
    let both = || {
        spec(json!({"topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": app("web")},
            {"maxSkew": 9, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": app("web")}]}))
    };
    cluster.pod("web-1", "a1", both()).pod("web-2", "b1", both()).pod("web-3", "a2", both());
    let report = cluster.drain("a1");
    // Zone a counts none once web-1 is gone, so b with one may not take a second.
    let why =
        format!("1 {REFUSES}, 1 {REFUSES} (missing required label), 1 node(s) were unschedulable");
    refused(&report, "web-1", &why);
}

#[test]
fn with_too_few_domains_the_emptiest_counts_as_empty() {
    for (least, is_fit) in [(1, true), (2, true), (3, false)] {
        let mut cluster = Cluster::default();
        let by_zone = || spread("zone", json!({ "minDomains": least }));
        cluster.zoned(&["a1", "a2", "b1"]);
        cluster.pod("web-1", "a1", by_zone());
        cluster.pod("web-2", "a2", by_zone()).pod("web-3", "b1", by_zone());
        assert_eq!(lines(&cluster.drain("a1")).is_empty(), is_fit, "minDomains {least}");
    }
}

#[test]
fn nodes_that_the_pod_may_not_use_have_no_domain_unless_it_says_so() {
    for (policy, is_fit) in [("Honor", true), ("Ignore", false)] {
        let mut cluster = Cluster::default();
        cluster.zoned(&["a1", "a2", "b1"]);
        cluster.node("c1", json!({"metadata": {"labels": {"zone": "c", "disk": "hdd"}}}));
        let mut by_zone = spread("zone", json!({ "nodeAffinityPolicy": policy }));
        let not_hdd = json!([{"matchExpressions": [
            {"key": "disk", "operator": "NotIn", "values": ["hdd"]}]}]);
        merge(
            &mut by_zone,
            spec(json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": not_hdd}}}})),
        );
        cluster.pod("web-1", "a1", by_zone.clone());
        cluster.pod("web-2", "a2", by_zone.clone()).pod("web-3", "b1", by_zone);
        assert_eq!(lines(&cluster.drain("a1")).is_empty(), is_fit, "{policy}");
    }
}

#[test]
fn only_pods_of_the_namespace_that_are_not_on_their_way_count() {
    let mut cluster = Cluster::default();
    let by_zone = || spread("zone", json!({}));
    cluster.zoned(&["a1", "a2", "b1"]);
    let mut other = by_zone();
    merge(&mut other, json!({"metadata": {"namespace": "bank"}}));
    let mut going = by_zone();
    merge(&mut going, json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    cluster.pod("web-1", "a1", by_zone()).pod("web-2", "a2", other).pod("web-3", "a2", going);
    fits(&cluster.drain("a1"), 1);
}

#[test]
fn an_empty_selector_counts_nothing() {
    let mut cluster = Cluster::default();
    let all = || spread("kubernetes.io/hostname", json!({"labelSelector": null}));
    cluster.zoned(&["a1", "a2"]);
    cluster.pod("web-1", "a1", all()).pod("web-2", "a2", all());
    fits(&cluster.drain("a1"), 1);
    let mut empty = spread("kubernetes.io/hostname", json!({}));
    empty["spec"]["topologySpreadConstraints"][0]["labelSelector"] = json!({});
    cluster.zoned(&["a1", "a2"]);
    cluster.pod("web-1", "a1", empty.clone()).pod("web-2", "a2", empty);
    fits(&cluster.drain("a1"), 1);
}

#[test]
fn match_label_keys_narrow_the_selector_to_the_pod_s_own_revision() {
    let mut cluster = Cluster::default();
    let of = |revision: &str| {
        let mut pod =
            spread("kubernetes.io/hostname", json!({"matchLabelKeys": ["pod-template-hash"]}));
        merge(&mut pod, json!({"metadata": {"labels": {"pod-template-hash": revision}}}));
        pod
    };
    cluster.zoned(&["a1", "a2"]);
    cluster.pod("web-1", "a1", of("new")).pod("web-2", "a2", of("old"));
    fits(&cluster.drain("a1"), 1);
}
