//! Stories of operations, told by the traces that they leave at the API.

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    domain::{
        command::{Report, Request},
        effect::Work,
        state::{Kind, Outcome, Progress},
    },
    effects::{
        Requests,
        stage::{NAMESPACE, Stage, worker1},
    },
    rehearsal::api::{Turn, answer::Refused},
};

mod traces;

const NAME: &str = "prod-rm-worker1-a1";
const JOB: &str = "kubean-prod-rm-worker1-a1-job";
const POD: &str = "kubean-prod-rm-worker1-a1-job-x7k2p";

async fn intended() -> Stage {
    let mut stage = Stage::new();
    assert_eq!(stage.intend(Kind::Remove).await, NAME);
    stage
}

/// The operation is created, and the state knows it.
async fn submitted() -> Stage {
    let mut stage = intended().await;
    let requests = run(&stage).await.unwrap();
    let [Request::Report(Report::Submitted { uid, .. })] = requests.as_slice() else {
        panic!("{requests:?}")
    };
    stage.progress(Progress::Submitted { uid: uid.clone(), others: 0 });
    stage
}

/// The operator has seen its pod running.
async fn started() -> Stage {
    let mut stage = submitted().await;
    operator_starts(&stage);
    let uid = uid_of(&stage, "clusteroperations", "", NAME);
    stage.progress(Progress::Started { uid, pod: POD.into() });
    stage
}

async fn run(stage: &Stage) -> Result<Requests, String> {
    let work = Work::RunOperation { node: worker1(), name: NAME.into() };
    stage.pass(work).await.map_err(|trouble| trouble.to_string())
}

async fn withdraw(stage: &Stage) -> Result<Requests, String> {
    let work = Work::WithdrawOperation { node: worker1(), name: NAME.into() };
    stage.pass(work).await.map_err(|trouble| trouble.to_string())
}

fn uid_of(stage: &Stage, plural: &str, namespace: &str, name: &str) -> String {
    stage.get(plural, namespace, name).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn owner(kind: &str, uid: &str) -> Value {
    json!([{"apiVersion": "v1", "kind": kind, "name": "o", "uid": uid, "controller": true}])
}

/// What the operator and the Job controller do when all goes well, up to a running pod.
fn operator_starts(stage: &Stage) {
    let uid = uid_of(stage, "clusteroperations", "", NAME);
    stage.put(json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": JOB, "namespace": NAMESPACE,
            "ownerReferences": owner("ClusterOperation", &uid)},
        "spec": {"template": {"spec": {"containers": []}}}}));
    stage.put(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": POD, "namespace": NAMESPACE, "labels": {"job-name": JOB},
            "ownerReferences": owner("Job", &uid_of(stage, "jobs", NAMESPACE, JOB))},
        "spec": {"nodeName": "mgmt1", "containers": []},
        "status": {"phase": "Running", "containerStatuses": [{"name": "kubean", "image": "i",
            "imageID": "i@sha256:1", "ready": true, "restartCount": 0}]}}));
    edit(stage, "clusteroperations", "", NAME, |operation| {
        operation["metadata"]["annotations"]["kubean.io/actor"] = POD.into();
        operation["status"] = json!({"status": "Running",
            "jobRef": {"namespace": NAMESPACE, "name": JOB},
            "startTime": "2023-11-14T22:13:20Z"});
    });
}

/// The pod, the Job and the operation end, each with its word.
fn operator_ends(stage: &Stage, pod: &str, job: &str, operation: &str) {
    edit(stage, "pods", NAMESPACE, POD, |object| object["status"]["phase"] = pod.into());
    edit(stage, "jobs", NAMESPACE, JOB, |object| {
        object["status"] = json!({"conditions": [{"type": job, "status": "True",
            "reason": "BackoffLimitExceeded", "lastTransitionTime": "2023-11-14T22:14:00Z"}]});
    });
    edit(stage, "clusteroperations", "", NAME, |object| {
        object["status"]["status"] = operation.into();
        object["status"]["endTime"] = "2023-11-14T22:14:00Z".into();
    });
}

fn edit(
    stage: &Stage,
    plural: &'static str,
    namespace: &str,
    name: &str,
    change: impl FnOnce(&mut Value),
) {
    assert!(stage.management.store().edit(plural, namespace, name, change), "no {plural} {name}");
}

fn foreign(name: &str, cluster: &str, status: &str) -> Value {
    json!({"apiVersion": "kubean.io/v1alpha1", "kind": "ClusterOperation",
        "metadata": {"name": name},
        "spec": {"cluster": cluster, "action": "cluster.yml", "actionType": "playbook",
            "image": "i:1"},
        "status": {"status": status}})
}

#[track_caller]
fn ended(requests: &[Request]) -> (Outcome, &str) {
    match requests.last() {
        Some(Request::Report(Report::Ended { outcome, seen, .. })) => (*outcome, seen),
        other => panic!("no end is reported: {other:?}"),
    }
}

fn creations(stage: &Stage) -> usize {
    let post = "POST /apis/kubean.io/v1alpha1/clusteroperations";
    stage.writes().iter().filter(|call| call.as_str() == post).count()
}

