//! Whole passes towards the workload cluster and the hosts, in a world in memory.

use std::sync::Arc;

use http::StatusCode;
use rehull_proto::v1::{
    Process as Found, Processes, Proxy, Report as HostReport, Repositories, Repository,
    order_done::Outcome as Answered,
};
use rehull_shared::{
    evidence::{Check, Evidence, Source, Verdict},
    ids::{Generation, Round},
    time::{Span, Timestamp},
};
use serde_json::json;

use super::testing::{
    NOW, World, budget, from, host_report, node_object, out, plane, pod, snapshot, stored, worker1,
};
use crate::{
    domain::{
        approval::{Approval, Item},
        command::{Report, Request},
        effect::Work,
        gate::{Asked, Dossier, Gate},
        plan::{ControlPlane, JoinCanary, Role},
        state::{Phase, Snapshot, Subject},
    },
    items,
    rehearsal::api::{Turn, answer::Refused},
};

mod changes;
mod join_canary;
mod people;

fn subject(gate: Gate) -> Subject {
    match gate {
        Gate::ClusterPreflight | Gate::Backup | Gate::Finalize | Gate::ClusterAbort => {
            Subject::Cluster
        }
        _ => Subject::Node(worker1()),
    }
}

fn look(gate: Gate) -> Work {
    Work::Collect { subject: subject(gate), gate, round: Round(1) }
}

/// The evidence of a pass, in order.
fn evidence(requests: &[Request]) -> Vec<&Evidence> {
    let submitted = requests.iter().filter_map(|request| match request {
        Request::Submit { evidence, .. } => Some(evidence),
        _ => None,
    });
    submitted.collect()
}

/// What each source said of a check.
fn said(requests: &[Request], check: Check) -> Vec<(&Source, &Verdict)> {
    let all = evidence(requests).into_iter().filter(|one| one.check == check);
    all.map(|one| (&one.source, &one.verdict)).collect()
}

#[track_caller]
fn all_say(requests: &[Request], check: Check, word: &str, part: &str) {
    let said = said(requests, check);
    assert!(!said.is_empty(), "nobody was asked about {check}");
    for (source, verdict) in said {
        let fits = verdict.word() == word && verdict.seen().contains(part);
        assert!(fits, "{source} says of {check}: {verdict:?}, not {word} ... {part}");
    }
}

/// A world with `worker1` and `worker2`, and the recorded UID of the first.
fn with_nodes() -> World {
    let mut world = World::new();
    for name in ["worker1", "worker2"] {
        world.workload.store().put(stored("v1", "Node", node_object(name)));
    }
    let node_uid = uid(&world, "nodes", "", "worker1");
    world.migration.nodes[0].snapshot = Some(Snapshot { node_uid, ..snapshot() });
    world
}

fn uid(world: &World, plural: &str, namespace: &str, name: &str) -> String {
    let store = world.workload.store();
    store.get(plural, namespace, name).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_need_is_answered_by_every_witness_and_silence_is_unknown() {
    let mut world = World::new();
    world.migration.plan.join_canary = Some(JoinCanary { image: "busybox:1.36".to_owned() });
    world.cut_off();
    for gate in Gate::ALL {
        let asked = Asked { round: Round(1), at: NOW };
        world.migration.track.phase = Phase::Asking { gate, asked, dossier: Dossier::default() };
        let requests = world.pass(look(gate)).await.unwrap();
        let subject = subject(gate);
        let bench = world.migration.bench(&subject);
        let needs = gate.needs().iter();
        let expected: Vec<(Check, Source)> = needs
            .flat_map(|need| bench.witnesses(need).into_iter().map(|who| (need.check, who)))
            .collect();
        let answers = evidence(&requests);
        let answered: Vec<(Check, Source)> =
            answers.iter().map(|one| (one.check, one.source.clone())).collect();
        assert_eq!(answered, expected, "{gate:?}: all of them, in the order of the table");
        for one in answers {
            let silent = matches!(one.source, Source::Coordinator)
                || matches!(one.verdict, Verdict::Unknown(_));
            assert!(silent, "{gate:?}: nobody was there, and yet {one:?}");
        }
    }
}

#[tokio::test]
async fn a_removed_node_is_seen_to_be_gone_by_every_witness() {
    let mut world = with_nodes();
    out(&mut world.migration.nodes[0], Gate::Removal);
    world.connect(host_report(), Answered::Done);
    let requests = world.pass(look(Gate::Removal)).await.unwrap();
    all_say(&requests, Check::NodeAbsent, "fail", "Node worker1 exists");

    world.workload.store().remove("nodes", "", "worker1");
    let requests = world.pass(look(Gate::Removal)).await.unwrap();
    for check in [
        Check::NodeAbsent,
        Check::LeaseStopped,
        Check::VolumesDetached,
        Check::NoPodsBound,
        Check::KubeletStopped,
        Check::NoLeftovers,
        Check::PortsFree,
        Check::NodeFilesGone,
    ] {
        all_say(&requests, check, "pass", "");
    }
    assert_eq!(said(&requests, Check::NodeAbsent).len(), 2, "each API server by its own address");
    let of_agent = evidence(&requests).into_iter().find(|one| one.check == Check::PortsFree);
    assert_eq!(of_agent.unwrap().generation, Some(Generation(2)));
    assert!(requests.iter().all(|request| matches!(request, Request::Submit { .. })));
}

#[tokio::test]
async fn one_stale_or_silent_api_server_is_told_from_the_others() {
    let mut world = with_nodes();
    world.second = Some(world.workload.frozen());
    world.workload.store().remove("nodes", "", "worker1");
    let requests = world.pass(look(Gate::Removal)).await.unwrap();
    let words = |requests: &[Request]| -> Vec<&'static str> {
        said(requests, Check::NodeAbsent).iter().map(|(_, verdict)| verdict.word()).collect()
    };
    assert_eq!(words(&requests), ["pass", "fail"]);
    let second = world.second.as_ref().unwrap();
    second.before(Arc::new(|_| Turn::Break("connection reset".into())));
    let requests = world.pass(look(Gate::Removal)).await.unwrap();
    assert_eq!(words(&requests), ["pass", "unknown"]);
    assert_eq!(second.calls().len(), 1 + 6, "a silent server is asked once, not for every list");
}

