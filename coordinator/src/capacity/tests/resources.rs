//! Room, slots, ports, taints, node affinity.

use serde_json::json;

use super::*;

const CORDONED: &str = "1 node(s) were unschedulable";

#[test]
fn pods_fit_until_the_other_node_is_full() {
    let mut cluster = Cluster::default();
    let two = |cluster: &mut Cluster| {
        cluster.node("n1", json!({})).node("n2", json!({}));
        cluster.pod("a-1", "n1", asks("2", "1Gi")).pod("b-1", "n1", asks("1500m", "1Gi"));
    };
    two(&mut cluster);
    let report = cluster.drain("n1");
    fits(&report, 2);
    assert_eq!(report.placement.nodes, 1);
    assert_eq!(report.placement.ways, 0, "proven: both find room beside the other");
    two(&mut cluster);
    cluster.pod("c-1", "n2", asks("600m", "1Gi"));
    let why = format!("1 Insufficient cpu, {CORDONED}");
    refused(&cluster.drain("n1"), "b-1", &why);
}

#[test]
fn every_shortage_is_counted_and_the_slots_too() {
    let mut cluster = Cluster::default();
    let small = json!({"status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "0"}}});
    cluster.node("n1", json!({})).node("n2", small).node("n3", json!({}));
    cluster.pod("a-1", "n1", asks("2", "2Gi")).pod("b-1", "n3", asks("3", "1Gi"));
    let report = cluster.drain("n1");
    let why = "1 Insufficient memory, 1 Too many pods, 1 node(s) were unschedulable, \
               2 Insufficient cpu";
    refused(&report, "a-1", why);
}

#[test]
fn the_largest_init_container_must_fit() {
    let mut cluster = Cluster::default();
    cluster.node("n1", json!({})).node("n2", json!({}));
    let init = json!([{"name": "i", "resources": {"requests": {"cpu": "5"}}}]);
    cluster.pod("a-1", "n1", spec(json!({ "initContainers": init })));
    refused(&cluster.drain("n1"), "a-1", &format!("1 Insufficient cpu, {CORDONED}"));
}

#[test]
fn extended_resources_and_hugepages_are_resources() {
    let mut cluster = Cluster::default();
    let gpus = |count: &str| json!({"status": {"allocatable": {"example.com/gpu": count}}});
    cluster.node("n1", gpus("2")).node("n2", gpus("1")).node("n3", json!({}));
    let wants = |name: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {name: "2"}}}]}});
    cluster.pod("a-1", "n1", wants("example.com/gpu"));
    refused(&cluster.drain("n1"), "a-1", &format!("{CORDONED}, 2 Insufficient example.com/gpu"));
    cluster.node("n1", json!({})).node("n2", json!({}));
    cluster.pod("a-1", "n1", wants("hugepages-2Mi"));
    refused(&cluster.drain("n1"), "a-1", &format!("1 Insufficient hugepages-2Mi, {CORDONED}"));
}

#[test]
fn a_node_that_does_not_say_what_it_has_or_is_not_ready_takes_nothing() {
    let mut cluster = Cluster::default();
    let down = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    let mute = json!({"status": {"allocatable": null}});
    cluster.node("n1", json!({})).node("n2", down).node("n3", mute);
    cluster.pod("a-1", "n1", json!({}));
    let why = format!("1 Too many pods, 1 node(s) were not ready, {CORDONED}");
    refused(&cluster.drain("n1"), "a-1", &why);
}

#[test]
fn taints_keep_away_what_does_not_bear_them() {
    let taint = |key: &str, value: &str, effect: &str| json!({"spec": {"taints": [{"key": key, "value": value, "effect": effect}]}});
    let with = |toleration: Value| spec(json!({ "tolerations": [toleration] }));
    for (toleration, is_borne) in [
        (json!({"key": "gpu", "operator": "Exists"}), true),
        (json!({"operator": "Exists"}), true),
        (json!({"key": "gpu", "value": "yes"}), true),
        (json!({"key": "gpu", "value": "no"}), false),
        (json!({"key": "gpu", "value": "yes", "effect": "NoExecute"}), false),
        (json!({"key": "cpu", "operator": "Exists"}), false),
    ] {
        let mut cluster = Cluster::default();
        cluster.node("n1", json!({})).node("n2", taint("gpu", "yes", "NoSchedule"));
        cluster.pod("a-1", "n1", with(toleration.clone()));
        let report = cluster.drain("n1");
        match is_borne {
            true => fits(&report, 1),
            false => {
                refused(&report, "a-1", &format!("1 node(s) had untolerated taint(s), {CORDONED}"))
            }
        }
    }
    let mut cluster = Cluster::default();
    cluster.node("n1", json!({})).node("n2", taint("gpu", "yes", "PreferNoSchedule"));
    cluster.pod("a-1", "n1", json!({}));
    fits(&cluster.drain("n1"), 1);
}

#[test]
fn another_cordoned_node_takes_nothing() {
    let mut cluster = Cluster::default();
    cluster.node("n1", json!({})).node("n2", spec(json!({"unschedulable": true})));
    cluster.pod("a-1", "n1", json!({}));
    refused(&cluster.drain("n1"), "a-1", "2 node(s) were unschedulable");
}

