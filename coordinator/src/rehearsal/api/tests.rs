use std::sync::atomic::{AtomicI64, Ordering};

use k8s_openapi::api::{
    core::v1::{ConfigMap, Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    api::{
        Api as Objects, DeleteParams, DynamicObject, EvictParams, ListParams, LogParams, Patch,
        PatchParams, PostParams, Preconditions,
    },
    core::{ApiResource, GroupVersionKind},
};
use rehull_shared::time::Span;
use serde_json::json;

use super::*;

fn at(millis: i64) -> Clock {
    Arc::new(move || Timestamp::from_millis(millis))
}

fn server() -> Api {
    Api::new("tests", at(1_700_000_000_000))
}

fn pod(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "shop", "labels": { "app": app } },
        "spec": { "nodeName": "worker1", "containers": [] },
        "status": { "phase": "Running" },
    })
}

fn code(error: &kube::Error) -> (u16, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.message.clone()),
        other => (0, other.to_string()),
    }
}

#[tokio::test]
async fn objects_are_made_read_changed_and_deleted_as_by_a_server() {
    let api = server();
    let maps: Objects<ConfigMap> = Objects::namespaced(api.client(), "kubean-system");
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": "hosts" }, "data": { "hosts.yml": "all: {}" }, "immutable": true,
    }))
    .unwrap();
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.resource_version.is_some());
    let again = maps.create(&PostParams::default(), &map).await.unwrap_err();
    assert_eq!(code(&again), (409, r#"configmaps "hosts" already exists"#.to_owned()));

    let change = Patch::Merge(json!({ "data": { "hosts.yml": "other" } }));
    let refused = maps.patch("hosts", &PatchParams::default(), &change).await.unwrap_err();
    assert_eq!(code(&refused).0, 422, "what is immutable stays: {refused}");
    let label = Patch::Merge(json!({ "metadata": { "labels": { "a": "b" } } }));
    maps.patch("hosts", &PatchParams::default(), &label).await.unwrap();

    let stale = maps.replace("hosts", &PostParams::default(), &made).await.unwrap_err();
    assert_eq!(code(&stale).0, 409, "the old version is refused: {stale}");
    let other = DeleteParams {
        preconditions: Some(Preconditions { uid: Some("other".into()), resource_version: None }),
        ..DeleteParams::default()
    };
    assert_eq!(code(&maps.delete("hosts", &other).await.unwrap_err()).0, 409);
    maps.delete("hosts", &DeleteParams::default()).await.unwrap();
    let gone = maps.get("hosts").await.unwrap_err();
    assert_eq!(code(&gone), (404, r#"configmaps "hosts" not found"#.to_owned()));
}

#[tokio::test]
async fn lists_are_selected_and_come_in_pages() {
    let api = server();
    for at in 0..5 {
        let app = if at % 2 == 0 { "even" } else { "odd" };
        api.store().put(pod(&format!("pod{at}"), app));
    }
    api.store().edit("pods", "shop", "pod4", |pod| pod["spec"]["nodeName"] = json!("worker2"));
    let pods: Objects<Pod> = Objects::all(api.client());
    let names = |params: ListParams| {
        let pods = pods.clone();
        async move {
            let list = pods.list(&params).await.unwrap();
            let names = list.items.iter().map(|pod| pod.metadata.name.clone().unwrap());
            (names.collect::<Vec<_>>(), list.metadata.continue_.filter(|token| !token.is_empty()))
        }
    };
    let chosen = names(ListParams::default().labels("app=even").fields("spec.nodeName=worker1"));
    assert_eq!(chosen.await.0, ["pod0", "pod2"]);
    let set = names(ListParams::default().labels("app in (odd, none),!x")).await.0;
    assert_eq!(set, ["pod1", "pod3"]);
    let (first, token) = names(ListParams::default().limit(3)).await;
    let rest = names(ListParams::default().limit(3).continue_token(&token.unwrap())).await;
    assert_eq!((first.len(), rest), (3, (vec!["pod3".into(), "pod4".into()], None)));
}

#[tokio::test]
async fn an_eviction_asks_the_budget_and_a_dry_run_takes_nothing_from_it() {
    let api = server();
    api.store().put(pod("web-0", "web"));
    api.store().put(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "selector": { "matchLabels": { "app": "web" } } },
        "status": { "disruptionsAllowed": 1, "desiredHealthy": 2, "currentHealthy": 2 },
    }));
    let pods: Objects<Pod> = Objects::namespaced(api.client(), "shop");
    let dry = EvictParams {
        post_options: PostParams { dry_run: true, ..PostParams::default() },
        ..EvictParams::default()
    };
    pods.evict("web-0", &dry).await.unwrap();
    let budgets: Objects<PodDisruptionBudget> = Objects::namespaced(api.client(), "shop");
    let left = |budget: PodDisruptionBudget| budget.status.unwrap().disruptions_allowed.unwrap();
    assert_eq!(left(budgets.get("web").await.unwrap()), 1);
    api.store().edit("poddisruptionbudgets", "shop", "web", |budget| {
        budget["status"]["disruptionsAllowed"] = json!(0);
    });
    let refused = pods.evict("web-0", &EvictParams::default()).await.unwrap_err();
    let words = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert_eq!(code(&refused), (429, words.to_owned()));
    api.store().remove("poddisruptionbudgets", "shop", "web");
    pods.evict("web-0", &EvictParams::default()).await.unwrap();
    assert_eq!(code(&pods.get("web-0").await.unwrap_err()).0, 404);
}