#[tokio::test]
async fn survivors_of_a_removal_are_reported_after_the_evidence() {
    let mut world = with_nodes();
    let found = |pid, comm: &str| Found {
        pid,
        start_ticks: 5,
        comm: comm.into(),
        exe: format!("/usr/local/bin/{comm}"),
        in_pod: true,
    };
    let found = vec![found(9, "kube-proxy"), found(7, "containerd-shim"), found(8, "kubelet")];
    let mut report = host_report();
    report.processes = Some(Processes { found, total: 90 });
    world.connect(report, Answered::Done);
    let requests = world.pass(look(Gate::Removal)).await.unwrap();
    all_say(&requests, Check::NoLeftovers, "fail", "kube-proxy (pid 9)");
    let Some(Request::Report(Report::Leftovers { processes, .. })) = requests.last() else {
        panic!("the last request is {:?}", requests.last());
    };
    let pids: Vec<u32> = processes.iter().map(|one| one.pid).collect();
    assert_eq!(pids, [7, 9], "by pid, and no kubelet");
}

#[tokio::test]
async fn a_preflight_tries_evictions_without_carrying_them_out() {
    let world = with_nodes();
    world.run(pod("web-1", "worker1", "ReplicaSet"));
    world.run(pod("web-2", "worker2", "ReplicaSet"));
    let guard = budget("guard", "web", 1);
    world.workload.store().put(stored("policy/v1", "PodDisruptionBudget", guard));
    let requests = world.pass(look(Gate::Preflight)).await.unwrap();
    all_say(&requests, Check::DisruptionsAllowed, "pass", "1 pods could be evicted");
    all_say(&requests, Check::CapacityElsewhere, "pass", "1 pods fit on 1 other nodes");
    all_say(&requests, Check::DataElsewhere, "pass", "no data that anybody would miss");
    all_say(&requests, Check::NodesReady, "pass", "2 nodes are Ready");
    assert!(world.workload.store().get("pods", "default", "web-1").is_some());
    // Objects allow it, the server does not.
    world.workload.before(Arc::new(|call| match call.path.ends_with("/eviction") {
        true => Turn::Refuse(Refused::new(StatusCode::FORBIDDEN, "Forbidden", "not on a Friday")),
        false => Turn::Answer,
    }));
    let requests = world.pass(look(Gate::Preflight)).await.unwrap();
    let why = "default/web-1: 403 Forbidden: not on a Friday";
    all_say(&requests, Check::DisruptionsAllowed, "fail", why);
}

