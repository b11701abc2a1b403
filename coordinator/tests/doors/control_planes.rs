//! What a plan says of control planes and of the clients of their API servers.

use rehull_proto::v1::PlanRequest;
use serde_json::json;

use crate::{
    house::coordinator,
    operators::{register_with, with_control_planes},
};

const KUBECONFIG: &str = "apiVersion: v1
kind: Config
clusters: [{name: prod, cluster: {server: 'https://10.0.0.1:6443'}}]
contexts: [{name: prod, context: {cluster: prod, user: admin}}]
current-context: prod
users: [{name: admin, user: {token: hunter2}}]
";

#[tokio::test]
async fn a_plan_says_how_control_planes_go_and_which_clients_may_notice() {
    let coordinator = coordinator().await;
    let (document, inventory) = with_control_planes();
    register_with(&coordinator, &inventory);
    let map = |namespace: &str, name: &str, key: &str, text: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {key: text},
            "metadata": {"namespace": namespace, "name": name}})
    };
    {
        let mut store = coordinator.world.store();
        for name in ["master1", "master2", "master3", "worker1", "worker2"] {
            store.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}));
        }
        let info = "clusters:\n- cluster:\n    server: https://10.0.0.2:6443\n";
        store.put(map("kube-public", "cluster-info", "kubeconfig", info));
        let config = "controlPlaneEndpoint: lb.example:6443\n";
        store.put(map("kube-system", "kubeadm-config", "ClusterConfiguration", config));
        store.put(map("kubean-system", "prod-kubeconf", "config", KUBECONFIG));
        store.put(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "kube-system", "name": "nginx-proxy-worker1"},
            "spec": {"nodeName": "worker1", "containers": [{"name": "c", "image": "i:1"}]}}));
        store.put(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"namespace": "kube-system", "name": "kube-scheduler"},
            "spec": {"holderIdentity": "master3_0b1c", "leaseDurationSeconds": 15}}));
        store.edit("clusters", "", "prod", |cluster| {
            cluster["spec"]["kubeconfRef"] =
                json!({"namespace": "kubean-system", "name": "prod-kubeconf"});
        });
    }
    let mut operator = coordinator.operator().await;
    let request = PlanRequest { document };
    let plan = operator.plan(request.clone()).await.unwrap().into_inner();
    let lines = &plan.control_planes;
    for words in [
        "one after the other: master2, master3, master1",
        "master1 hands over to master2 before it goes",
        "etcd runs in no pod: before master1 goes, its members restart one after the other",
        "1 nodes have a proxy of their own before the API servers: what watches through it is cut off \
         once for each control plane that goes, 3 times, and opens again within seconds: worker1",
        "1 nodes have none; whom they ask cannot be seen: worker2",
        "the kube-scheduler of master3 leads: when master3 goes, another does within 15 s",
        "ConfigMap kube-public/cluster-info leads to master2 (10.0.0.2:6443): it is made to lead",
        "Kubean's kubeconfig leads to master1, until the hand-over",
        "no spec.workload.endpoint is given",
    ] {
        assert!(lines.iter().any(|line| line.contains(words)), "{words}: {lines:#?}");
    }
    for words in ["kubeadm-config", "kube-controller-manager", "hunter2"] {
        assert!(lines.iter().all(|line| !line.contains(words)), "{words}: {lines:#?}");
    }
    coordinator.world.store().put(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "kube-system", "name": "etcd-master2"},
        "spec": {"nodeName": "master2", "containers": [{"name": "c", "image": "i:1"}]}}));
    let told = operator.plan(request.clone()).await.unwrap().into_inner().control_planes;
    assert!(told.iter().all(|line| !line.contains("etcd runs in no pod")), "{told:#?}");
    let roles: Vec<_> = plan.nodes.iter().map(|node| node.role.as_str()).collect();
    let (worker, plane) = ("worker", "control plane");
    assert_eq!(roles, [worker, worker, plane, plane, "first control plane"]);
    // Workers alone: nobody notices, and nothing is said.
    let document = request.document.replace("controlPlanes: Include", "controlPlanes: Exclude");
    let plan = operator.plan(PlanRequest { document }).await.unwrap().into_inner();
    assert!(plan.control_planes.is_empty(), "{:#?}", plan.control_planes);
    let reads = |call: &String| call.starts_with("GET");
    assert!(coordinator.world.calls().iter().all(reads), "{:?}", coordinator.world.calls());
}

#[tokio::test]
async fn a_plan_is_refused_whose_first_control_plane_could_not_come_last_in_the_end() {
    let coordinator = coordinator().await;
    let (document, inventory) = with_control_planes();
    let named = "master2: {ip: 10.0.0.2, etcd_member_name: etcd2}"; // as its position is today
    register_with(&coordinator, &inventory.replace("master2: {ip: 10.0.0.2}", named));
    let mut operator = coordinator.operator().await;
    let refused = operator.plan(PlanRequest { document: document.clone() }).await.unwrap_err();
    let refused = refused.message();
    for words in [
        "spec.controlPlanes: hosts.yml of ConfigMap kubean-system/prod-hosts-conf: line ",
        "with master1 last, this must be etcd1",
        "take the variable out",
    ] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    let document = document.replace("controlPlanes: Include", "controlPlanes: Exclude");
    operator.plan(PlanRequest { document }).await.unwrap();
}