#[tokio::test]
async fn an_operation_is_created_once_however_often_the_pass_is_run() {
    let stage = intended().await;
    let first = run(&stage).await.unwrap();
    // The process dies before the report is written: the state still says that it is intended.
    let again = run(&stage).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(creations(&stage), 1);
    let made = stage.get("clusteroperations", "", NAME).unwrap();
    assert_eq!(made["spec"]["extraArgs"], "-e node=worker1");
    assert_eq!(made["spec"]["sshAuthRef"]["name"], "prod-ssh");
    assert_eq!(made["spec"]["hostsConfRef"]["name"], "prod-rm-worker1-a1-hosts");
    assert!(made["metadata"]["annotations"]["kubean.io/actor"].is_null());
}

#[tokio::test]
async fn what_the_operator_adds_does_not_hide_our_own_operation_from_us() {
    let stage = intended().await;
    run(&stage).await.unwrap();
    edit(&stage, "clusteroperations", "", NAME, |operation| {
        operation["spec"]["actionSource"] = "builtin".into();
        operation["spec"]["resources"] = json!({});
        operation["spec"]["entrypointSHRef"] = json!({"namespace": NAMESPACE, "name": "e"});
        operation["spec"]["postHook"][0]["extraArgs"] = "".into();
    });
    let [Request::Report(Report::Submitted { others: 0, .. })] = &run(&stage).await.unwrap()[..]
    else {
        panic!("it is ours")
    };
}

#[tokio::test]
async fn an_operation_that_only_has_our_name_is_not_taken_for_ours() {
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 4] = [
        (|op| op["spec"]["extraArgs"] = "-e node=worker2".into(), "spec has been changed"),
        (|op| op["metadata"]["annotations"]["rehull.dev/attempt"] = "2".into(), "attempt"),
        (|op| op["metadata"]["annotations"]["rehull.dev/epoch"] = "9".into(), "later coordinator"),
        (|op| op["metadata"]["annotations"] = Value::Null, "annotation"),
    ];
    for (change, words) in changes {
        let stage = intended().await;
        run(&stage).await.unwrap();
        edit(&stage, "clusteroperations", "", NAME, change);
        let trouble = run(&stage).await.expect_err(words);
        assert!(trouble.contains(words), "{trouble}");
        // Nor is it deleted when ours is given up.
        let requests = withdraw(&stage).await.unwrap();
        assert_eq!(ended(&requests).0, Outcome::Unknown);
        assert!(!stage.writes().iter().any(|call| call.starts_with("DELETE")));
    }
}

#[tokio::test]
async fn nothing_is_created_beside_an_unfinished_operation_of_the_cluster() {
    for status in ["", "Running"] {
        let stage = intended().await;
        stage.put(foreign("by-hand", "prod", status));
        let trouble = run(&stage).await.unwrap_err();
        assert!(trouble.contains("by-hand"), "{trouble}");
        assert_eq!(creations(&stage), 0);
    }
    let stage = intended().await;
    stage.put(foreign("old", "prod", "Succeeded"));
    stage.put(foreign("elsewhere", "other", "Running"));
    let requests = run(&stage).await.unwrap();
    assert!(matches!(&requests[..], [Request::Report(Report::Submitted { others: 1, .. })]));
}

#[tokio::test]
async fn an_operation_that_slipped_in_at_the_same_moment_is_reported() {
    let stage = intended().await;
    run(&stage).await.unwrap();
    stage.put(foreign("slipped-in", "prod", "Running"));
    let requests = run(&stage).await.unwrap();
    let [Request::Report(Report::Submitted { others: 1, .. }), Request::Report(foreign)] =
        &requests[..]
    else {
        panic!("{requests:?}")
    };
    assert!(matches!(foreign, Report::Foreign { name, .. } if name == "slipped-in"));
}

#[tokio::test]
async fn a_job_that_would_be_adopted_prevents_the_creation() {
    let stage = intended().await;
    stage.put(json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": JOB, "namespace": NAMESPACE}}));
    let trouble = run(&stage).await.unwrap_err();
    assert!(trouble.contains("would adopt it"), "{trouble}");
    assert_eq!(creations(&stage), 0);
}

#[tokio::test]
async fn inputs_are_looked_at_once_more_before_the_creation() {
    let stage = intended().await;
    stage.management.store().remove("configmaps", NAMESPACE, "prod-rm-worker1-a1-hosts");
    let trouble = run(&stage).await.unwrap_err();
    assert!(trouble.contains("prod-rm-worker1-a1-hosts does not exist"), "{trouble}");
    assert_eq!(creations(&stage), 0);
}

#[tokio::test]
async fn what_was_admitted_long_ago_is_not_created_any_more() {
    let stage = intended().await;
    stage.wait(29);
    assert!(run(&stage).await.is_ok());
    let stage = intended().await;
    stage.wait(30);
    let trouble = run(&stage).await.unwrap_err();
    assert!(trouble.contains("what has admitted it is too old"), "{trouble}");
    assert_eq!(stage.get("clusteroperations", "", NAME), None);
}

#[tokio::test]
async fn a_refusal_of_the_webhook_is_told_in_its_own_words() {
    let stage = intended().await;
    stage.management.before(std::sync::Arc::new(|call| {
        if call.method == http::Method::POST {
            let words = "admission webhook \"kubean.io.webhook\" denied the request";
            return Turn::Refuse(Refused::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", words));
        }
        Turn::Answer
    }));
    let trouble = run(&stage).await.unwrap_err();
    assert!(trouble.contains("406") && trouble.contains("denied the request"), "{trouble}");
}
