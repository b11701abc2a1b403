//! Passes that change something: cordon, drain, snapshots, giving back, orders to agents.

use std::sync::Arc;

use rehull_proto::v1::{File, Files, Report as HostReport, order_done::Outcome as Answered};
use rehull_shared::{evidence::Check, ids::Generation, time::Span};
use serde_json::{Value, json};

use super::{
    super::metadata::CORDONED_BY,
    super::testing::{NOW, World, budget, from, host_report, node_object, pod, stored, worker1},
    all_say, look, with_nodes,
};
use crate::{
    domain::{
        approval::{Approval, Item},
        command::{Report, Request},
        effect::Work,
        gate::Gate,
        state::Drain,
    },
    items, kubean,
    rehearsal::api::Turn,
};

fn node(world: &World) -> Value {
    world.workload.store().get("nodes", "", "worker1").unwrap().clone()
}

#[tokio::test]
async fn the_recorded_node_is_cordoned_once_and_another_one_never() {
    let mut world = with_nodes();
    let work = || Work::Cordon { node: worker1() };
    world.pass(work()).await.unwrap();
    assert_eq!(node(&world)["spec"]["unschedulable"], json!(true));
    let by = &node(&world)["metadata"]["annotations"]["rehull.dev/cordoned-by"];
    assert_eq!(*by, json!(world.migration.id));
    world.pass(work()).await.unwrap();
    let patches = world.workload.calls().iter().filter(|call| call.starts_with("PATCH")).count();
    assert_eq!(patches, 1, "what is done is not done again");

    let snapshot = world.migration.nodes[0].snapshot.as_mut().unwrap();
    snapshot.node_uid = "another".into();
    let trouble = world.pass(work()).await.unwrap_err();
    assert_eq!(trouble.0, "Node worker1: it is not the one that was recorded");
}

#[tokio::test]
async fn a_node_that_comes_back_takes_nothing_before_it_is_what_it_was() {
    let world = with_nodes();
    let hold_back = || Work::HoldBack { node: worker1() };
    world.pass(hold_back()).await.unwrap();
    assert_eq!(node(&world)["spec"]["unschedulable"], Value::Null, "the old one is not touched");
    world.workload.store().remove("nodes", "", "worker1");
    world.pass(hold_back()).await.unwrap();
    world.workload.store().put(stored("v1", "Node", node_object("worker1")));
    let requests = world.pass(look(Gate::Join)).await.unwrap();
    all_say(&requests, Check::NodeHeldBack, "fail", "takes pods before it is what it was");
    world.pass(hold_back()).await.unwrap();
    let requests = world.pass(look(Gate::Join)).await.unwrap();
    all_say(&requests, Check::NodeHeldBack, "pass", "is cordoned");
}

#[tokio::test]
async fn a_node_that_is_given_up_is_as_schedulable_as_it_was() {
    for was_cordoned in [false, true] {
        let mut world = with_nodes();
        world.migration.nodes[0].snapshot.as_mut().unwrap().unschedulable = was_cordoned;
        let work = || Work::Uncordon { node: worker1() };
        if !was_cordoned {
            world.pass(Work::Cordon { node: worker1() }).await.unwrap();
        }
        let requests = world.pass(look(Gate::Abort)).await.unwrap();
        all_say(&requests, Check::SchedulableAsBefore, "fail", "");
        world.pass(work()).await.unwrap();
        world.pass(work()).await.unwrap();
        let requests = world.pass(look(Gate::Abort)).await.unwrap();
        all_say(&requests, Check::SchedulableAsBefore, "pass", "");
        let mark = &node(&world)["metadata"]["annotations"]["rehull.dev/cordoned-by"];
        assert_eq!(*mark, Value::Null, "our mark goes with our cordon");

        world.migration.nodes[0].snapshot.as_mut().unwrap().node_uid = "another".into();
        let trouble = world.pass(work()).await.unwrap_err();
        assert_eq!(trouble.0, "Node worker1: it is not the one that was recorded");
    }
}

#[tokio::test]
async fn the_recorded_node_is_deleted_and_one_that_took_its_name_is_not() {
    let world = with_nodes();
    let recorded = world.migration.nodes[0].snapshot.as_ref().unwrap().node_uid.clone();
    let delete = |uid: &str| Work::DeleteNode { node: worker1(), uid: uid.to_owned() };
    let seen = |requests: &[Request]| match requests {
        [Request::Report(Report::NodeDeletionAnswered { uid, seen, .. })] => {
            format!("{uid}: {seen}")
        }
        other => panic!("{other:?}"),
    };
    let requests = world.pass(delete("another")).await.unwrap();
    assert!(seen(&requests).starts_with("another: Node worker1 is another one"));
    assert_eq!(node(&world)["metadata"]["uid"], json!(recorded), "it is still there");
    let requests = world.pass(delete(&recorded)).await.unwrap();
    assert!(seen(&requests).contains("Node worker1 was deleted"));
    assert!(world.workload.store().get("nodes", "", "worker1").is_none());
    let requests = world.pass(delete(&recorded)).await.unwrap();
    assert!(seen(&requests).ends_with("there is no Node worker1"));
}

