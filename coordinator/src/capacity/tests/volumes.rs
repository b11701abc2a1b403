//! VolumeBinding, VolumeZone and NodeVolumeLimits.

use serde_json::json;

use super::*;

impl Cluster {
    fn volume(&mut self, name: &str, but: Value) -> &mut Self {
        let mut volume = json!({
            "metadata": {"name": name, "uid": format!("uid-{name}")},
            "spec": {"claimRef": {"namespace": "shop", "name": format!("claim-{name}")}},
        });
        merge(&mut volume, but);
        self.builder.volume(&serde_json::from_value(volume).unwrap());
        self
    }

    /// The claim `shop/claim-<volume>`, bound to the volume but for what is said.
    fn claim(&mut self, volume: &str, but: Value) -> &mut Self {
        let mut claim = json!({
            "metadata": {"name": format!("claim-{volume}"), "namespace": "shop",
                "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": volume},
            "status": {"phase": "Bound"},
        });
        merge(&mut claim, but);
        self.builder.claim(&serde_json::from_value(claim).unwrap());
        self
    }
}

fn mounts(volume: &str) -> Value {
    spec(json!({"volumes": [{"name": "v",
        "persistentVolumeClaim": {"claimName": format!("claim-{volume}")}}]}))
}

fn on(key: &str, value: &str) -> Value {
    json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}]}}}})
}

#[test]
fn a_volume_keeps_its_pod_where_it_is() {
    let mut cluster = Cluster::default();
    cluster.zoned(&["a1", "a2", "b1"]);
    cluster.volume("v1", on("zone", "a")).claim("v1", json!({}));
    cluster.pod("db-1", "a1", mounts("v1"));
    fits(&cluster.drain("a1"), 1);
    cluster.zoned(&["a1", "b1", "b2"]);
    cluster.volume("v1", on("zone", "a")).claim("v1", json!({}));
    cluster.pod("db-1", "a1", mounts("v1"));
    let report = cluster.drain("a1");
    let why = "fits on no other node: 0/3 nodes are available: 1 node(s) were unschedulable, \
               2 node(s) didn't match PersistentVolume's node affinity";
    let local = "PersistentVolume v1: the data of claim shop/claim-v1 is on the disk of the host";
    assert_eq!(lines(&report), [format!("shop/db-1: {why}"), local.to_owned()]);
}

#[test]
fn the_zones_of_a_volume_s_labels_count_where_nodes_have_zones() {
    let zone = "topology.kubernetes.io/zone";
    let zoned = |zones: &str| json!({"metadata": {"labels": {zone: zones}}});
    let mut cluster = Cluster::default();
    cluster.node("n1", zoned("a")).node("n2", zoned("b")).node("n3", json!({}));
    cluster.volume("v1", zoned("a__c")).claim("v1", json!({})).pod("db-1", "n1", mounts("v1"));
    fits(&cluster.drain("n1"), 1);
    cluster.node("n1", zoned("a")).node("n2", zoned("b"));
    cluster.volume("v1", zoned("a__c")).claim("v1", json!({})).pod("db-1", "n1", mounts("v1"));
    let why = "1 node(s) had no available volume zone, 1 node(s) were unschedulable";
    refused(&cluster.drain("n1"), "db-1", why);
    // The old label of the volume is found in the new one of nodes.
    let old = json!({"metadata": {"labels": {"failure-domain.beta.kubernetes.io/zone": "b"}}});
    cluster.node("n1", zoned("b")).node("n2", zoned("b"));
    cluster.volume("v1", old).claim("v1", json!({})).pod("db-1", "n1", mounts("v1"));
    fits(&cluster.drain("n1"), 1);
}

