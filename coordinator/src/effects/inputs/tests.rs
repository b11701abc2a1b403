//! Stories of inputs.

use serde_json::json;

use crate::{
    domain::{
        effect::Work,
        operation,
        state::{Extent, Kind, Operation, OperationIntent, Outcome, Progress},
    },
    effects::stage::{INVENTORY, NAMESPACE, Stage},
};
use rehull_shared::{evidence::Verdict, ids::Attempt};

const HOSTS: &str = "prod-add-worker1-a1-hosts";

#[tokio::test]
async fn inputs_are_stored_once_and_for_good() {
    let stage = Stage::new();
    let inputs = stage.prepare(Kind::Join).await.unwrap();
    assert_eq!(inputs, stage.prepare(Kind::Join).await.unwrap(), "again, after a crash");
    assert_eq!(inputs.inventory, HOSTS);
    assert_eq!(inputs.ssh_secret.as_deref(), Some("prod-ssh"));
    let map = stage.get("configmaps", NAMESPACE, HOSTS).unwrap();
    assert_eq!(map["immutable"], true);
    assert_eq!(map["data"]["hosts.yml"], INVENTORY, "nobody is out: not a byte is changed");
    let verdict = stage.inputs_stored(&inputs).await;
    assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
}

#[tokio::test]
async fn hosts_that_are_out_are_left_out_but_never_the_node_itself() {
    let mut stage = Stage::new();
    let inputs = stage.prepare(Kind::Remove).await.unwrap();
    for name in ["worker1", "worker2"] {
        let node: rehull_shared::ids::NodeName = name.parse().unwrap();
        let name = operation::name(&"prod".parse().unwrap(), Kind::Remove, &node, Attempt(1));
        let inputs = inputs.clone();
        let intent = OperationIntent { name, kind: Kind::Remove, attempt: Attempt(1), inputs };
        let progress = Progress::Ended { uid: None, outcome: Outcome::Succeeded };
        let operation = Operation {
            intent,
            progress,
            archived: true,
            extent: Extent::Unknown,
            accepted: false,
        };
        stage.node(node.as_str()).operations.push(operation);
        stage.node(node.as_str()).track.phase = crate::domain::state::Phase::Operating;
    }
    let inputs = stage.prepare(Kind::Join).await.unwrap();
    assert_eq!(inputs.left_out, ["worker2".parse().unwrap()]);
    let map = stage.get("configmaps", NAMESPACE, HOSTS).unwrap();
    let text = map["data"]["hosts.yml"].as_str().unwrap();
    assert!(text.contains("worker1:") && !text.contains("worker2"), "{text}");
}

#[tokio::test]
async fn a_copy_of_an_older_inventory_is_made_anew_and_a_foreign_one_is_not_touched() {
    let stage = Stage::new();
    stage.prepare(Kind::Join).await.unwrap();
    stage.management.store().edit("configmaps", NAMESPACE, "prod-hosts-conf", |map| {
        map["data"]["hosts.yml"] = INVENTORY.replace("10.0.0.12", "10.0.0.13").into();
    });
    let trouble = stage.prepare(Kind::Join).await.unwrap_err().to_string();
    assert!(trouble.contains("made anew"), "{trouble}");
    stage.prepare(Kind::Join).await.unwrap();

    let stage = Stage::new();
    stage.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
        "metadata": {"name": HOSTS, "namespace": NAMESPACE}, "data": {"hosts.yml": "all: {}"}}));
    for _ in 0..2 {
        let trouble = stage.prepare(Kind::Join).await.unwrap_err().to_string();
        assert!(trouble.contains("not made for this migration"), "{trouble}");
    }
    assert!(!stage.writes().iter().any(|call| call.starts_with("DELETE")));
}

#[tokio::test]
async fn a_copy_that_an_operation_reads_is_never_replaced() {
    let stage = Stage::new();
    stage.prepare(Kind::Join).await.unwrap();
    stage.put(json!({"apiVersion": "kubean.io/v1alpha1", "kind": "ClusterOperation",
        "metadata": {"name": "prod-add-worker1-a1"}, "spec": {"cluster": "prod"}}));
    stage.management.store().edit("configmaps", NAMESPACE, "prod-hosts-conf", |map| {
        map["data"]["hosts.yml"] = INVENTORY.replace("10.0.0.12", "10.0.0.13").into();
    });
    let trouble = stage.prepare(Kind::Join).await.unwrap_err().to_string();
    assert!(trouble.contains("the operation that reads it exists"), "{trouble}");
}

#[tokio::test]
async fn inputs_that_are_not_as_planned_are_seen() {
    type Change = fn(&Stage);
    let changes: [(Change, &str); 3] = [
        (|s| s.management.store().remove("configmaps", NAMESPACE, HOSTS), "does not exist"),
        (
            |s| {
                s.management.store().edit("configmaps", NAMESPACE, HOSTS, |map| {
                    map["immutable"] = false.into();
                });
            },
            "not immutable",
        ),
        (
            |s| {
                s.management.store().edit("configmaps", NAMESPACE, HOSTS, |map| {
                    map["data"]["hosts.yml"] = "all: {}".into();
                });
            },
            "another hosts.yml",
        ),
    ];
    for (change, words) in changes {
        let stage = Stage::new();
        let inputs = stage.prepare(Kind::Join).await.unwrap();
        change(&stage);
        let verdict = stage.inputs_stored(&inputs).await;
        assert!(matches!(&verdict, Verdict::Fail(seen) if seen.contains(words)), "{verdict:?}");
    }
}

#[tokio::test]
async fn what_nobody_reads_any_more_is_removed_and_operations_are_not() {
    let stage = Stage::new();
    stage.prepare(Kind::Remove).await.unwrap();
    stage.prepare(Kind::Join).await.unwrap();
    let operation = |name: &str, status: &str| {
        stage.put(json!({"apiVersion": "kubean.io/v1alpha1", "kind": "ClusterOperation",
            "metadata": {"name": name}, "spec": {"cluster": "prod"},
            "status": {"status": status}}));
    };
    operation("prod-rm-worker1-a1", "Succeeded");
    operation("prod-add-worker1-a1", "Running");
    stage.pass(Work::CleanUp).await.unwrap();
    let left = |name: &str| stage.get("configmaps", NAMESPACE, name).is_some();
    assert!(!left("prod-rm-worker1-a1-hosts") && !left("prod-rm-worker1-a1-vars"));
    assert!(left(HOSTS), "it is still read");
    assert!(left("prod-hosts-conf") && left("prod-vars-conf"), "the Cluster's own");
    stage.management.store().remove("clusteroperations", "", "prod-add-worker1-a1");
    stage.pass(Work::CleanUp).await.unwrap();
    assert!(!left(HOSTS));
    assert!(stage.get("clusteroperations", "", "prod-rm-worker1-a1").is_some());
}
