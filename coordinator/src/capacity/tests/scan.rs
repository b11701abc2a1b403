//! F12, F19-F27: what is worth knowing of a node and its pods.

use serde_json::json;

use super::*;

fn all(report: &Report) -> Vec<String> {
    let findings = report.findings.iter();
    findings.map(|one| format!("{} ({})", one, one.weight().words())).collect()
}

fn owned_by(kind: &str, name: &str) -> Value {
    json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": name,
        "uid": name, "controller": true}]}})
}

impl Cluster {
    fn deployment(&mut self, name: &str, replicas: i32, template: Value) -> &mut Self {
        let spec = json!({"replicas": replicas, "selector": {}, "template": {"spec": template}});
        let metadata = json!({"name": name, "namespace": "shop", "uid": format!("uid-{name}")});
        let deployment = json!({"metadata": metadata, "spec": spec});
        self.builder.deployment(&serde_json::from_value(deployment).unwrap());
        let metadata = json!({"name": name, "namespace": "shop", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": "d",
                "controller": true}]});
        let set = json!({"metadata": metadata, "spec": spec});
        self.builder.replica_set(&serde_json::from_value(set).unwrap());
        self
    }

    fn two_nodes(&mut self) -> &mut Self {
        self.node("n1", json!({})).node("n2", json!({}))
    }
}

#[test]
fn a_pod_without_a_controller_is_named_and_not_placed() {
    let mut cluster = Cluster::default();
    let bare = json!({"metadata": {"ownerReferences": []}});
    cluster.two_nodes().pod("lone", "n1", bare);
    let report = cluster.drain("n1");
    assert_eq!(all(&report), ["shop/lone: no controller would make it anew (needs approval)"]);
    assert_eq!(report.placement.pods, 0);
    assert_eq!(report.findings[0].about.uid, "uid-lone");
}

#[test]
fn a_workload_of_one_pod_is_named_with_the_deployment_behind_it() {
    let mut cluster = Cluster::default();
    cluster.two_nodes().deployment("web", 1, json!({"containers": []}));
    cluster.pod("web-1", "n1", json!({}));
    let report = cluster.drain("n1");
    let line = "Deployment shop/web: its only pod is here: away while it moves (shown)";
    assert_eq!(all(&report), [line]);
    assert_eq!(report.findings[0].about.uid, "uid-web");
    // Of several pods, that all are here is shown.
    cluster.two_nodes().deployment("web", 2, json!({"containers": []}));
    cluster.pod("web-1", "n1", json!({})).pod("web-2", "n1", json!({}));
    let line = "Deployment shop/web: all of its 2 pods are here (shown)";
    assert_eq!(all(&cluster.drain("n1")), [line]);
    cluster.two_nodes().deployment("web", 2, json!({"containers": []}));
    cluster.pod("web-1", "n1", json!({})).pod("web-2", "n2", json!({}));
    assert_eq!(all(&cluster.drain("n1")), Vec::<String>::new());
    // The end of a job is no outage.
    cluster.two_nodes().pod("job-1", "n1", owned_by("Job", "job"));
    assert_eq!(all(&cluster.drain("n1")), Vec::<String>::new());
}

