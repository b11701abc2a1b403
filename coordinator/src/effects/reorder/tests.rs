//! Stories of the first control plane that comes to stand last.

use rehull_shared::{evidence::Check, ids::NodeName};
use serde_json::{Value, json};

use crate::{
    domain::{
        command::{Report, Request},
        effect::Work,
        plan::{PlannedNode, Role},
        state::{Kind, Node, Subject},
    },
    effects::{
        stage::{NAMESPACE, Stage},
        testing::says,
    },
};

const THREE: &str = "\
all:
  hosts:
    m1: {ip: 10.0.0.1}
    m2: {ip: 10.0.0.2}
    m3: {ip: 10.0.0.3}
  children:
    kube_control_plane:
      hosts:
        m1: # the old hall
        m2:
        m3:
    kube_node:
      hosts: {m1: , m2: , m3: }
    etcd:
      hosts:
        m1:
        m2:
        m3:
";

fn m1() -> NodeName {
    "m1".parse().unwrap()
}

fn inventory(text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "prod-hosts-conf", "namespace": NAMESPACE},
        "data": {"hosts.yml": text}})
}

/// A stage with three control planes, of which `m1` is the first.
fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.put(inventory(THREE));
    for (name, role) in [("m1", Role::FirstControlPlane), ("m2", Role::ControlPlane)] {
        let (name, address) = (name.parse().unwrap(), format!("10.0.0.{}", &name[1..]));
        let planned = PlannedNode { name, address, canary: false, role };
        stage.migration().nodes.push(Node::new(planned, Default::default()));
    }
    stage
}

fn text(stage: &Stage, name: &str) -> String {
    let map = stage.get("configmaps", NAMESPACE, name).unwrap();
    map["data"]["hosts.yml"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn lines_move_once_and_the_text_before_is_kept() {
    let mut stage = stage();
    let subject = Subject::Node(m1());
    let work = || Work::ReorderInventory { node: m1() };
    assert_eq!(stage.has_logged(work()).await, ["ConfigMap kubean-system/prod-hosts-conf"]);
    assert_eq!(text(&stage, "prod-hosts-conf"), THREE, "the log comes first");
    // Somebody writes it meanwhile: what the log has is about another text.
    stage.put(inventory(&THREE.replace("old", "new")));
    stage.put(inventory(THREE));
    assert_eq!(stage.has_logged(work()).await, ["ConfigMap kubean-system/prod-hosts-conf"]);
    let look = || stage.look(&subject, Check::InventoryReordered);
    says(&look().await, "fail", "m1 is the first of kube_control_plane");
    let mut requests = stage.pass(work()).await.unwrap();
    let Some(Request::Report(Report::Reordered { before_sha256, .. })) = requests.pop() else {
        panic!("{requests:?}");
    };
    let edited = text(&stage, "prod-hosts-conf");
    assert!(edited.contains("        m2:\n        m3:\n        m1: # the old hall\n"), "{edited}");
    assert!(edited.contains("hosts: {m2: , m3: , m1: }"), "{edited}");
    assert_eq!(text(&stage, &format!("prod-hosts-conf-before-{}", &before_sha256[..8])), THREE);
    says(&look().await, "pass", "m2 is the first, and m1 the last");
    let writes = stage.writes().len();
    assert!(stage.pass(work()).await.unwrap().is_empty(), "it is done");
    assert_eq!(stage.writes().len(), writes);
    // Another writer brings the old one back.
    stage.put(inventory(THREE));
    says(&look().await, "fail", "playbooks would ask it");
}

#[tokio::test]
async fn operations_of_the_first_have_it_last_before_the_cluster_does() {
    let stage = stage();
    let prepare = async |node: &str, kind| {
        let (node, attempt) = (node.parse().unwrap(), rehull_shared::ids::Attempt(1));
        stage.pass(Work::PrepareInputs { node, kind, attempt }).await
    };
    prepare("m1", Kind::Kubeconfig).await.unwrap();
    let own = text(&stage, "prod-conf-m1-a1-hosts");
    assert!(own.contains("        m2:\n        m3:\n        m1: # the old hall\n"), "{own}");
    assert_eq!(text(&stage, "prod-hosts-conf"), THREE, "the Cluster's own is as it was");
    prepare("m2", Kind::Remove).await.unwrap();
    assert_eq!(text(&stage, "prod-rm-m2-a1-hosts"), THREE);
    // Whoever would be asked by its own removal is not removed.
    stage.put(inventory(&THREE.replace("m1", "x1").replace("m2", "m1").replace("x1", "m2")));
    let trouble = prepare("m2", Kind::Join).await.unwrap_err().to_string();
    assert!(trouble.contains("m2 is the first of kube_control_plane"), "{trouble}");
}

#[tokio::test]
async fn an_inventory_that_cannot_be_edited_is_told_before_anything_and_left_alone() {
    let mut stage = stage();
    stage.migration().nodes.retain(|node| node.planned.role.is_control_plane());
    let understood = || stage.look(&Subject::Cluster, Check::InventoryUnderstood);
    says(&understood().await, "pass", "3 hosts, 2 of them planned");
    let anchored = THREE.replace(
        "    kube_control_plane:\n      hosts:\n",
        "    kube_control_plane:\n      hosts: &all\n",
    );
    let anchored = anchored.replace(
        "    etcd:\n      hosts:\n        m1:\n        m2:\n        m3:\n",
        "    etcd:\n      hosts: {<<: *all}\n",
    );
    stage.put(inventory(&anchored));
    says(&understood().await, "fail", "the order cannot be changed by moving text");
    let writes = stage.writes().len();
    let trouble = stage.pass(Work::ReorderInventory { node: m1() }).await.unwrap_err().to_string();
    assert!(trouble.contains("prod-hosts-conf"), "{trouble}");
    assert_eq!(stage.writes().len(), writes);
    assert_eq!(text(&stage, "prod-hosts-conf"), anchored);
}
