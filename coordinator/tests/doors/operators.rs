//! Operators at the doors: documents, wishes, questions, and the checks of the log.

use futures::StreamExt;
use rehull::{domain::gate::Gate, engine};
use rehull_proto::v1::{
    ExplainRequest, Intent, PlanRequest, StartRequest, StatusRequest, TokenRequest,
    VerifyLogRequest,
    intent::{Approve, ConfirmReinstalled, Disapprove, Pause, Resume, Wish},
};
use serde_json::json;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::house::{Coordinator, coordinator};

pub(crate) const DOCUMENT: &str = "\
apiVersion: rehull.dev/v1alpha1
kind: Migration
metadata: {name: prod}
spec:
  cluster: prod
  workload:
    apiServers: [10.0.0.1:6443]
  source: centos-7.9
  target: ubuntu-22.04
  operations:
    image: ghcr.io/kubean-io/spray-job:v0.12.2
    kubernetesVersion: v1.27.5
  controlPlanes: Exclude
  installer: {manual: {}}
";

const INVENTORY: &str = "\
all:
  hosts:
    master1: {ip: 10.0.0.1}
    worker1: {ip: 10.0.0.11}
    worker2: {ip: 10.0.0.12}
  children:
    kube_control_plane: {hosts: {master1: }}
    kube_node: {hosts: {master1: , worker1: , worker2: }}
    etcd: {hosts: {master1: }}
    k8s_cluster: {children: {kube_control_plane: , kube_node: }}
";

/// What Kubean keeps of cluster `prod`.
pub(crate) fn register(coordinator: &Coordinator) {
    let mut store = coordinator.world.store();
    let reference = |name: &str| json!({"namespace": "kubean-system", "name": name});
    let map = |name: &str, key: &str, text: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "kubean-system", "name": name},
            "data": {key: text},
        })
    };
    for object in [
        json!({
            "apiVersion": "kubean.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "prod"},
            "spec": {
                "hostsConfRef": reference("prod-hosts-conf"),
                "varsConfRef": reference("prod-vars-conf"),
            },
        }),
        map("prod-hosts-conf", "hosts.yml", INVENTORY),
        map("prod-vars-conf", "group_vars.yml", "{}"),
    ] {
        store.put(object);
    }
}

pub(crate) fn start() -> StartRequest {
    StartRequest { document: DOCUMENT.to_owned(), by: "not me".to_owned() }
}

pub(crate) fn intent(wish: Wish) -> Intent {
    Intent { cluster: "prod".to_owned(), by: "not me".to_owned(), wish: Some(wish) }
}

#[tokio::test]
async fn a_document_is_tried_out_and_nothing_is_changed() {
    let coordinator = coordinator().await;
    register(&coordinator);
    let mut operator = coordinator.operator().await;
    let request = PlanRequest { document: DOCUMENT.to_owned() };
    let plan = operator.plan(request).await.unwrap().into_inner();
    let names: Vec<_> = plan.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["worker1", "worker2"]);
    assert!(plan.nodes[0].canary && plan.gates.len() == Gate::ALL.len());
    let silent = plan.blockers.iter().any(|why| why.starts_with("worker2: HostIsNode: agent"));
    assert!(silent, "{:#?}", plan.blockers);
    let reads = |call: &String| call.starts_with("GET");
    assert!(coordinator.world.calls().iter().all(reads), "{:?}", coordinator.world.calls());
    let status = operator.status(StatusRequest::default()).await.unwrap().into_inner();
    assert!(status.clusters.is_empty());
}

#[tokio::test]
async fn what_is_there_can_be_accepted_by_its_number_and_nothing_else() {
    let coordinator = coordinator().await;
    register(&coordinator);
    let mut operator = coordinator.operator().await;
    operator.start(start()).await.unwrap();
    let open = INVENTORY.replace("ip: 10.0.0.11", "ip: 10.0.0.11, ansible_password: hunter2");
    coordinator.world.store().edit("configmaps", "kubean-system", "prod-hosts-conf", |map| {
        map["data"]["hosts.yml"] = open.clone().into();
    });
    let approve = |item: &str, why: &str, valid_seconds| {
        let (node, items, why) = ("worker1".to_owned(), vec![item.to_owned()], why.to_owned());
        intent(Wish::Approve(Approve { node, items, why, valid_seconds }))
    };
    let item = "7ea002e0bdb2";
    for (wish, code, words) in [
        (approve(item, " ", 60), Code::InvalidArgument, "needs a reason"),
        (approve(item, "agreed", 31 * 86_400), Code::InvalidArgument, "720h at the most"),
        (approve("HOSTS", "agreed", 60), Code::InvalidArgument, "is no number of an item"),
        (approve("0123456789ab", "agreed", 60), Code::NotFound, "has the number 0123456789ab now"),
    ] {
        let refused = operator.submit(wish).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(words), "{refused}");
    }
    let receipt = operator.submit(approve(item, "agreed", 60)).await.unwrap().into_inner();
    assert!(receipt.said.contains("worker1: 1 item is accepted until"), "{}", receipt.said);
    let request = ExplainRequest { cluster: "prod".to_owned(), node: "worker1".to_owned() };
    let told = operator.explain(request.clone()).await.unwrap().into_inner();
    let line = format!("ansible_password (line 4) (item {item}) by ");
    assert!(told.approvals[0].contains(&line), "{:?}", told.approvals);
    assert!(!format!("{told:?}").contains("hunter2"));
    let back = Disapprove { node: "worker1".to_owned(), items: vec![item.to_owned()] };
    operator.submit(intent(Wish::Disapprove(back))).await.unwrap();
    assert!(operator.explain(request).await.unwrap().into_inner().approvals.is_empty());
}

