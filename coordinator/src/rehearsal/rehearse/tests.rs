//! The round trip: clusters that are made up are read through their APIs, and rehearsed as anybody's.

use serde_json::{Value, json};

use super::*;
use crate::{
    document::{parse, understand},
    domain::plan::Role,
    rehearsal::{
        SECRETS,
        clock::{BEGIN, Clock},
        prepared::Layout,
        rights,
        world::Shared,
    },
};

const WEST: Layout =
    Layout { name: "west", control_planes: 2, include: false, workers: 2, network: 8 };

/// The same with three control planes, which migrate.
const WHOLE: Layout =
    Layout { name: "west", control_planes: 3, include: true, workers: 2, network: 8 };

/// A cluster behind an API, and what a whole rehearsal on a copy of it says. `change` changes the
/// cluster before it is read.
async fn rehearsed(
    chosen: &[&str],
    document: &dyn Fn(String) -> String,
    change: &dyn Fn(&Shared),
) -> (Report, Shared) {
    rehearsed_on(&WEST, chosen, document, change).await
}

async fn rehearsed_on(
    layout: &Layout,
    chosen: &[&str],
    document: &dyn Fn(String) -> String,
    change: &dyn Fn(&Shared),
) -> (Report, Shared) {
    let hosts = tempfile::tempdir().unwrap();
    let original = layout.original();
    let document = document(original.document.clone());
    let clock = Clock::new(BEGIN);
    let world = Shared::new(vec![original], Faults::new(), "9", clock, hosts.path()).unwrap();
    change(&world);
    let clients = Clients::new(world.connect());
    let (plan, nodes) = understand(&parse(&document).unwrap(), &clients).await.unwrap();
    let chosen = chosen.iter().map(|text| {
        let (fault, node) = text.split_once('@').unwrap();
        (fault.parse().unwrap(), Some(node.parse().unwrap()))
    });
    let dir = tempfile::tempdir().unwrap();
    let keep = Some(dir.path().join("kept"));
    let options = Options { seed: 3, chosen: chosen.collect(), drawn: 0, keep, begin: BEGIN };
    let faults = faults(&options, &nodes).unwrap();
    let subject = (document.as_str(), &plan, nodes.as_slice());
    let report = rehearse(subject, (&options, faults), &clients, &mut |_| ()).await.unwrap();
    (report, world)
}