#[tokio::test]
async fn what_is_owned_goes_with_its_owner_and_in_the_foreground_before_it() {
    let now = Arc::new(AtomicI64::new(1_700_000_000_000));
    let read = now.clone();
    let clock: Clock = Arc::new(move || Timestamp::from_millis(read.load(Ordering::Relaxed)));
    let api = Api::new("tests", clock);
    api.store().set_pod_grace(Span::from_secs(30));
    let kind = GroupVersionKind::gvk("kubean.io", "v1alpha1", "ClusterOperation");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clusteroperations");
    let operations: Objects<DynamicObject> = Objects::all_with(api.client(), &resource);
    let operation = DynamicObject::new("op", &resource).data(json!({ "spec": {} }));
    let made = operations.create(&PostParams::default(), &operation).await.unwrap();
    let owner = |uid: Option<String>| json!([{ "uid": uid, "kind": "x", "name": "x" }]);
    api.store().put(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": "job", "namespace": "shop", "ownerReferences": owner(made.metadata.uid),
        },
    }));
    let job = api.store().get("jobs", "shop", "job").unwrap()["metadata"]["uid"].clone();
    let mut worker = pod("job-pod", "job");
    worker["metadata"]["ownerReferences"] = owner(job.as_str().map(str::to_owned));
    api.store().put(worker);
    let staying = operations.delete("op", &DeleteParams::foreground()).await.unwrap();
    assert!(staying.left().is_some_and(|op| op.metadata.deletion_timestamp.is_some()));
    assert!(operations.get("op").await.is_ok(), "it waits for its pod");
    now.fetch_add(31_000, Ordering::Relaxed);
    assert_eq!(code(&operations.get("op").await.unwrap_err()).0, 404);
    let store = api.store();
    assert_eq!(store.list("jobs").count() + store.list("pods").count(), 0);
}

#[tokio::test]
async fn a_status_is_written_by_its_own_path_only() {
    let api = server();
    api.store().put(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "worker1" },
        "status": { "phase": "old" },
    }));
    let nodes: Objects<Node> = Objects::all(api.client());
    let patch = json!({ "spec": { "unschedulable": true }, "status": { "phase": "new" } });
    nodes.patch("worker1", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let node = api.store().get("nodes", "", "worker1").unwrap().clone();
    assert_eq!(
        (&node["spec"]["unschedulable"], &node["status"]["phase"]),
        (&json!(true), &json!("old"))
    );
    assert_eq!(node["metadata"]["generation"], 2);
    let wrong = json!({ "metadata": { "uid": "other" }, "spec": {} });
    let refused = nodes.patch("worker1", &PatchParams::default(), &Patch::Merge(&wrong)).await;
    assert_eq!(code(&refused.unwrap_err()).0, 409);
}

#[tokio::test]
async fn a_world_may_refuse_break_and_answer_stale() {
    let api = server();
    api.store().put(pod("web-0", "web"));
    let pods: Objects<Pod> = Objects::namespaced(api.client(), "shop");
    let old = api.frozen();
    api.before(Arc::new(move |_| Turn::Elsewhere(old.clone())));
    api.store().remove("pods", "shop", "web-0");
    assert!(pods.get("web-0").await.is_ok(), "a stale server still shows it");
    api.before(Arc::new(|_| Turn::Break("cable".into())));
    assert!(!matches!(pods.get("web-0").await, Err(kube::Error::Api(_))));
    api.before(Arc::new(|_| {
        Turn::Refuse(Refused::new(http::StatusCode::FORBIDDEN, "Forbidden", "not you"))
    }));
    assert_eq!(code(&pods.get("web-0").await.unwrap_err()), (403, "not you".into()));
    let unknown = GroupVersionKind::gvk("crd.projectcalico.org", "v1", "IPPool");
    api.before(Arc::new(|_| Turn::Answer));
    let pools: Objects<DynamicObject> =
        Objects::all_with(api.client(), &ApiResource::from_gvk(&unknown));
    assert_eq!(code(&pools.list(&ListParams::default()).await.unwrap_err()).0, 404);
    *api.store().log_of("shop", "web-1") = "one\ntwo\n".to_owned();
    api.store().put(pod("web-1", "web"));
    let tail = LogParams { tail_lines: Some(1), ..LogParams::default() };
    assert_eq!(pods.logs("web-1", &tail).await.unwrap(), "two\n");
}

#[tokio::test]
async fn what_is_taken_over_stays_what_it_was_whoever_owns_it() {
    let api = server();
    let owned = |name: &str, by: &str| {
        let mut pod = pod(name, "web");
        pod["metadata"]["uid"] = json!(format!("uid-of-{name}"));
        pod["metadata"]["ownerReferences"] = json!([{ "uid": by, "kind": "x", "name": "x" }]);
        pod
    };
    let other = json!({ "apiVersion": "example.com/v1", "kind": "Other", "metadata": {} });
    api.store().adopt(vec![owned("a", "of-a-kind-that-is-not-known"), other]);
    api.store().put(owned("b", "nobody"));
    api.store().remove("pods", "shop", "none"); // the collector looks
    let store = api.store();
    let left: Vec<&Value> = store.list("pods").map(|pod| &pod["metadata"]["uid"]).collect();
    assert_eq!(left, ["uid-of-a"], "the one that has lost its owner is gone, and no other");
}