#[test]
fn pods_pinned_to_the_node_are_named_once_with_the_reason() {
    let pinned =
        |by: &str| vec![format!("shop/a-1: may run on this node only: {by} (needs approval)")];
    let host = "kubernetes.io/hostname";
    let many = |cluster: &mut Cluster| {
        cluster.two_nodes().deployment("a", 2, json!({"containers": []}));
        cluster.pod("a-2", "n2", json!({}));
    };
    let mut cluster = Cluster::default();
    many(&mut cluster);
    cluster.pod("a-1", "n1", spec(json!({"nodeSelector": {host: "n1"}})));
    assert_eq!(
        all(&cluster.drain("n1")),
        pinned("its node selector asks for kubernetes.io/hostname")
    );
    let affinity = |values: Value| {
        spec(json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": host, "operator": "In", "values": values}]}]}}}}))
    };
    many(&mut cluster);
    cluster.pod("a-1", "n1", affinity(json!(["n1"])));
    assert_eq!(all(&cluster.drain("n1")), pinned("its node affinity asks for its name"));
    many(&mut cluster);
    cluster.pod("a-1", "n1", affinity(json!(["n1", "n2"])));
    assert_eq!(all(&cluster.drain("n1")), Vec::<String>::new());
    cluster.two_nodes().deployment("a", 2, json!({"containers": [], "nodeName": "n1"}));
    cluster.pod("a-1", "n1", json!({})).pod("a-2", "n2", json!({}));
    assert_eq!(all(&cluster.drain("n1")), pinned("its template names node n1"));
}

#[test]
fn a_pod_that_bears_a_cordon_may_come_back_and_must_fit_elsewhere_all_the_same() {
    let mut cluster = Cluster::default();
    cluster.two_nodes().deployment("a", 2, json!({"containers": []}));
    let any = spec(json!({"tolerations": [{"operator": "Exists"}]}));
    cluster.pod("a-1", "n1", any.clone()).pod("a-2", "n2", json!({}));
    let line = "shop/a-1: tolerates a cordoned node, and may come back to it (shown)";
    assert_eq!(all(&cluster.drain("n1")), [line]);
    // One that may run nowhere else comes back for certain.
    let mut pinned = any.clone();
    merge(&mut pinned, spec(json!({"nodeSelector": {"kubernetes.io/hostname": "n1"}})));
    cluster.two_nodes().pod("a-1", "n1", pinned).pod("a-2", "n2", json!({}));
    assert!(all(&cluster.drain("n1")).contains(&line.to_owned()));
    let mut big = any;
    merge(&mut big, asks("5", "1Gi"));
    cluster.two_nodes().pod("a-1", "n1", big).pod("a-2", "n2", json!({}));
    assert!(all(&cluster.drain("n1"))[0].starts_with("shop/a-1: fits on no other node"));
}

#[test]
fn data_on_the_host_is_named_by_its_path_and_its_volume() {
    let mut cluster = Cluster::default();
    cluster.two_nodes().deployment("a", 2, json!({"containers": []}));
    let volumes = json!([{"name": "d", "hostPath": {"path": "/data"}}, {"name": "t", "emptyDir": {}},
        {"name": "r", "hostPath": {"path": "/etc/localtime"}}]);
    let mounts = json!([{"name": "d", "mountPath": "/d"},
        {"name": "r", "mountPath": "/r", "readOnly": true}]);
    let containers = json!([{"name": "c", "volumeMounts": mounts}]);
    let pod = spec(json!({"volumes": volumes, "containers": containers}));
    cluster.pod("a-1", "n1", pod).pod("a-2", "n2", json!({}));
    assert_eq!(
        all(&cluster.drain("n1")),
        [
            "shop/a-1: may keep data in /data of the host (needs approval)",
            "shop/a-1: reads /etc/localtime of the host (shown)",
            "shop/a-1: loses its emptyDir: t (shown)"
        ]
    );
}

#[test]
fn local_volumes_are_named_by_uid_mounted_or_not_and_those_of_zones_are_not_local() {
    let mut cluster = Cluster::default();
    let on = |name: &str, key: &str, values: Value| {
        let volume = json!({"metadata": {"name": name, "uid": format!("uid-{name}")},
            "spec": {"local": {"path": "/d"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": key, "operator": "In", "values": values}]}]}}}});
        serde_json::from_value(volume).unwrap()
    };
    cluster.zoned(&["a1", "a2"]);
    cluster.builder.volume(&on("here", "kubernetes.io/hostname", json!(["a1"])));
    cluster.builder.volume(&on("there", "kubernetes.io/hostname", json!(["a2"])));
    cluster.builder.volume(&on("zone", "zone", json!(["a"])));
    let report = cluster.drain("a1");
    let line = "PersistentVolume here: is on the disk of the host (needs approval)";
    assert_eq!(all(&report), [line]);
    assert_eq!(report.findings[0].about.uid, "uid-here");
}

#[test]
fn storage_daemons_and_foreign_static_pods_are_named() {
    let mut cluster = Cluster::default();
    let mut daemon = owned_by("DaemonSet", "d");
    merge(&mut daemon, json!({"metadata": {"labels": {"app": "longhorn-manager"}}}));
    let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}});
    cluster.two_nodes().pod("d-1", "n1", daemon).pod("keepalived-n1", "n1", mirror.clone());
    cluster.pod("nginx-proxy-n1", "n1", mirror);
    assert_eq!(
        all(&cluster.drain("n1")),
        [
            "shop/d-1: is a part of Longhorn, and may hold data here (needs approval)",
            "shop/keepalived-n1: is made from a file on the host (needs approval)"
        ]
    );
}

#[test]
fn dns_needs_two_ready_pods_and_one_elsewhere() {
    let dns = |ready: &str| {
        let mut pod = owned_by("ReplicaSet", "coredns");
        merge(
            &mut pod,
            json!({"metadata": {"namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns"}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
        );
        pod
    };
    let found = |first: (&str, &str), second: (&str, &str)| {
        let mut cluster = Cluster::default();
        cluster.two_nodes().node("n3", json!({}));
        cluster.pod("coredns-1", first.0, dns(first.1)).pod("coredns-2", second.0, dns(second.1));
        let report = cluster.drain("n1");
        let dns = report
            .findings
            .iter()
            .filter(|one| matches!(one.what, What::DnsAtRisk { .. } | What::DnsOnOneNode { .. }));
        dns.map(|one| format!("{} ({})", one.what, one.weight().words())).collect::<Vec<_>>()
    };
    let risk = |ready: usize, elsewhere: usize| {
        vec![format!(
            "{ready} Ready pods answer DNS, {elsewhere} of them elsewhere; two must, and one \
             elsewhere (blocks)"
        )]
    };
    assert_eq!(found(("n1", "True"), ("n2", "True")), Vec::<String>::new());
    assert_eq!(found(("n2", "True"), ("n3", "True")), Vec::<String>::new());
    assert_eq!(found(("n1", "True"), ("n1", "True")), risk(2, 0));
    assert_eq!(found(("n1", "True"), ("n2", "False")), risk(1, 0));
    assert_eq!(found(("n3", "True"), ("n2", "False")), risk(1, 1));
    let shown = "every Ready pod that answers DNS is on n2 (shown)";
    assert_eq!(found(("n2", "True"), ("n2", "True")), [shown]);
}

#[test]
fn critical_pods_are_shown_and_a_critical_singleton_is_said_to_be_one() {
    let mut cluster = Cluster::default();
    let class = json!({"metadata": {"name": "system-cluster-critical"}, "value": 2_000_000_000});
    let class = serde_json::from_value(class).unwrap();
    let critical = spec(json!({"priorityClassName": "system-cluster-critical"}));
    cluster.builder.priority_class(&class);
    cluster.two_nodes().deployment("m", 1, json!({"containers": []}));
    cluster.pod("m-1", "n1", critical.clone());
    let line = "Deployment shop/m: its only pod is here (system-cluster-critical): away while it \
                moves (shown)";
    assert_eq!(all(&cluster.drain("n1")), [line]);
    cluster.builder.priority_class(&class);
    cluster.two_nodes().deployment("m", 2, json!({"containers": []}));
    cluster.pod("m-1", "n1", critical).pod("m-2", "n2", json!({}));
    assert_eq!(all(&cluster.drain("n1")), ["shop/m-1: is system-cluster-critical (shown)"]);
}

#[test]
fn what_others_decide_is_not_foreseen() {
    let mut cluster = Cluster::default();
    cluster.two_nodes().deployment("a", 2, json!({"containers": []}));
    cluster.pod("a-1", "n1", spec(json!({"schedulerName": "volcano"})));
    cluster.pod("a-2", "n2", json!({}));
    let line = "shop/a-1: nobody can say where it would go: scheduler \"volcano\" places it \
                (needs approval)";
    assert_eq!(all(&cluster.drain("n1")), [line]);
}
