//! Stories of starts, ends, withdrawals and what is left behind.

use serde_json::{Value, json};

use super::{
    JOB, NAME, POD, edit, ended, operator_ends, operator_starts, owner, run, started, submitted,
    uid_of, withdraw,
};
use crate::{
    domain::{
        command::{Report, Request},
        effect::Work,
        event::CopiedPart,
        state::{Outcome, Progress},
    },
    effects::stage::{NAMESPACE, Stage, worker1},
};

#[tokio::test]
async fn only_a_pod_of_its_own_job_proves_a_start() {
    let stage = submitted().await;
    assert_eq!(run(&stage).await.unwrap(), [], "nothing has happened yet");
    operator_starts(&stage);
    let requests = run(&stage).await.unwrap();
    let [Request::Report(Report::Started { pod, pod_node, image_id, .. })] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!((pod.as_str(), pod_node.as_str(), image_id.as_str()), (POD, "mgmt1", "i@sha256:1"));
    // The annotation names a pod that is none of the Job's.
    edit(&stage, "pods", NAMESPACE, POD, |pod| {
        pod["metadata"]["ownerReferences"] = owner("Job", "another");
    });
    assert_eq!(run(&stage).await.unwrap(), []);
}

#[tokio::test]
async fn a_foreign_job_under_its_name_ends_it_as_unknown() {
    let stage = submitted().await;
    operator_starts(&stage);
    edit(&stage, "jobs", NAMESPACE, JOB, |job| {
        job["metadata"]["ownerReferences"] = owner("ClusterOperation", "an older one");
    });
    operator_ends(&stage, "Succeeded", "Complete", "Succeeded");
    let requests = run(&stage).await.unwrap();
    let (outcome, seen) = ended(&requests);
    assert_eq!(outcome, Outcome::Unknown);
    assert!(seen.contains("not its own") && requests.len() == 1, "{requests:?}");
}

#[tokio::test]
async fn a_start_that_was_missed_is_reported_with_the_end() {
    let stage = submitted().await;
    operator_starts(&stage);
    operator_ends(&stage, "Succeeded", "Complete", "Succeeded");
    let requests = run(&stage).await.unwrap();
    assert!(matches!(&requests[0], Request::Report(Report::Started { .. })));
    assert_eq!(ended(&requests).0, Outcome::Succeeded);
}

#[tokio::test]
async fn what_it_says_of_its_end_is_compared_with_what_it_leaves() {
    type Change = fn(&Stage);
    let stories: [(Change, Outcome, &str); 8] = [
        (|s| operator_ends(s, "Succeeded", "Complete", "Succeeded"), Outcome::Succeeded, "says"),
        (|s| operator_ends(s, "Failed", "Failed", "Failed"), Outcome::Failed, "BackoffLimit"),
        (
            |s| {
                operator_ends(s, "Succeeded", "Complete", "Succeeded");
                edit(s, "clusteroperations", "", NAME, |op| {
                    op["status"]["endTime"] = "2023-11-14T22:13:00Z".into();
                });
            },
            Outcome::Unknown,
            "before it started",
        ),
        (
            |s| {
                operator_ends(s, "Succeeded", "Complete", "Succeeded");
                edit(s, "clusteroperations", "", NAME, |op| {
                    op["status"]["hasModified"] = true.into();
                });
            },
            Outcome::Unknown,
            "changed its spec",
        ),
        (
            |s| {
                operator_ends(s, "Failed", "Failed", "Failed");
                s.management.store().remove("pods", NAMESPACE, POD);
                s.management.store().remove("jobs", NAMESPACE, JOB);
            },
            Outcome::Unknown,
            "deleted under it",
        ),
        (
            |s| s.management.store().remove("clusteroperations", "", NAME),
            Outcome::Unknown,
            "it is gone",
        ),
        (
            |s| {
                let mut other = s.get("clusteroperations", "", NAME).unwrap();
                other["metadata"]["uid"] = "another".into();
                s.management.store().remove("clusteroperations", "", NAME);
                s.put(other);
            },
            Outcome::Unknown,
            "another object",
        ),
        (
            // The operator never says that it is over: its spec.cluster was edited, say.
            |s| {
                operator_ends(s, "Succeeded", "Complete", "Running");
                s.wait(300);
            },
            Outcome::Unknown,
            "still says \"Running\"",
        ),
    ];
    let mut others = Vec::new();
    for (change, outcome, words) in stories {
        let stage = started().await;
        change(&stage);
        let requests = run(&stage).await.unwrap_or_default();
        match requests.last() {
            Some(Request::Report(Report::Ended { outcome: found, seen, .. }))
                if *found == outcome && seen.contains(words) => {}
            other => others.push(format!("{words}: {other:?}")),
        }
    }
    assert!(others.is_empty(), "{others:#?}");
}