#[tokio::test]
async fn a_migration_is_started_once_and_paused_and_resumed() {
    let coordinator = coordinator().await;
    register(&coordinator);
    let mut operator = coordinator.operator().await;
    operator.start(start()).await.unwrap();
    let again = operator.start(start()).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition, "{again}");
    assert!(again.message().contains("is being migrated already"), "{again}");

    let mut watch = operator.watch(StatusRequest::default()).await.unwrap().into_inner();
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(first.clusters[0].state, "Preflight");
    let paused = operator.submit(intent(Wish::Pause(Pause {}))).await.unwrap().into_inner();
    assert!(paused.sequence > 0);
    let next = watch.next().await.unwrap().unwrap();
    assert_eq!((next.clusters[0].state.as_str(), next.sequence), ("Paused", paused.sequence));
    let by = next.clusters[0].paused_by.as_str();
    assert!(!by.is_empty() && by != "not me", "{by}");
    let same = operator.submit(intent(Wish::Pause(Pause {}))).await.unwrap().into_inner();
    assert_eq!(same.sequence, 0);
    operator.submit(intent(Wish::Resume(Resume {}))).await.unwrap();

    let request = ExplainRequest { cluster: "prod".to_owned(), node: "worker1".to_owned() };
    let explained = operator.explain(request).await.unwrap().into_inner();
    assert_eq!(explained.waits_for, "its turn: the cluster itself is not ready");
    let node = "worker1".to_owned();
    let early = Wish::ConfirmReinstalled(ConfirmReinstalled { node });
    let refused = operator.submit(intent(early)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
}

#[tokio::test]
async fn a_bad_document_is_refused_with_its_place() {
    let coordinator = coordinator().await;
    let mut operator = coordinator.operator().await;
    let document = DOCUMENT.replace("source:", "sauce:");
    let refused = operator.plan(PlanRequest { document }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("line 8"), "{refused}");
    let unknown = operator.start(start()).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument, "{unknown}");
    assert!(unknown.message().contains("Cluster prod"), "{unknown}");
}

#[tokio::test]
async fn the_log_names_the_user_of_the_socket_and_never_the_secret() {
    let coordinator = coordinator().await;
    let token = coordinator.token().await;
    assert_eq!(token.len(), 64);
    let mut operator = coordinator.operator().await;
    let steps = operator.verify_log(VerifyLogRequest {}).await.unwrap().into_inner();
    let steps: Vec<_> = steps.map(Result::unwrap).collect().await;
    let last = steps.last().unwrap();
    assert!(last.done && last.events == 2 && last.head.len() == 64, "{last:?}");

    let log = coordinator.dir.path().join("log");
    drop(operator);
    coordinator.stop();
    let read = tokio::task::spawn_blocking(move || engine::read(&log));
    let (_, history) = read.await.unwrap().unwrap();
    let events = format!("{:?}", history.of(&"prod".parse().unwrap()));
    assert!(events.contains("TokenIssued") && !events.contains(&token), "{events}");
    assert!(!events.contains("not me"), "{events}");
}

#[tokio::test]
async fn a_token_for_too_long_and_a_cluster_without_a_migration_are_refused() {
    let coordinator = coordinator().await;
    let mut operator = coordinator.operator().await;
    let longer = TokenRequest {
        cluster: "prod".to_owned(),
        node: "worker1".to_owned(),
        valid_seconds: 8 * 86_400,
        ..TokenRequest::default()
    };
    let refused = operator.issue_token(longer).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let request = StatusRequest { cluster: "prod".to_owned() };
    assert_eq!(operator.status(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn anybody_may_ask_whether_it_lives() {
    let coordinator = coordinator().await;
    let mut health = HealthClient::new(coordinator.dial(None).await.unwrap());
    let answer = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status, 1);
}
