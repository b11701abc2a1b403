//! What the management cluster says of each check: true, false, and unknown.

use std::sync::Arc;

use rehull_shared::evidence::{Check, Verdict};
use serde_json::json;

use crate::{
    domain::state::{Kind, Subject},
    effects::stage::{INVENTORY, NAMESPACE, Stage, worker1},
    rehearsal::api::Turn,
};

async fn look(stage: &Stage, check: Check) -> Verdict {
    let subject = match check {
        Check::InputsStored => Subject::Node(worker1()),
        _ => Subject::Cluster,
    };
    stage.look(&subject, check).await
}

#[track_caller]
fn says(verdict: &Verdict, word: &str, part: &str) {
    assert_eq!(verdict.word(), word, "{verdict:?}");
    assert!(verdict.seen().contains(part), "{verdict:?} does not speak of {part:?}");
}

fn operation(name: &str, action: &str, image: &str, status: &str) -> serde_json::Value {
    json!({"apiVersion": "kubean.io/v1alpha1", "kind": "ClusterOperation",
        "metadata": {"name": name}, "spec": {"cluster": "prod", "action": action, "image": image},
        "status": {"status": status}})
}

fn set(stage: &Stage, name: &str, key: &str, text: String) {
    let store = &mut stage.management.store();
    assert!(store.edit("configmaps", NAMESPACE, name, |map| map["data"][key] = text.into()));
}

#[tokio::test]
async fn an_api_that_does_not_answer_proves_nothing() {
    for check in [
        Check::ManagementSeparate,
        Check::KubeconfigUsable,
        Check::VersionsPinned,
        Check::InventoryUnderstood,
        Check::NoForeignOperation,
        Check::InputsStored,
        Check::InputsRemoved,
    ] {
        let mut stage = Stage::new();
        let inputs = stage.prepare(Kind::Remove).await.unwrap();
        stage.node("worker1").inputs = Some(inputs);
        stage.management.before(Arc::new(|_| Turn::Break("connection refused".into())));
        says(&look(&stage, check).await, "unknown", "connection refused");
    }
}

#[tokio::test]
async fn the_two_clusters_must_be_two() {
    let mut stage = Stage::new();
    says(&look(&stage, Check::ManagementSeparate).await, "pass", "kube-system");
    stage.join_clusters();
    says(&look(&stage, Check::ManagementSeparate).await, "fail", "itself");
}

#[tokio::test]
async fn the_kubeconfig_must_not_lead_to_a_node_that_goes() {
    let stage = Stage::new();
    says(&look(&stage, Check::KubeconfigUsable).await, "pass", "10.0.0.1:6443");
    let map = stage.get("configmaps", NAMESPACE, "prod-kubeconf").unwrap();
    let text = map["data"]["config"].as_str().unwrap().replace("10.0.0.1:", "10.0.0.11:");
    set(&stage, "prod-kubeconf", "config", text);
    says(&look(&stage, Check::KubeconfigUsable).await, "fail", "is worker1");
    set(&stage, "prod-kubeconf", "config", "token: [hunter2".into());
    let verdict = look(&stage, Check::KubeconfigUsable).await;
    says(&verdict, "unknown", "not a kubeconfig");
    assert!(!verdict.seen().contains("hunter2"), "{verdict:?}");
}

#[tokio::test]
async fn a_kubeconfig_of_another_cluster_with_nodes_of_the_same_names_is_found_out() {
    let stage = Stage::new();
    let address = |node: &str, address: &str| {
        stage.workload.store().edit("nodes", "", node, |node| {
            node["status"]["addresses"] = json!([{"type": "InternalIP", "address": address}]);
        });
    };
    address("worker1", "10.0.0.11");
    address("worker2", "10.9.0.12");
    let verdict = look(&stage, Check::KubeconfigUsable).await;
    says(&verdict, "fail", "of another cluster: worker2 has 10.9.0.12 there, not 10.0.0.12");
    address("worker2", "10.0.0.12");
    says(&look(&stage, Check::KubeconfigUsable).await, "pass", "is ready");
    stage.workload.store().remove("nodes", "", "worker1");
    says(&look(&stage, Check::KubeconfigUsable).await, "pass", "is ready");
    stage.workload.store().remove("nodes", "", "worker2");
    says(&look(&stage, Check::KubeconfigUsable).await, "fail", "none of the planned nodes");
}

#[tokio::test]
async fn image_and_versions_must_be_the_running_ones() {
    let stage = Stage::new();
    says(&look(&stage, Check::VersionsPinned).await, "pass", "no deployment is kept");
    let image = "registry.example/spray-job:v0.12.2";
    stage.put(operation("install", "cluster.yml", image, "Succeeded"));
    stage.put(operation("check", "ping.yml", "other:1", "Succeeded"));
    stage.put(operation("failed", "cluster.yml", "other:2", "Failed"));
    says(&look(&stage, Check::VersionsPinned).await, "pass", "install has deployed");
    stage.wait(60);
    stage.put(operation("upgrade", "upgrade-cluster.yml", "other:3", "Succeeded"));
    says(&look(&stage, Check::VersionsPinned).await, "fail", "upgrade has deployed with other:3");

    let stage = Stage::new();
    stage.workload.store().edit("nodes", "", "worker2", |node| {
        node["status"]["nodeInfo"]["kubeletVersion"] = "v1.26.1".into();
    });
    says(&look(&stage, Check::VersionsPinned).await, "fail", "worker2 runs v1.26.1");
}