#[tokio::test]
async fn an_operation_that_never_had_a_job_has_failed() {
    let stage = submitted().await;
    edit(&stage, "clusteroperations", "", NAME, |op| {
        op["status"] = json!({"status": "Failed", "digest": "d"});
    });
    let requests = run(&stage).await.unwrap();
    assert_eq!(ended(&requests).0, Outcome::Failed);
    assert!(ended(&requests).1.contains("had no Job"));
}

#[tokio::test]
async fn it_is_not_over_while_its_pod_runs() {
    let stage = started().await;
    operator_ends(&stage, "Running", "Failed", "Failed");
    let trouble = run(&stage).await.unwrap_err();
    assert!(trouble.contains("is not over"), "{trouble}");
}

#[tokio::test]
async fn an_operation_that_has_not_started_is_deleted_with_its_pod() {
    let mut stage = submitted().await;
    let uid = uid_of(&stage, "clusteroperations", "", NAME);
    stage.progress(Progress::Withdrawing { uid: Some(uid) });
    assert_eq!(withdraw(&stage).await.unwrap(), []);
    let requests = withdraw(&stage).await.unwrap();
    assert_eq!(ended(&requests).0, Outcome::Unknown);
    let deletions = stage.writes().iter().filter(|call| call.starts_with("DELETE")).count();
    assert_eq!(deletions, 1);
}

#[tokio::test]
async fn an_operation_that_has_started_meanwhile_is_not_deleted() {
    let mut stage = submitted().await;
    let uid = uid_of(&stage, "clusteroperations", "", NAME);
    stage.progress(Progress::Withdrawing { uid: Some(uid) });
    operator_starts(&stage);
    let requests = withdraw(&stage).await.unwrap();
    assert!(matches!(&requests[..], [Request::Report(Report::Started { .. })]), "{requests:?}");
    // Its pod runs, and the operator has not looked yet.
    edit(&stage, "clusteroperations", "", NAME, |operation| {
        let marks = operation["metadata"]["annotations"].as_object_mut().unwrap();
        marks.remove("kubean.io/actor");
    });
    assert!(withdraw(&stage).await.unwrap_err().contains("waited for"));
    assert!(!stage.writes().iter().any(|call| call.starts_with("DELETE")));
}

#[tokio::test]
async fn what_is_left_is_copied_without_secrets_and_what_is_gone_is_said() {
    let stage = started().await;
    operator_ends(&stage, "Succeeded", "Complete", "Succeeded");
    // Somebody has put a password into the inventory since.
    edit(&stage, "configmaps", NAMESPACE, "prod-hosts-conf", |map| {
        map["data"]["hosts.yml"] = "all: {vars: {ansible_password: hunter2}}".into();
    });
    stage.management.store().remove("configmaps", NAMESPACE, "prod-rm-worker1-a1-hosts");
    edit(&stage, "pods", NAMESPACE, POD, |pod| {
        pod["metadata"]["annotations"] = json!({"note": "login with hunter2"});
    });
    let log = format!("PLAY [x]\nok hunter2 password=abc\n{}", "line\n".repeat(2_000));
    *stage.management.store().log_of(NAMESPACE, POD) = log;
    let work = || Work::ArchiveOperation { node: worker1(), name: NAME.into() };
    let requests = stage.pass(work()).await.unwrap();
    let copied = |wanted: CopiedPart| -> String {
        let text = |request: &Request| match request {
            Request::Report(Report::Copied { part, text, .. }) if *part == wanted => {
                assert!(text.len() <= 3_072);
                Some(text.clone())
            }
            _ => None,
        };
        requests.iter().filter_map(text).collect()
    };
    let log = copied(CopiedPart::Log);
    assert!(log.starts_with("PLAY [x]\nok *** password=***\n") && log.len() > 10_000, "{log:.60}");
    let operation: Value = serde_json::from_str(&copied(CopiedPart::Operation)).unwrap();
    assert_eq!(operation["status"]["status"], "Succeeded");
    assert!(copied(CopiedPart::Job).contains(JOB) && copied(CopiedPart::Pod).contains(POD));
    assert!(copied(CopiedPart::Pod).contains("login with ***"), "objects are redacted too");
    let last = requests.last();
    let Some(Request::Report(Report::Archived { seen, .. })) = last else { panic!("{last:?}") };
    assert!(seen.contains("whole"), "{seen}");

    stage.management.store().remove("clusteroperations", "", NAME);
    stage.management.store().remove("jobs", NAMESPACE, JOB);
    stage.management.store().remove("pods", NAMESPACE, POD);
    let requests = stage.pass(work()).await.unwrap();
    let [Request::Report(Report::Archived { seen, .. })] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(seen, "the operation is gone; the Job is gone; the pod and its log are gone");
}