#[tokio::test]
async fn a_drain_evicts_what_it_may_and_names_what_it_may_not() {
    let mut world = with_nodes();
    {
        let cordon = |node: &mut Value| node["spec"]["unschedulable"] = json!(true);
        world.workload.store().edit("nodes", "", "worker1", cordon);
        let pods = [("web-1", "ReplicaSet"), ("db-1", "StatefulSet"), ("proxy-1", "DaemonSet")];
        for (name, controller) in pods {
            world.run(pod(name, "worker1", controller));
        }
        world.run(pod("lone", "worker1", ""));
        world.run(pod("web-2", "worker2", "ReplicaSet"));
        let guard = budget("guard", "db", 0);
        world.workload.store().put(stored("policy/v1", "PodDisruptionBudget", guard));
    }
    let lone = bare(&world, "lone");
    let requests = world.pass(Work::Drain { node: worker1() }).await.unwrap();
    let refused = vec![
        format!("default/lone: no controller would make it anew (item {})", lone.id()),
        "default/db-1: blocked by PDB default/guard (1 of 1 needed pods are healthy)".to_owned(),
    ];
    let drain = Drain { evicted: 1, left: 3, refused };
    assert_eq!(
        requests,
        [Request::Report(Report::Drain { node: worker1(), drain: drain.clone() })]
    );
    let left: Vec<String> = {
        let store = world.workload.store();
        store.list("pods").map(|pod| pod["metadata"]["name"].as_str().unwrap().into()).collect()
    };
    assert_eq!(left, ["db-1", "lone", "proxy-1", "web-2"]);

    world.migration.nodes[0].drain = Some(drain);
    world.workload.store().edit("poddisruptionbudgets", "default", "guard", |budget| {
        budget["status"]["disruptionsAllowed"] = json!(1);
    });
    world.workload.store().remove("pods", "default", "lone");
    let requests = world.pass(Work::Drain { node: worker1() }).await.unwrap();
    let drain = Drain { evicted: 2, left: 1, refused: Vec::new() };
    assert_eq!(requests, [Request::Report(Report::Drain { node: worker1(), drain })]);
    let calls = world.workload.calls();
    assert!(!calls.iter().any(|call| call.starts_with("DELETE")), "no pod is ever deleted");
    let requests = world.pass(look(Gate::Drain)).await.unwrap();
    all_say(&requests, Check::NodeDrained, "pass", "only pods of DaemonSets");
}

/// The item of a pod without a controller, with the UID that the API server has given it.
fn bare(world: &World, name: &str) -> Item {
    let pod = world.workload.store().get("pods", "default", name).unwrap().clone();
    items::of_bare(&from(pod)).unwrap()
}

#[tokio::test]
async fn a_pod_that_nobody_makes_anew_is_evicted_only_while_that_is_accepted_of_it() {
    let mut world = with_nodes();
    let cordon = |node: &mut Value| node["spec"]["unschedulable"] = json!(true);
    world.workload.store().edit("nodes", "", "worker1", cordon);
    for name in ["lone", "other"] {
        world.run(pod(name, "worker1", ""));
    }
    let item = bare(&world, "lone");
    let (by, why, until) =
        ("ann".to_owned(), "a debugging pod".to_owned(), NOW + Span::from_mins(60));
    let accepted = Approval { item: item.clone(), by, why, until, ended: false };
    let drained = async |world: &World| {
        let requests = world.pass(Work::Drain { node: worker1() }).await.unwrap();
        let [Request::Report(Report::Drain { drain, .. })] = &requests[..] else {
            panic!("{requests:?}");
        };
        (drain.evicted, drain.refused.len())
    };
    assert_eq!(drained(&world).await, (0, 2), "nobody accepts anything");
    let requests = world.pass(look(Gate::Drain)).await.unwrap();
    all_say(&requests, Check::NodeDrained, "fail", &item.words());
    let of_node = |world: &mut World, approval: Approval| {
        world.migration.nodes[0].track.approvals.insert(approval.item.id(), approval);
    };
    of_node(&mut world, Approval { until: NOW, ..accepted.clone() });
    assert_eq!(drained(&world).await, (0, 2), "its time is over");
    of_node(&mut world, Approval { ended: true, ..accepted.clone() });
    assert_eq!(drained(&world).await, (0, 2), "it was taken back");
    let another = Item { identity: "Pod another bare".to_owned(), ..item.clone() };
    of_node(&mut world, Approval { item: another, ..accepted.clone() });
    assert_eq!(drained(&world).await, (0, 2), "it is of another pod of that name");
    of_node(&mut world, accepted);
    assert_eq!(drained(&world).await, (1, 1), "the other one stays");
    assert!(world.workload.store().get("pods", "default", "lone").is_none());
    assert!(world.workload.store().get("pods", "default", "other").is_some());
    let requests = world.pass(look(Gate::Drain)).await.unwrap();
    all_say(&requests, Check::NodeDrained, "fail", "default/other: no controller");
}