#[tokio::test]
async fn the_inventory_must_be_understood_and_hold_no_passwords() {
    let stage = Stage::new();
    says(&look(&stage, Check::InventoryUnderstood).await, "pass", "3 hosts, 2 of them planned");
    let inventory = |text: String| set(&stage, "prod-hosts-conf", "hosts.yml", text);
    let cases = [
        (INVENTORY.replace("etcd:", "etdc:"), "etcd: the group has no hosts"),
        (INVENTORY.replace("      ip: 10.0.0.12", "      ip: 10.0.0.99"), "address 10.0.0.12"),
        (INVENTORY.replace("        worker2:\n", ""), "worker2 is no worker"),
        (
            INVENTORY.replace("ip: 10.0.0.12", "ip: 10.0.0.12\n      ansible_password: hunter2"),
            "all.hosts.worker2.ansible_password (line 8)",
        ),
    ];
    for (text, words) in cases {
        inventory(text);
        let verdict = look(&stage, Check::InventoryUnderstood).await;
        says(&verdict, "fail", words);
        assert!(!verdict.seen().contains("hunter2"), "{verdict:?}");
    }
    inventory(INVENTORY.into());
    set(&stage, "prod-vars-conf", "group_vars.yml", "etcd_member_name: etcd1\n".into());
    says(&look(&stage, Check::InventoryUnderstood).await, "fail", "variables: line 1");
    set(&stage, "prod-vars-conf", "group_vars.yml", "ansible_become_pass: hunter2\n".into());
    says(
        &look(&stage, Check::InventoryUnderstood).await,
        "fail",
        "variables: a password in plain text at ansible_become_pass (line 1) (item ",
    );
}

#[tokio::test]
async fn no_operation_may_be_unfinished_and_no_pod_of_ours_may_run() {
    let mut stage = Stage::new();
    says(&look(&stage, Check::NoForeignOperation).await, "pass", "no operation of prod");
    stage.put(operation("done", "cluster.yml", "i:1", "Failed"));
    says(&look(&stage, Check::NoForeignOperation).await, "pass", "");
    stage.put(operation("by-hand", "cluster.yml", "i:1", ""));
    says(
        &look(&stage, Check::NoForeignOperation).await,
        "fail",
        "by-hand (cluster.yml, not begun)",
    );
    stage.management.store().remove("clusteroperations", "", "by-hand");

    let name = stage.intend(Kind::Remove).await;
    stage.put(operation(&name, "remove-node.yml", "i:1", "Running"));
    says(
        &look(&stage, Check::NoForeignOperation).await,
        "fail",
        "our operation prod-rm-worker1-a1",
    );
    let other = Subject::Node("worker2".parse().unwrap());
    for (subject, word) in [(other, "pass"), (Subject::Node(worker1()), "fail")] {
        let verdict = stage.look(&subject, Check::NoForeignOperation).await;
        says(&verdict, word, "");
    }
    // It is deleted in the background: its pod lives on for a while.
    stage.management.store().remove("clusteroperations", "", &name);
    let pod = |name: &str, job: &str| {
        stage.put(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"job-name": job}},
            "spec": {"containers": []}, "status": {"phase": "Running"}}));
    };
    pod("elsewhere", "kubean-another-job");
    says(&look(&stage, Check::NoForeignOperation).await, "pass", "");
    pod("survivor", "kubean-prod-rm-worker1-a1-job");
    says(&look(&stage, Check::NoForeignOperation).await, "fail", "survivor");
}

#[tokio::test]
async fn inputs_must_be_stored_for_those_who_are_in_now_and_removed_in_the_end() {
    let mut stage = Stage::new();
    says(&look(&stage, Check::InputsRemoved).await, "pass", "");
    says(&look(&stage, Check::InputsStored).await, "unknown", "not stored yet");
    let inputs = stage.prepare(Kind::Remove).await.unwrap();
    stage.node("worker1").inputs = Some(inputs.clone());
    says(&look(&stage, Check::InputsStored).await, "pass", "left out: nobody");
    says(&look(&stage, Check::InputsRemoved).await, "fail", "prod-rm-worker1-a1-hosts");
    let left_out = vec!["worker2".parse().unwrap()];
    stage.node("worker1").inputs = Some(crate::domain::state::Inputs { left_out, ..inputs });
    says(&look(&stage, Check::InputsStored).await, "fail", "worker2");
}
