//! Operators at the doors: documents, wishes, questions, and the checks of the log.

use futures::StreamExt;
use rehull::{
    domain::{gate::Gate, plan::Role},
    engine,
};
use rehull_proto::v1::{
    ExplainRequest, Intent, PlanRequest, PlanResponse, StartRequest, StatusRequest, TokenRequest,
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

/// A document and an inventory with three control planes that are migrated, too.
pub(crate) fn with_control_planes() -> (String, String) {
    let document = DOCUMENT
        .replace("[10.0.0.1:6443]", "[10.0.0.1:6443, 10.0.0.2:6443, 10.0.0.3:6443]")
        .replace("controlPlanes: Exclude", "controlPlanes: Include");
    let others = "master2: {ip: 10.0.0.2}\n    master3: {ip: 10.0.0.3}\n    worker1:";
    let inventory = INVENTORY
        .replacen("worker1:", others, 1)
        .replace("{hosts: {master1: }}", "{hosts: {master1: , master2: , master3: }}");
    (document, inventory)
}

/// What Kubean keeps of cluster `prod`.
pub(crate) fn register(coordinator: &Coordinator) {
    register_with(coordinator, INVENTORY);
}

/// The same with another inventory.
pub(crate) fn register_with(coordinator: &Coordinator, inventory: &str) {
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
        map("prod-hosts-conf", "hosts.yml", inventory),
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
    let of_workers = Gate::ALL.into_iter().filter(|gate| gate.is_of(Role::Worker)).count();
    assert!(plan.nodes[0].canary && plan.gates.len() == of_workers);
    let silent = plan.blockers.iter().any(|why| why.starts_with("worker2: HostIsNode: agent"));
    assert!(silent, "{:#?}", plan.blockers);
    let reads = |call: &String| call.starts_with("GET");
    assert!(coordinator.world.calls().iter().all(reads), "{:?}", coordinator.world.calls());
    let status = operator.status(StatusRequest::default()).await.unwrap().into_inner();
    assert!(status.clusters.is_empty());
}

#[tokio::test]
async fn a_plan_says_when_its_nodes_would_begin_and_be_done() {
    let coordinator = coordinator().await;
    register(&coordinator);
    let mut operator = coordinator.operator().await;
    let mut ask = async |more: &str| {
        let request = PlanRequest { document: format!("{DOCUMENT}{more}") };
        operator.plan(request).await.unwrap().into_inner()
    };
    let plan = ask("").await;
    assert!(plan.calendar.is_empty());
    let one = plan.schedule.unwrap();
    assert_eq!((one.nodes, one.turns, one.max_out, one.wait_seconds), (2, 2, 1, 0));
    assert_eq!((one.node_seconds, one.work_seconds), (7_200, 14_400));
    let audit = "  freezes: [{from: 2000-01-01T00:00:00Z, to: 2100-01-01T00:00:00Z, why: audit}]\n";
    let plan = ask(audit).await;
    assert_eq!(plan.calendar.len(), 1);
    assert!(plan.calendar[0].ends_with("to 2100-01-01T00:00:00.000Z: audit"), "{plan:?}");
    let after = plan.schedule.unwrap();
    let times = [after.begins, after.first_ends, after.ends];
    assert_eq!(times, ["00", "02", "04"].map(|hour| format!("2100-01-01T{hour}:00:00.000Z")));
    let plan = ask("  windows: [{cron: 0 22 * * *, duration: 1h}]\n").await;
    assert_eq!(plan.schedule, None);
    let never = "nodes wait for a window that is long enough: a node is expected to take 2h";
    assert!(plan.blockers.iter().any(|why| why == never), "{:#?}", plan.blockers);
}

#[tokio::test]
async fn what_is_accepted_of_a_migration_that_runs_is_shown_as_accepted_and_blocks_nothing() {
    let coordinator = coordinator().await;
    register(&coordinator);
    {
        let mut store = coordinator.world.store();
        let room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        let ready = json!([{"type": "Ready", "status": "True"}]);
        for name in ["worker1", "worker2"] {
            store.put(json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name},
                "status": {"allocatable": room, "capacity": room, "conditions": ready}}));
        }
        store.put(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "lone", "namespace": "shop"},
            "spec": {"nodeName": "worker1", "containers": [{"name": "c", "image": "i:1"}]},
            "status": {"phase": "Running", "conditions": ready}}));
    }
    let mut operator = coordinator.operator().await;
    let request = || PlanRequest { document: DOCUMENT.to_owned() };
    let plan = operator.plan(request()).await.unwrap().into_inner();
    let [lone] = &plan.found[..] else { panic!("{:#?}", plan.found) };
    assert_eq!((lone.weight.as_str(), lone.accepted_by.as_str()), ("needs approval", ""));
    let item = lone.item.clone();
    let blocks = |plan: &PlanResponse| plan.blockers.iter().any(|why| why.contains(&item));
    assert!(blocks(&plan), "{:#?}", plan.blockers);
    operator.start(start()).await.unwrap();
    let (node, items) = ("worker1".to_owned(), vec![item.clone()]);
    let why = "a debugging pod".to_owned();
    let wish = Approve { node, items, why, valid_seconds: 3_600, typed: String::new() };
    operator.submit(intent(Wish::Approve(wish))).await.unwrap();
    let plan = operator.plan(request()).await.unwrap().into_inner();
    let [lone] = &plan.found[..] else { panic!("{:#?}", plan.found) };
    assert_eq!((lone.weight.as_str(), &lone.item), ("accepted", &item));
    assert!(!lone.accepted_by.is_empty() && lone.accepted_until.starts_with("20"), "{lone:?}");
    assert!(plan.blockers[0].contains("is being migrated already"), "{:#?}", plan.blockers);
    assert!(!blocks(&plan), "{:#?}", plan.blockers);
    let asked = plan.blockers.iter().any(|why| why.starts_with("worker1: HostIsNode: "));
    assert!(asked, "what else stands in the way is still said: {:#?}", plan.blockers);
}