#[tokio::test]
async fn a_drain_that_meets_silence_tells_what_it_has_done_and_tries_no_more() {
    let world = with_nodes();
    let cordon = |node: &mut Value| node["spec"]["unschedulable"] = json!(true);
    world.workload.store().edit("nodes", "", "worker1", cordon);
    for name in ["web-1", "web-2", "web-3"] {
        world.run(pod(name, "worker1", "ReplicaSet"));
    }
    world.workload.before(Arc::new(|call| match call.path.ends_with("web-2/eviction") {
        true => Turn::Break("the cable is cut".into()),
        false => Turn::Answer,
    }));
    let requests = world.pass(Work::Drain { node: worker1() }).await.unwrap();
    let [Request::Report(Report::Drain { drain, .. })] = &requests[..] else {
        panic!("{requests:?}");
    };
    assert_eq!((drain.evicted, drain.left), (1, 3));
    assert!(drain.refused[0].contains("the cable is cut"), "{drain:?}");
    let tried = world.workload.calls().iter().filter(|call| call.contains("eviction")).count();
    assert_eq!(tried, 2);
    // Now nothing at all is done, and that is a trouble.
    let trouble = world.pass(Work::Drain { node: worker1() }).await.unwrap_err();
    assert!(trouble.0.starts_with("the eviction of default/web-2: "), "{trouble}");
}

#[tokio::test]
async fn nothing_is_evicted_from_a_node_that_would_take_it_back() {
    let world = with_nodes();
    let trouble = world.pass(Work::Drain { node: worker1() }).await.unwrap_err();
    assert_eq!(trouble.0, "the drain of worker1: it is not cordoned");
}

#[tokio::test]
async fn a_node_gets_back_what_its_snapshot_holds() {
    let mut world = with_nodes();
    let (path, content) = ("/etc/hosts".to_owned(), "10.0.0.7 licence-server\n".to_owned());
    let files = Some(Files { found: vec![File { path, content, mode: 0o644 }] });
    world.connect(HostReport { files, ..host_report() }, Answered::Done);
    {
        world.workload.store().edit("nodes", "", "worker1", |node| {
            node["metadata"]["labels"] = json!({"disk": "ssd", "kubernetes.io/hostname": "x"});
            node["spec"]["taints"] = json!([{"key": "gpu", "effect": "NoSchedule"}]);
        });
        let mut proxy = stored("v1", "Pod", pod("proxy-1", "worker1", "DaemonSet"));
        proxy["spec"]["containers"][0]["env"] = json!([{"name": "P", "value": "hunter2"}]);
        world.run(proxy);
        let mut waiting = stored("v1", "Pod", pod("late-1", "", "ReplicaSet"));
        waiting["status"]["phase"] = json!("Pending");
        world.run(waiting);
    }
    world.migration.nodes[0].snapshot = None;
    let work = || Work::TakeSnapshot { node: worker1() };
    let requests = world.pass(work()).await.unwrap();
    assert_eq!(requests, world.pass(work()).await.unwrap(), "the same node has the same hashes");
    let [Request::Report(Report::Snapshot { snapshot, .. })] = &requests[..] else {
        panic!("{requests:?}");
    };
    assert_eq!(snapshot.boot_id, "boot-2");
    assert_eq!(snapshot.macs, ["52:54:00:00:00:01"]);
    let objects: Value = serde_json::from_str(&world.blob(&snapshot.objects_sha256)).unwrap();
    assert_eq!(objects["daemon_sets"], json!(["default/proxy"]));
    assert_eq!(objects["pending"], json!(["default/late-1"]));
    assert!(!objects.to_string().contains("hunter2"), "environments hold passwords");
    let host = world.blob(&snapshot.host_sha256);
    assert!(host.contains("Ubuntu 22.04") && host.contains("10.0.0.7 licence-server"));

    world.migration.nodes[0].snapshot = Some(snapshot.clone());
    let requests = world.pass(look(Gate::Snapshot)).await.unwrap();
    all_say(&requests, Check::NodeRecorded, "pass", "is stored");
    all_say(&requests, Check::HostRecorded, "pass", "is stored");

    let restore = || Work::RestoreMetadata { node: worker1() };
    let trouble = world.pass(restore()).await.unwrap_err();
    assert_eq!(trouble.0, "Node worker1: it is still the old one");
    world.workload.store().remove("nodes", "", "worker1");
    world.workload.store().put(stored("v1", "Node", node_object("worker1")));
    world.pass(Work::HoldBack { node: worker1() }).await.unwrap();
    let mark = |world: &World| node(world)["metadata"]["annotations"][CORDONED_BY].clone();
    assert_eq!(mark(&world), json!(world.migration.id));
    let requests = world.pass(look(Gate::Metadata)).await.unwrap();
    all_say(&requests, Check::MetadataRestored, "fail", "lacks label disk, taint gpu:NoSchedule");
    all_say(&requests, Check::SchedulableAsBefore, "fail", "is cordoned; it was schedulable");
    world.pass(restore()).await.unwrap();
    world.pass(restore()).await.unwrap();
    let requests = world.pass(look(Gate::Metadata)).await.unwrap();
    all_say(&requests, Check::MetadataRestored, "pass", "");
    all_say(&requests, Check::SchedulableAsBefore, "pass", "");
    assert_eq!(mark(&world), Value::Null, "our mark goes with our cordon");
    let patches = world.workload.calls().iter().filter(|call| call.starts_with("PATCH")).count();
    assert_eq!(patches, 2, "what is done is not done again");
}