#[test]
fn a_claim_that_is_going_lost_or_unbound_lets_no_new_pod_start() {
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let unbound = json!({"metadata": {"annotations": null}});
    for (claim, why) in [
        (going, "persistentvolumeclaim \"claim-v1\" is being deleted"),
        (
            json!({"status": {"phase": "Lost"}}),
            "persistentvolumeclaim \"claim-v1\" bound to non-existent persistentvolume \"v1\"",
        ),
        (unbound, "pod has unbound immediate PersistentVolumeClaims"),
    ] {
        let mut cluster = Cluster::default();
        cluster.zoned(&["a1", "a2"]).volume("v1", json!({})).claim("v1", claim);
        cluster.pod("db-1", "a1", mounts("v1"));
        let line = format!("shop/db-1: would not start again: {why}");
        assert_eq!(lines(&cluster.drain("a1")), [line]);
    }
    let mut cluster = Cluster::default();
    cluster.zoned(&["a1", "a2"]).pod("db-1", "a1", mounts("v1"));
    let line = "shop/db-1: would not start again: persistentvolumeclaim \"claim-v1\" not found";
    assert_eq!(lines(&cluster.drain("a1")), [line]);
    cluster.zoned(&["a1", "a2"]).claim("v1", json!({})).pod("db-1", "a1", mounts("v1"));
    let gone = "1 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s), \
                1 node(s) were unschedulable";
    refused(&cluster.drain("a1"), "db-1", gone);
}

#[test]
fn a_driver_attaches_so_many_volumes_to_a_node() {
    let csi =
        |handle: &str| json!({"spec": {"csi": {"driver": "disk.csi", "volumeHandle": handle}}});
    let limit = |node: &str, count: i32| {
        let node = json!({"metadata": {"name": node}, "spec": {"drivers": [
            {"name": "disk.csi", "nodeID": node, "allocatable": {"count": count}}]}});
        serde_json::from_value(node).unwrap()
    };
    let mut cluster = Cluster::default();
    let three = |cluster: &mut Cluster, count: i32| {
        cluster.zoned(&["a1", "a2"]);
        cluster.builder.csi_node(&limit("a2", count));
        for name in ["v1", "v2", "v3"] {
            cluster.volume(name, csi(name)).claim(name, json!({}));
        }
        cluster.pod("db-1", "a1", mounts("v1"));
        // Two pods share one of the volumes.
        cluster.pod("db-2", "a2", mounts("v2")).pod("db-3", "a2", mounts("v2"));
        cluster.pod("db-4", "a2", mounts("v3"));
    };
    three(&mut cluster, 3);
    fits(&cluster.drain("a1"), 1);
    three(&mut cluster, 2);
    let why = "1 node(s) exceed max volume count, 1 node(s) were unschedulable";
    refused(&cluster.drain("a1"), "db-1", why);
}

#[test]
fn a_volume_that_goes_with_its_pod_is_made_where_its_class_may() {
    let class = |provisioner: &str, topologies: Value| {
        let class = json!({"metadata": {"name": "fast"}, "provisioner": provisioner,
            "volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies": topologies});
        serde_json::from_value(class).unwrap()
    };
    let zone_b = json!([{"matchLabelExpressions": [{"key": "zone", "values": ["b"]}]}]);
    let ephemeral = spec(json!({"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate":
        {"spec": {"storageClassName": "fast"}}}}]}));
    let mut cluster = Cluster::default();
    cluster.zoned(&["b1", "a1", "b2"]);
    cluster.builder.storage_class(&class("disk.csi", zone_b.clone()));
    cluster.pod("db-1", "b1", ephemeral.clone());
    let report = cluster.drain("b1");
    fits(&report, 1);
    assert_eq!(report.placement.tightest, Some(("shop/db-1".to_owned(), 1)));
    cluster.zoned(&["b1", "a1"]);
    cluster.builder.storage_class(&class("disk.csi", zone_b));
    cluster.pod("db-1", "b1", ephemeral.clone());
    let why = "1 node(s) didn't find available persistent volumes to bind, \
               1 node(s) were unschedulable";
    refused(&cluster.drain("b1"), "db-1", why);
    cluster.zoned(&["b1", "a1"]);
    cluster.builder.storage_class(&class("kubernetes.io/no-provisioner", json!(null)));
    cluster.pod("db-1", "b1", ephemeral);
    let line = "shop/db-1: nobody can say where it would go: an ephemeral volume needs a volume \
                that nothing provisions (storage class fast)";
    assert_eq!(lines(&cluster.drain("b1")), [line]);
}