#[tokio::test]
async fn a_preflight_names_the_pod_the_node_and_the_reason() {
    let world = with_nodes();
    let mut big = pod("web-1", "worker1", "ReplicaSet");
    let volumes = json!([{"name": "d", "hostPath": {"path": "/data"}}]);
    big.spec.as_mut().unwrap().volumes = from(volumes);
    let container = &mut big.spec.as_mut().unwrap().containers[0];
    container.resources = from(json!({"requests": {"cpu": "3"}}));
    container.volume_mounts = from(json!([{"name": "d", "mountPath": "/d"}]));
    world.run(big);
    world.run(pod("web-2", "worker2", "ReplicaSet"));
    for name in ["guard", "second"] {
        let budget = budget(name, "web", 1);
        world.workload.store().put(stored("policy/v1", "PodDisruptionBudget", budget));
    }
    let requests = world.pass(look(Gate::Preflight)).await.unwrap();
    let why = "default/web-1: fits on no other node: 0/2 nodes are available: 1 Insufficient cpu, \
               1 node(s) were unschedulable";
    all_say(&requests, Check::CapacityElsewhere, "fail", why);
    let why =
        "default/web-1: has more than one PodDisruptionBudget (default/guard, default/second)";
    all_say(&requests, Check::DisruptionsAllowed, "fail", why);
    let why = "default/web-1: may keep data in /data of the host";
    all_say(&requests, Check::DataElsewhere, "fail", why);
}

#[tokio::test]
async fn room_is_looked_for_together_with_the_pods_of_nodes_that_go_before() {
    let mut world = with_nodes();
    world.workload.store().put(stored("v1", "Node", node_object("worker3")));
    for (name, node) in [("web-1", "worker1"), ("web-2", "worker2")] {
        let mut big = pod(name, node, "ReplicaSet");
        let container = &mut big.spec.as_mut().unwrap().containers[0];
        container.resources = from(json!({"requests": {"cpu": "1500m"}}));
        world.run(big);
    }
    let requests = world.pass(look(Gate::Preflight)).await.unwrap();
    all_say(&requests, Check::CapacityElsewhere, "pass", "1 pods fit on 2 other nodes");
    out(&mut world.migration.nodes[1], Gate::Drain);
    world.migration.nodes[1].operations.clear();
    let requests = world.pass(look(Gate::Preflight)).await.unwrap();
    all_say(&requests, Check::CapacityElsewhere, "fail", "Insufficient cpu");
    all_say(&requests, Check::CapacityElsewhere, "fail", ", with worker2");
}

#[tokio::test]
async fn what_a_person_has_accepted_passes_until_its_time_is_over() {
    let mut world = with_nodes();
    let mut keeper = pod("web-1", "worker1", "ReplicaSet");
    let volumes = json!([{"name": "d", "hostPath": {"path": "/data"}}]);
    keeper.spec.as_mut().unwrap().volumes = from(volumes);
    let container = &mut keeper.spec.as_mut().unwrap().containers[0];
    container.volume_mounts = from(json!([{"name": "d", "mountPath": "/d"}]));
    world.run(keeper);
    let check = Check::DataElsewhere;
    let item = |path: &str| Item {
        check,
        identity: format!("hostPath {path} of default"),
        what: "words of that day".to_owned(),
    };
    let numbered = format!("may keep data in /data of the host (item {})", item("/data").id());
    let requests = world.pass(look(Gate::Preflight)).await.unwrap();
    all_say(&requests, check, "fail", &numbered);

    let approval = |path: &str, until: Timestamp| {
        let (by, why) = ("ann".to_owned(), "it is a cache".to_owned());
        let item = item(path);
        (item.id(), Approval { item, by, why, until, ended: false })
    };
    let later = NOW + Span::from_mins(1);
    for (approved, word) in [
        (approval("/data", later), "pass"),
        (approval("/data", NOW), "fail"),
        (approval("/other", later), "fail"),
    ] {
        world.migration.nodes[0].track.approvals = [approved].into();
        let requests = world.pass(look(Gate::Preflight)).await.unwrap();
        all_say(&requests, check, word, &numbered);
    }
    // Of the whole cluster, it counts for each of its nodes; of another node, it does not.
    let approved = approval("/data", later);
    world.migration.nodes[0].track.approvals.clear();
    world.migration.nodes[1].track.approvals = [approved.clone()].into();
    let requests = world.pass(look(Gate::Preflight)).await.unwrap();
    all_say(&requests, check, "fail", &numbered);
    world.migration.track.approvals = [approved].into();
    let requests = world.pass(look(Gate::Preflight)).await.unwrap();
    all_say(&requests, check, "pass", "ann accepts until");
}

