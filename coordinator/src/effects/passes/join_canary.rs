//! Passes of the join canary: it is made once, serves, can be done without, and goes again.

use rehull_shared::{evidence::Check, time::Span};
use serde_json::{Value, json};

use super::{
    super::testing::{NOW, World, worker1},
    all_say, look, with_nodes,
};
use crate::{
    domain::{
        approval::{Approval, Item},
        effect::Work,
        gate::Gate,
        plan::JoinCanary,
    },
    rehearsal::api::{Turn, answer::Refused},
};

fn world() -> World {
    let mut world = with_nodes();
    let image = "registry.example/busybox:1.36".to_owned();
    world.migration.plan.join_canary = Some(JoinCanary { image });
    world
}

/// The pod on the node, or the one elsewhere.
fn canary(world: &World, which: &str) -> Option<Value> {
    let store = world.workload.store();
    let pods = store.list("pods").filter(|pod| pod["metadata"]["namespace"] == "rehull-canary");
    let mut named = pods
        .filter(|pod| pod["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(which)));
    named.next().cloned()
}

fn becomes(world: &World, which: &str, node: &str, ready: &str) {
    let name = canary(world, which).unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
    world.workload.store().edit("pods", "rehull-canary", &name, |pod| {
        pod["spec"]["nodeName"] = json!(node);
        pod["status"] = json!({"phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{"name": "canary", "image": "i", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"running": {}}}]});
    });
}

fn start() -> Work {
    Work::StartJoinCanary { node: worker1() }
}

#[tokio::test]
async fn two_pods_on_two_nodes_must_fetch_from_one_another() {
    let world = world();
    let requests = world.pass(look(Gate::JoinCanary)).await.unwrap();
    all_say(&requests, Check::JoinCanaryServes, "fail", "does not exist yet");
    world.pass(start()).await.unwrap();
    world.pass(start()).await.unwrap();
    let made = |world: &World| {
        let calls = world.workload.calls();
        calls.iter().filter(|call| call.starts_with("POST") && call.contains("/pods")).count()
    };
    assert_eq!(made(&world), 2, "what is there is not made again");
    let here = canary(&world, "here").unwrap();
    assert_eq!(here["spec"]["nodeName"], "worker1", "the scheduler would not: it is cordoned");
    assert_eq!(here["spec"]["containers"][0]["image"], "registry.example/busybox:1.36");
    let there = canary(&world, "there").unwrap();
    assert_eq!(there["spec"]["nodeName"], Value::Null);
    let probe = &there["spec"]["containers"][0]["readinessProbe"]["exec"]["command"][2];
    let peer = here["metadata"]["name"].as_str().unwrap();
    assert!(probe.as_str().unwrap().contains(&format!("http://{peer}:8080/")), "{probe}");

    becomes(&world, "here", "worker1", "True");
    becomes(&world, "there", "worker2", "False");
    let requests = world.pass(look(Gate::JoinCanary)).await.unwrap();
    all_say(&requests, Check::JoinCanaryServes, "fail", "does not get what the other serves");
    becomes(&world, "there", "worker1", "True");
    let requests = world.pass(look(Gate::JoinCanary)).await.unwrap();
    all_say(&requests, Check::JoinCanaryServes, "fail", "there is on worker1");
    becomes(&world, "there", "worker2", "True");
    let requests = world.pass(look(Gate::JoinCanary)).await.unwrap();
    let seen = "pods on worker1 and worker2 fetch from one another";
    all_say(&requests, Check::JoinCanaryServes, "pass", seen);
}

#[tokio::test]
async fn a_pod_that_is_over_is_made_anew_and_nothing_is_left_in_the_end() {
    let world = world();
    world.pass(start()).await.unwrap();
    let uid = |world: &World| canary(world, "there").map(|pod| pod["metadata"]["uid"].clone());
    let first = uid(&world);
    let name = canary(&world, "there").unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
    let evict = |pod: &mut Value| pod["status"] = json!({"phase": "Failed"});
    world.workload.store().edit("pods", "rehull-canary", &name, evict);
    world.pass(start()).await.unwrap();
    world.pass(start()).await.unwrap();
    assert!(uid(&world).is_some() && uid(&world) != first);

    let requests = world.pass(look(Gate::Metadata)).await.unwrap();
    all_say(&requests, Check::JoinCanaryRemoved, "fail", "pod canary-");
    let remove = || Work::RemoveJoinCanary { node: worker1() };
    world.pass(remove()).await.unwrap();
    world.pass(remove()).await.unwrap();
    let requests = world.pass(look(Gate::Metadata)).await.unwrap();
    all_say(&requests, Check::JoinCanaryRemoved, "pass", "nothing is left");
    assert_eq!(world.workload.store().list("services").count(), 0);
}

#[tokio::test]
async fn a_person_can_let_a_node_go_on_without_it_for_this_node_object_only() {
    let mut world = world();
    let requests = world.pass(look(Gate::JoinCanary)).await.unwrap();
    all_say(&requests, Check::JoinCanaryServes, "fail", "goes on without a join canary (item ");
    let node = world.workload.store().get("nodes", "", "worker1").unwrap().clone();
    let uid = node["metadata"]["uid"].as_str().unwrap().to_owned();
    for (identity, word) in [
        (format!("join canary of Node {uid}"), "pass"),
        ("join canary of Node another".to_owned(), "fail"),
    ] {
        let what = "worker1 goes on without a join canary".to_owned();
        let item = Item { check: Check::JoinCanaryServes, identity, what };
        let (by, why, until) =
            ("ann".to_owned(), "no DNS yet".to_owned(), NOW + Span::from_mins(5));
        let approval = Approval { item: item.clone(), by, why, until, ended: false };
        world.migration.nodes[0].track.approvals = [(item.id(), approval)].into();
        let requests = world.pass(look(Gate::JoinCanary)).await.unwrap();
        all_say(&requests, Check::JoinCanaryServes, word, "does not exist yet");
    }
}

#[tokio::test]
async fn a_cluster_that_would_not_make_it_is_not_begun() {
    let mut world = world();
    let requests = world.pass(look(Gate::ClusterPreflight)).await.unwrap();
    all_say(&requests, Check::JoinCanaryPossible, "pass", "could be made in rehull-canary");
    assert_eq!(canary(&world, "here"), None, "it is a dry run");
    world.workload.before(std::sync::Arc::new(|call| {
        match call.path.contains("/rehull-canary/") {
            true => {
                let why = "namespaces \"rehull-canary\" not found";
                Turn::Refuse(Refused::new(http::StatusCode::NOT_FOUND, "NotFound", why))
            }
            false => Turn::Answer,
        }
    }));
    let requests = world.pass(look(Gate::ClusterPreflight)).await.unwrap();
    all_say(&requests, Check::JoinCanaryPossible, "fail", "\"rehull-canary\" not found");
    world.migration.plan.join_canary = None;
    let requests = world.pass(look(Gate::ClusterPreflight)).await.unwrap();
    all_say(&requests, Check::JoinCanaryPossible, "pass", "no join canary is planned");
}