/// What was asked of the management cluster, and of the cluster itself.
fn calls(world: &Shared) -> [Vec<String>; 2] {
    let world = world.lock();
    [world.management.calls(), world.sites[0].api.calls()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_read_is_rehearsed_to_its_end_and_not_touched() {
    let chosen = ["wrong-os@west-worker1", "volume-attached@west-worker2"];
    let (report, world) = rehearsed(&chosen, &|text| text, &|_| ()).await;
    assert!(report.is_good() && !report.is_held(), "{report:#?}");
    let went: Vec<_> = report.nodes.iter().map(|went| (went.node.as_str(), went.state)).collect();
    assert_eq!(went, [("west-worker1", "done"), ("west-worker2", "done")]);
    assert!(report.nodes.iter().all(|went| went.evicted > 0 && went.took.is_some()), "{went:?}");
    let caught = |fault: &str| {
        let found = report.faults.iter().find(|caught| caught.fault == fault).unwrap();
        found.caught.clone().unwrap().gate
    };
    assert_eq!([caught("wrong-os"), caught("volume-attached")], ["G7 Os", "G3 Drain"]);
    assert_eq!(report.held.len(), 2, "{:#?}", report.held);

    let [management, workload] = calls(&world);
    rights::suffice(&["rbac-management.yaml"], &management);
    rights::suffice(&["rbac-workload.yaml"], &workload);
    let calls = [management, workload].concat();
    assert!(calls.iter().all(|call| call.starts_with("GET ")), "{calls:?}");
    assert!(!calls.iter().any(|call| call.contains("/secrets")), "{calls:?}");
    // Each list once, in one page.
    let pods = calls.iter().filter(|call| *call == "GET /api/v1/pods").count();
    assert_eq!(pods, 1, "{calls:?}");
    let told = serde_json::to_string(&report).unwrap();
    assert!(serde_saphyr::to_string(&report).unwrap().contains("cluster: west"));
    for secret in SECRETS {
        assert!(!told.contains(secret), "{secret} is in the report");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_rehearsed_with_its_control_planes_the_first_one_last() {
    let (report, world) = rehearsed_on(&WHOLE, &[], &|text| text, &|_| ()).await;
    assert!(report.is_good() && !report.is_held() && report.finished, "{report:#?}");
    let went: Vec<_> = report.nodes.iter().map(|went| (went.node.as_str(), went.state)).collect();
    let order = ["west-worker1", "west-worker2", "west-control2", "west-control3", "west-control1"];
    assert_eq!(went, order.map(|node| (node, "done")));
    let [management, workload] = calls(&world);
    assert!(management.iter().chain(&workload).all(|call| call.starts_with("GET ")));
    rights::suffice(&["rbac-management.yaml"], &management);
    rights::suffice(&["rbac-workload.yaml", "rbac-workload-control-planes.yaml"], &workload);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_control_planes_go_one_by_one_too() {
    let five = Layout { control_planes: 5, ..WHOLE };
    let (report, _) = rehearsed_on(&five, &[], &|text| text, &|_| ()).await;
    assert!(report.is_good() && !report.is_held() && report.finished, "{report:#?}");
    let went: Vec<_> = report.nodes.iter().map(|went| (went.node.as_str(), went.state)).collect();
    let order = ["worker1", "worker2", "control2", "control3", "control4", "control5", "control1"];
    let order: Vec<String> = order.iter().map(|node| format!("west-{node}")).collect();
    let order: Vec<_> = order.iter().map(|node| (node.as_str(), "done")).collect();
    assert_eq!(went, order);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_with_control_planes_is_caught_at_its_gate() {
    let faults = [
        ("address-stays", "west-control2", "Withdraw", "10.20.8.12 is listed, and is not to be"),
        ("new-authority", "west-control2", "G9 Join", "ca.crt of west-control2 is not the one"),
        ("member-outlives", "west-control3", "G5 Removal", "west-control1 knows member "),
        ("second-ails", "west-control3", "G8 JoinAdmission", "database space exceeded"),
        ("order-put-back", "west-control1", "Reordered", "west-control1 is the first of "),
    ];
    let chosen = faults.map(|(fault, node, ..)| format!("{fault}@{node}"));
    let chosen: Vec<&str> = chosen.iter().map(String::as_str).collect();
    let (report, _) = rehearsed_on(&WHOLE, &chosen, &|text| text, &|_| ()).await;
    assert!(report.is_good() && !report.is_held() && report.finished, "{report:#?}");
    assert!(report.nodes.iter().all(|went| went.state == "done"), "{report:#?}");
    assert_eq!(report.idle, [""; 0]);
    for (name, node, gate, words) in faults {
        let found = report.faults.iter().find(|caught| caught.fault == name).unwrap();
        assert_eq!(found.node, node);
        let caught = found.caught.as_ref().unwrap();
        assert!(caught.gate == gate && caught.words.contains(words), "{name}: {caught:#?}");
    }
    // What rehull mends itself holds nothing.
    let held: Vec<&str> = report.held.iter().map(|hold| hold.fault).collect();
    assert_eq!(held, ["address-stays", "new-authority", "second-ails", "order-put-back"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_target_is_reached_by_its_profile_alone() {
    let document = |text: String| text.replace("ubuntu-22.04", "rocky-9");
    let (report, _) = rehearsed(&["wrong-os@west-worker1"], &document, &|_| ()).await;
    assert!(report.is_good() && !report.is_held(), "{report:#?}");
    assert!(report.nodes.iter().all(|went| went.state == "done"), "{report:#?}");
    let caught = report.faults[0].caught.clone().unwrap();
    assert_eq!(caught.gate, "G7 Os");
    assert!(caught.words.contains("Ubuntu 24.04"), "{caught:?}");
}

/// A Deployment with one pod, which runs on the first worker, and so on the first that goes.
fn single(name: &str) -> [Value; 3] {
    let labels = json!({ "own": name });
    let selector = json!({ "matchLabels": labels });
    let container = json!({ "name": "c", "image": "i:1" });
    let template =
        json!({ "metadata": { "labels": labels }, "spec": { "containers": [container] } });
    let of = |kind: &str, uid: &str| {
        json!([{ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid,
            "controller": true }])
    };
    let metadata = |uid: &str, owners: Value| {
        json!({ "name": name, "namespace": "shop", "uid": uid, "labels": labels,
            "ownerReferences": owners })
    };
    let spec = json!({ "replicas": 1, "selector": selector, "template": template });
    [
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "spec": spec,
            "metadata": metadata("deployment", json!([])) }),
        json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": spec,
            "metadata": metadata("set", of("Deployment", "deployment")) }),
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata("pod", of("ReplicaSet", "set")),
            "spec": { "nodeName": "west-worker1", "containers": [container] },
            "status": {
                "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }],
            },
        }),
    ]
}

fn put(world: &Shared, object: Value) {
    world.lock().sites[0].api.store().adopt(vec![object]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cluster_itself_would_hold_is_said_accepted_or_left_out() {
    // A bare pod on one worker, which a person may accept; and on the other one a budget that
    // nothing satisfies, which nobody can.
    let (report, _) = rehearsed(&[], &|text| text, &|world| {
        let pod = |name: &str, node: &str| {
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": name, "namespace": "shop", "labels": { "own": name } },
                "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "i:1" }] },
                "status": {
                    "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }],
                },
            })
        };
        put(world, pod("alone", "west-worker1"));
        put(world, pod("guarded", "west-worker2"));
        for object in single("solo") {
            put(world, object);
        }
        put(
            world,
            json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": { "name": "guard", "namespace": "shop" },
                "spec": { "minAvailable": 1, "selector": { "matchLabels": { "own": "guarded" } } },
                "status": { "disruptionsAllowed": 0, "desiredHealthy": 1, "currentHealthy": 1,
                    "expectedPods": 1, "observedGeneration": 1 },
            }),
        );
    })
    .await;
    assert!(report.is_good() && report.is_held() && report.finished, "{report:#?}");
    let states: Vec<_> = report.nodes.iter().map(|went| went.state).collect();
    assert_eq!(states, ["done", "left out"], "{:#?}", report.held);
    let accepted = &report.held[0];
    assert_eq!((accepted.node.as_str(), accepted.gate.as_str()), ("west-worker1", "G1 Preflight"));
    assert!(accepted.why[0].contains("shop/alone"), "{accepted:#?}");
    assert!(accepted.resolved.starts_with("rehull migrate approve west west-worker1 --item "));
    // Seen in the rehearsal, and said before by the preflight.
    let solo = report.clients.iter().filter(|notice| notice.about == "Deployment shop/solo");
    let solo: Vec<(&str, &str)> =
        solo.map(|notice| (notice.node.as_str(), notice.words.as_str())).collect();
    let [("", seen), ("west-worker1", _)] = solo[..] else { panic!("{:#?}", report.clients) };
    assert!(seen.starts_with("no pod of it was Ready for ") && seen.ends_with("s in all"));
    let drained = report.held.iter().any(|hold| hold.gate == "G3 Drain");
    assert!(!drained, "what was accepted is evicted: {:#?}", report.held);
    let last = report.held.last().unwrap();
    assert!(last.why.iter().any(|why| why.contains("PDB shop/guard")), "{last:#?}");
    assert_eq!(last.resolved, "rehull migrate abort west west-worker2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_runs_the_target_already_is_left_out() {
    let (report, _) = rehearsed(&[], &|text| text, &|world| {
        let world = world.lock();
        world.sites[0].api.store().edit("nodes", "", "west-worker2", |node| {
            node["status"]["nodeInfo"]["osImage"] = json!("Ubuntu 22.04.3 LTS");
        });
    })
    .await;
    let states: Vec<_> = report.nodes.iter().map(|went| went.state).collect();
    assert_eq!(states, ["done", "left out"], "{:#?}", report.held);
    assert!(report.held[0].why[0].starts_with("OsIsSource: "), "{:#?}", report.held);
    assert_eq!(report.held[0].gate, "G1 Preflight");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_people_reinstall_are_reinstalled_by_hand_and_protection_is_switched() {
    let manual = |text: String| {
        let (before, _) = text.split_once("  installer:").unwrap();
        let protection = "deletionProtection: {hook: {args: [east]}}";
        format!("{before}  {protection}\n  installer: {{manual: {{}}}}\n")
    };
    let (report, _) = rehearsed(&["not-reinstalled@west-worker1"], &manual, &|_| ()).await;
    assert!(report.is_good() && report.finished, "{report:#?}");
    assert!(report.nodes.iter().all(|went| went.state == "done"), "{report:#?}");
}

#[test]
fn faults_are_drawn_by_the_seed_and_strike_nodes_of_the_plan_only() {
    let node = |name: &str| PlannedNode {
        name: name.parse().unwrap(),
        address: "10.0.0.1".to_owned(),
        canary: false,
        role: Default::default(),
    };
    let nodes = [node("n1"), node("n2")];
    let mut options = Options { seed: 1, chosen: Vec::new(), drawn: 3, keep: None, begin: BEGIN };
    let one = faults(&options, &nodes).unwrap();
    assert_eq!((one.len(), &one), (3, &faults(&options, &nodes).unwrap()));
    options.seed = 2;
    assert_ne!(one, faults(&options, &nodes).unwrap());
    options.drawn = 99;
    let of_workers = Fault::ALL.into_iter().filter(|fault| fault.strikes(Role::Worker)).count();
    assert_eq!(faults(&options, &nodes).unwrap().len(), of_workers, "each of them once");
    options.chosen = vec![(Fault::WrongOs, Some("n9".parse().unwrap()))];
    let words = faults(&options, &nodes).unwrap_err().to_string();
    assert_eq!(words, "--fault wrong-os@n9: the plan has no such node; it has n1, n2");
    options.chosen = vec![(Fault::SecondAils, None)];
    let words = faults(&options, &nodes).unwrap_err().to_string();
    assert_eq!(
        words,
        "--fault second-ails: it can strike only control planes, and the plan has none"
    );
    let [first, second] = nodes;
    let nodes = [first, PlannedNode { role: Role::FirstControlPlane, ..second }];
    assert!(faults(&options, &nodes).unwrap().contains(&("n2".to_owned(), Fault::SecondAils)));
    options.chosen = vec![(Fault::OrderPutBack, Some("n1".parse().unwrap()))];
    let words = faults(&options, &nodes).unwrap_err().to_string();
    assert_eq!(words, "--fault order-put-back: it can strike only n2");
}