#[tokio::test]
async fn a_lease_that_moves_between_two_looks_is_alive_whatever_it_says() {
    let mut world = with_nodes();
    let renew = |world: &World, time: &str| {
        let metadata = json!({"name": "worker1", "namespace": "kube-node-lease"});
        let lease = json!({"metadata": metadata, "spec": {"renewTime": time}});
        world.workload.store().put(stored("coordination.k8s.io/v1", "Lease", lease));
    };
    // The kubelet's clock is an hour behind, so its lease looks long dead.
    renew(&world, "2023-11-14T21:13:10.000000Z");
    let requests = world.pass(look(Gate::Removal)).await.unwrap();
    all_say(&requests, Check::LeaseStopped, "pass", "renewed at 2023-11-14T21:13:10Z");
    let asked = Asked { round: Round(1), at: NOW };
    let mut dossier = Dossier::default();
    for one in evidence(&requests) {
        dossier.add(one.clone(), Span::from_mins(2));
    }
    let gate = Gate::Removal;
    world.migration.nodes[0].track.phase = Phase::Asking { gate, asked, dossier };
    let requests = world.pass(look(Gate::Removal)).await.unwrap();
    all_say(&requests, Check::LeaseStopped, "pass", "and no more");
    renew(&world, "2023-11-14T21:13:20.000000Z");
    let requests = world.pass(look(Gate::Removal)).await.unwrap();
    all_say(&requests, Check::LeaseStopped, "fail", "after the last look");
}

#[tokio::test]
async fn a_node_that_is_back_is_the_host_that_its_agent_is_on() {
    let mut world = with_nodes();
    out(&mut world.migration.nodes[0], Gate::Join);
    let before = world.migration.nodes[0].snapshot.clone();
    let requests = world.pass(look(Gate::Join)).await.unwrap();
    all_say(&requests, Check::NodeNew, "fail", "it is the old one");
    all_say(&requests, Check::NodeIsHost, "unknown", "the agent does not say");

    world.workload.store().remove("nodes", "", "worker1");
    let requests = world.pass(look(Gate::Join)).await.unwrap();
    all_say(&requests, Check::NodeReady, "fail", "Node worker1 does not exist");
    let mut new = stored("v1", "Node", node_object("worker1"));
    new["status"]["nodeInfo"]["bootID"] = json!("boot-2");
    new["status"]["nodeInfo"]["machineID"] = json!("machine-2");
    new["status"]["nodeInfo"]["osImage"] = json!("Ubuntu 22.04.5 LTS");
    world.workload.store().put(new);
    world.connect(host_report(), Answered::Done);
    world.run(pod("proxy-1", "worker1", "DaemonSet"));
    world.migration.nodes[0].snapshot = before;
    let requests = world.pass(look(Gate::Join)).await.unwrap();
    for check in [
        Check::NodeNew,
        Check::NodeReady,
        Check::NodeOsIsTarget,
        Check::KubeletVersionKept,
        Check::NodeAddressKept,
        Check::NodeIsHost,
        Check::NoPendingRequests,
        Check::NodesReady,
        Check::HostIsNode,
        Check::OsIsTarget,
    ] {
        all_say(&requests, check, "pass", "");
    }
    // The objects of this snapshot were never stored, so nobody knows what ran here.
    all_say(&requests, Check::DaemonPodsReady, "unknown", "what was recorded");
}

#[tokio::test]
async fn an_image_that_does_not_manage_the_old_system_stops_the_cluster_unless_accepted() {
    let mut world = with_nodes();
    let check = Check::ImageManagesSystems;
    let requests = world.pass(look(Gate::ClusterPreflight)).await.unwrap();
    all_say(&requests, check, "pass", "manages centos-7.9 and ubuntu-22.04");
    world.migration.plan.image = "registry.example/spray-job:v0.20.0".to_owned();
    let requests = world.pass(look(Gate::ClusterPreflight)).await.unwrap();
    all_say(&requests, check, "fail", "v0.20.0 does not manage centos-7.9");
    let [item] = &items::of_image(&world.migration.plan)[..] else { panic!("one system") };
    let (by, why, until) = ("ann".to_owned(), "patched".to_owned(), NOW + Span::from_mins(1));
    let approval = Approval { item: item.clone(), by, why, until, ended: false };
    world.migration.track.approvals = [(item.id(), approval)].into();
    let requests = world.pass(look(Gate::ClusterPreflight)).await.unwrap();
    all_say(&requests, check, "pass", "ann accepts until");
}