#[test]
fn node_selectors_and_affinities_are_asked_in_the_scheduler_s_way() {
    let affinity = |terms: Value| {
        spec(json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}))
    };
    let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    for (but, matches) in [
        (spec(json!({"nodeSelector": {"disk": "ssd"}})), true),
        (spec(json!({"nodeSelector": {"disk": "hdd"}})), false),
        (affinity(json!([expression("disk", "In", json!(["ssd", "nvme"]))])), true),
        (affinity(json!([expression("disk", "NotIn", json!(["ssd"]))])), false),
        (affinity(json!([expression("gen", "Gt", json!(["4"]))])), true),
        (affinity(json!([expression("gen", "Lt", json!(["5"]))])), false),
        (affinity(json!([expression("none", "DoesNotExist", json!(null))])), true),
        // Terms are alternatives; one that asks for nothing is none.
        (affinity(json!([expression("disk", "In", json!(["hdd"])), {}])), false),
        (
            affinity(json!([
                expression("disk", "In", json!(["hdd"])),
                expression("gen", "Exists", json!(null))
            ])),
            true,
        ),
        (affinity(json!([])), false),
        (
            affinity(json!([{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": ["n2"]}]}])),
            true,
        ),
        (
            affinity(json!([{"matchFields": [
                {"key": "metadata.name", "operator": "NotIn", "values": ["n2"]}]}])),
            false,
        ),
    ] {
        let mut cluster = Cluster::default();
        let labels = json!({"metadata": {"labels": {"disk": "ssd", "gen": "5"}}});
        cluster.node("n1", labels.clone()).node("n2", labels);
        cluster.pod("a-1", "n1", but.clone());
        let report = cluster.drain("n1");
        match matches {
            true => fits(&report, 1),
            false => refused(
                &report,
                "a-1",
                &format!("1 node(s) didn't match Pod's node affinity/selector, {CORDONED}"),
            ),
        }
    }
}

#[test]
fn host_ports_conflict_by_address_protocol_and_number() {
    let port = |port: Value| spec(json!({"containers": [{"name": "c", "ports": [port]}]}));
    let other = json!({"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1"});
    for (mine, is_free) in [
        (json!({"containerPort": 80, "hostPort": 81}), true),
        (json!({"containerPort": 80, "hostPort": 80}), false),
        (json!({"containerPort": 80, "hostPort": 80, "hostIP": "0.0.0.0"}), false),
        (json!({"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.2"}), true),
        (json!({"containerPort": 80, "hostPort": 80, "protocol": "UDP"}), true),
        (json!({"containerPort": 80}), true),
    ] {
        let mut cluster = Cluster::default();
        cluster.node("n1", json!({})).node("n2", json!({}));
        cluster.pod("a-1", "n1", port(mine)).pod("b-1", "n2", port(other.clone()));
        let report = cluster.drain("n1");
        match is_free {
            true => fits(&report, 1),
            false => refused(
                &report,
                "a-1",
                &format!(
                    "1 node(s) didn't have free ports for the requested pod ports, {CORDONED}"
                ),
            ),
        }
    }
    // Two pods that leave cannot have the same port on the one node that is left either.
    let mut cluster = Cluster::default();
    cluster.node("n1", json!({})).node("n2", json!({}));
    let mine = json!({"containerPort": 80, "hostPort": 80});
    cluster.pod("a-1", "n1", port(mine.clone())).pod("b-1", "n1", port(mine));
    assert!(lines(&cluster.drain("n1"))[0].contains("free ports"));
}

#[test]
fn daemons_and_static_pods_stay_and_those_elsewhere_take_room() {
    let owner = |kind: &str| {
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": kind, "name": "d",
            "uid": "d", "controller": true}]}})
    };
    let mut daemon = owner("DaemonSet");
    merge(&mut daemon, asks("3", "1Gi"));
    let mut mirror = owner("Node");
    merge(&mut mirror, json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}));
    let mut cluster = Cluster::default();
    cluster.node("n1", json!({})).node("n2", json!({}));
    cluster.pod("nginx-proxy-n1", "n1", mirror).pod("d-1", "n1", daemon.clone());
    cluster.pod("d-2", "n2", daemon).pod("a-1", "n1", asks("2", "1Gi"));
    refused(&cluster.drain("n1"), "a-1", &format!("1 Insufficient cpu, {CORDONED}"));
}

#[test]
fn finished_pods_take_nothing_and_those_on_their_way_still_do() {
    let mut cluster = Cluster::default();
    cluster.node("n1", json!({})).node("n2", json!({}));
    let mut over = asks("4", "1Gi");
    merge(&mut over, json!({"status": {"phase": "Succeeded"}}));
    cluster.pod("job-1", "n2", over).pod("a-1", "n1", asks("2", "1Gi"));
    fits(&cluster.drain("n1"), 1);
    cluster.node("n1", json!({})).node("n2", json!({}));
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let mut other = asks("4", "1Gi");
    merge(&mut other, going.clone());
    cluster.pod("b-1", "n2", other).pod("a-1", "n1", asks("2", "1Gi"));
    refused(&cluster.drain("n1"), "a-1", &format!("1 Insufficient cpu, {CORDONED}"));
    // Its ReplicaSet has made the next one already, which waits.
    cluster.node("n1", json!({})).node("n2", json!({}));
    cluster.pod("a-1", "n1", going).pod("a-2", "", asks("9", "1Gi"));
    fits(&cluster.drain("n1"), 0);
}