#[tokio::test]
async fn the_last_node_of_a_plan_needs_room_for_its_own_pods_alone() {
    let coordinator = coordinator().await;
    register(&coordinator);
    {
        let mut store = coordinator.world.store();
        let room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        for name in ["worker1", "worker2"] {
            store.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                "status": {"allocatable": room, "capacity": room,
                    "conditions": [{"type": "Ready", "status": "True"}]}}));
        }
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web",
            "uid": "web", "controller": true}]);
        let template = json!({"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
        // With their UIDs: a pod whose owner is not there would be collected.
        store.adopt(vec![
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
                "metadata": {"name": "web", "namespace": "shop", "uid": "web"},
                "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
                    "template": template}}),
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "web-1", "namespace": "shop", "ownerReferences": owner,
                    "labels": {"app": "web"}},
                "spec": {"nodeName": "worker2", "containers": [{"name": "c", "image": "i:1"}]},
                "status": {"phase": "Running",
                    "conditions": [{"type": "Ready", "status": "True"}]}}),
        ]);
    }
    let mut operator = coordinator.operator().await;
    let mut asked = async || {
        let request = PlanRequest { document: DOCUMENT.to_owned() };
        operator.plan(request).await.unwrap().into_inner().blockers
    };
    let room = |why: &&String| why.starts_with("worker2: CapacityElsewhere");
    assert_eq!(asked().await.iter().find(room), None, "worker1 is back by then");
    // Were it not, there would be none.
    coordinator.world.store().edit("nodes", "", "worker1", |node| {
        node["spec"]["unschedulable"] = json!(true);
    });
    let blockers = asked().await;
    assert!(blockers.iter().any(|why| room(&why) && why.contains("shop/web-1")), "{blockers:#?}");
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
        intent(Wish::Approve(Approve { node, items, why, valid_seconds, typed: String::new() }))
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
async fn a_document_chooses_an_installer_only_among_those_of_the_settings() {
    let coordinator = coordinator().await;
    register(&coordinator);
    let mut operator = coordinator.operator().await;
    let document = |program: &str| {
        let installer = format!("installer: {{command: {{program: {program}}}}}");
        DOCUMENT.replace("installer: {manual: {}}", &installer)
    };
    let allowed = PlanRequest { document: document("/opt/reinstall") };
    operator.plan(allowed).await.unwrap();
    let request = StartRequest { document: document("/bin/sh"), by: String::new() };
    let refused = operator.start(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let words = "spec.installer.command.program: /bin/sh is not among installers of";
    assert!(refused.message().starts_with("line 14, ") && refused.message().contains(words));
    let status = operator.status(StatusRequest::default()).await.unwrap().into_inner();
    assert!(status.clusters.is_empty());
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