#[tokio::test]
async fn an_export_holds_hashes_of_what_may_be_secret() {
    let world = with_nodes();
    let reference = |name: &str| json!({"namespace": "kubean-system", "name": name});
    let spec = json!({"hostsConfRef": reference("hosts"), "varsConfRef": reference("vars"),
        "kubeconfRef": reference("kubeconf")});
    {
        let mut store = world.management.store();
        let cluster = json!({"metadata": {"name": "prod"}, "spec": spec});
        store.put(stored("kubean.io/v1alpha1", "Cluster", cluster));
        let keys = [("hosts", "hosts.yml"), ("vars", "group_vars.yml"), ("kubeconf", "config")];
        for (name, key) in keys {
            let metadata = json!({"name": name, "namespace": "kubean-system"});
            let map = json!({"metadata": metadata, "data": {key: "ansible_password: hunter2"}});
            store.put(stored("v1", "ConfigMap", map));
        }
    }
    let requests = world.pass(Work::Export).await.unwrap();
    let [Request::Report(Report::Exported { sha256 })] = &requests[..] else {
        panic!("{requests:?}");
    };
    let export = world.blob(sha256);
    let hash = rehull_shared::text::sha256_hex(b"ansible_password: hunter2");
    assert!(export.matches(&hash).count() == 3 && !export.contains("hunter2"));
    // A backup holds the texts themselves, since it is encrypted.
    let cluster = world.migration.plan.cluster.clone();
    let texts = kubean::texts(&world.management.client(), &cluster).await.unwrap();
    let secret: Vec<_> = texts
        .iter()
        .filter(|file| file.content == b"ansible_password: hunter2")
        .map(|file| file.path.as_str())
        .collect();
    let kept =
        ["/kubean/hosts/hosts.yml", "/kubean/vars/group_vars.yml", "/kubean/kubeconf/config"];
    assert_eq!(secret, kept);
    assert_eq!((texts.len(), texts[0].path.as_str()), (4, "/kubean/cluster.json"));
    world.management.store().remove("configmaps", "kubean-system", "vars");
    let trouble = world.pass(Work::Export).await.unwrap_err();
    assert_eq!(trouble.0, "kubean-system/vars: does not exist");
}

#[tokio::test]
async fn orders_are_answered_in_words_and_silence_is_a_trouble() {
    let kill =
        || Work::KillLeftovers { node: worker1(), order: "order-1".into(), processes: Vec::new() };
    let mut world = World::new();
    let trouble = world.pass(kill()).await.unwrap_err();
    assert_eq!(trouble.0, "worker1: it has no agent: none enrolled, or it is revoked");
    world.connect(host_report(), Answered::Refused);
    let (node, order) = (worker1(), "order-1".to_owned());
    let seen = "refused: as ordered".to_owned();
    let answered = Request::Report(Report::LeftoversAnswered { node, order, seen });
    assert_eq!(world.pass(kill()).await.unwrap(), [answered]);
    let farewell = || Work::Farewell { node: worker1() };
    let trouble = world.pass(farewell()).await.unwrap_err();
    assert_eq!(trouble.0, "the farewell of worker1: refused: as ordered");
    world.connect(host_report(), Answered::Done);
    let (node, generation) = (worker1(), Generation(2));
    let said = Request::Report(Report::Farewell { node, generation });
    assert_eq!(world.pass(farewell()).await.unwrap(), [said]);
}