#[tokio::test]
async fn addresses_that_the_playbooks_cannot_tell_apart_stop_the_cluster_unless_accepted() {
    let mut world = with_nodes();
    let check = Check::MembersDistinct;
    world.migration.nodes[0].planned.role = Role::ControlPlane;
    world.migration.plan.control_planes = vec![plane(2), plane(3), plane(4)];
    let requests = world.pass(look(Gate::ClusterPreflight)).await.unwrap();
    all_say(&requests, check, "pass", "3 members");
    world.migration.plan.control_planes = vec![plane(1), plane(2), plane(11)];
    let requests = world.pass(look(Gate::ClusterPreflight)).await.unwrap();
    all_say(
        &requests,
        check,
        "fail",
        "the member of m1 (10.0.0.1) in a way that finds that of m11",
    );
    let [item] = &items::of_members(&world.migration.plan)[..] else { panic!("one pair") };
    let (by, why, until) = ("ann".to_owned(), "patched".to_owned(), NOW + Span::from_mins(1));
    let approval = Approval { item: item.clone(), by, why, until, ended: false };
    world.migration.track.approvals = [(item.id(), approval)].into();
    let requests = world.pass(look(Gate::ClusterPreflight)).await.unwrap();
    all_say(&requests, check, "pass", "ann accepts until");
}

#[tokio::test]
async fn repositories_of_the_fresh_host_and_of_the_old_ones_must_serve() {
    let one = |name: &str, serves: bool, seen: &str| Repository {
        name: name.to_owned(),
        serves,
        seen: seen.to_owned(),
    };
    let dead = || one("base", false, "http://mirror.centos.org: 404 Not Found");
    for (found, fresh, old) in [
        (Some(vec![one("site", true, "it")]), ("pass", "1 package repositories serve"), "pass"),
        (Some(vec![dead()]), ("fail", "base (http://mirror.centos.org: 404"), "fail"),
        (Some(Vec::new()), ("fail", "no package repository is set up"), "pass"),
        (None, ("unknown", "does not report its repositories"), "unknown"),
    ] {
        let mut world = with_nodes();
        world.migration.nodes.truncate(1);
        let repositories = found.map(|found| Repositories { found });
        world.connect(HostReport { repositories, ..host_report() }, Answered::Done);
        let requests = world.pass(look(Gate::Os)).await.unwrap();
        all_say(&requests, Check::RepositoriesServe, fresh.0, fresh.1);
        let requests = world.pass(look(Gate::Preflight)).await.unwrap();
        all_say(&requests, Check::OldRepositoriesServe, old, "repositor");
    }
    // One old host that nobody hears of is enough; one that is out has its turn later.
    let mut world = with_nodes();
    let repositories = Some(Repositories { found: vec![one("site", true, "it")] });
    world.connect(HostReport { repositories, ..host_report() }, Answered::Done);
    let requests = world.pass(look(Gate::Preflight)).await.unwrap();
    all_say(&requests, Check::OldRepositoriesServe, "unknown", "repositories of worker2: no agent");
    out(&mut world.migration.nodes[1], Gate::Os);
    let requests = world.pass(look(Gate::Preflight)).await.unwrap();
    all_say(&requests, Check::OldRepositoriesServe, "pass", "1 package repositories of 1 hosts");
}

#[tokio::test]
async fn the_proxy_of_every_worker_that_is_there_must_lead_to_all_control_planes() {
    let check = Check::ProxiesLeadToAll;
    let planes: Vec<ControlPlane> = [8, 9].map(plane).into();
    let mut world = with_nodes();
    world.migration.nodes[0].planned.role = Role::ControlPlane;
    world.migration.nodes[0].planned.name = "m8".parse().unwrap();
    world.migration.nodes[1].planned.name = worker1();
    world.migration.plan.control_planes = planes;
    let all = ["10.0.0.8:6443", "10.0.0.9:6443"].map(str::to_owned);
    for (servers, word, seen) in [
        (Some(all.to_vec()), "pass", "1 of 1 workers have a proxy of their own"),
        (Some(Vec::new()), "pass", "0 of 1 workers"),
        (Some(all[..1].to_vec()), "fail", "worker1: nginx.conf has no m9 (10.0.0.9:6443)"),
        (None, "unknown", "does not report its proxy"),
    ] {
        let config = || "nginx.conf".to_owned();
        let proxy = servers.map(|servers| Proxy { config: config(), servers, ..Proxy::default() });
        world.connect(HostReport { proxy, ..host_report() }, Answered::Done);
        let requests = world.pass(look(Gate::ClusterPreflight)).await.unwrap();
        all_say(&requests, check, word, seen);
    }
    out(&mut world.migration.nodes[1], Gate::Os);
    let requests = world.pass(look(Gate::ClusterPreflight)).await.unwrap();
    all_say(&requests, check, "pass", "0 of 0 workers");
    // Who is not planned, but has an agent, is asked, too.
    world.migration.nodes.truncate(1);
    let requests = world.pass(look(Gate::ClusterPreflight)).await.unwrap();
    all_say(&requests, check, "unknown", "the proxy of worker1");
}
