//! Small objects for tests of this folder.

use k8s_openapi::api::{
    core::v1::{Node as NodeObject, Pod},
    policy::v1::PodDisruptionBudget,
};
use rehull_proto::v1::{
    Certificates, Disks, Etcd, Identity, Listeners, Nic, Os, Packages, Paths, Processes, Report,
    Resolver, Swap, Units,
};
use rehull_shared::{
    evidence::Verdict,
    ids::{Attempt, Generation, NodeName, Round},
    time::Timestamp,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::collect::host::Heard;
use crate::{
    domain::{
        gate::Gate,
        operation,
        plan::{Access, ControlPlane, Installer, Plan, PlannedNode},
        policy::Policy,
        state::{
            Extent, Inputs, Kind, Migration, Node, Operation, OperationIntent, Outcome, Phase,
            Progress, Snapshot, Step, Track,
        },
    },
    etcd,
};

mod world;

pub(super) use world::{World, stored};

/// 14 Nov 2023, 22:13:20 UTC.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Reads an object from JSON.
#[track_caller]
pub(super) fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A ready pod `default/<name>` on a node, with label `app` = the name up to its first hyphen, and
/// a controller of this kind with the same name; no kind, no controller.
pub(super) fn pod(name: &str, node: &str, controller: &str) -> Pod {
    let app = name.split('-').next().unwrap();
    let owner = json!({"apiVersion": "apps/v1", "kind": controller, "name": app, "uid": "o",
        "controller": true});
    let owners = if controller.is_empty() { json!([]) } else { json!([owner]) };
    from(json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"),
            "labels": {"app": app}, "ownerReferences": owners},
        "spec": {"nodeName": node, "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }))
}

/// The budget `default/<name>` for pods with label `app`.
pub(super) fn budget(name: &str, app: &str, allowed: i32) -> PodDisruptionBudget {
    from(json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": allowed + 1, "desiredHealthy": 1,
            "expectedPods": 2, "observedGeneration": 1},
    }))
}

/// A Ready node of the source OS with room for ten pods, 2 processors and 4 GiB.
pub(super) fn node_object(name: &str) -> NodeObject {
    from(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "5",
            "creationTimestamp": "2023-11-14T22:00:00Z"},
        "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"},
            "nodeInfo": {"architecture": "amd64", "bootID": "boot-1", "machineID": "machine-1",
                "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                "kubeletVersion": "v1.27.5", "operatingSystem": "linux",
                "osImage": "CentOS Linux 7 (Core)", "systemUUID": ""},
        },
    }))
}

/// A migration of `worker1` (10.0.0.1) and `worker2` (10.0.0.2) from CentOS 7.9 to Ubuntu 22.04.
pub(crate) fn migration() -> Migration {
    let access = Access { kubeconfig: None, context: None };
    let plan = Plan {
        cluster: "prod".parse().unwrap(),
        management: access.clone(),
        workload: access,
        namespace: "kubean-system".into(),
        api_servers: vec!["10.0.0.11:6443".into(), "10.0.0.12:6443".into()],
        source: "centos-7.9".to_owned().try_into().unwrap(),
        target: "ubuntu-22.04".to_owned().try_into().unwrap(),
        image: "registry.example/spray-job:v0.12.2".into(),
        kubernetes_version: "v1.27.5".into(),
        kube_version_arg: "v1.27.5".into(),
        facts_hook: false,
        repos: Vec::new(),
        installer: Installer::Manual,
        policy: Policy::default(),
        unsafe_because: None,
        control_planes_excluded: true,
        calendar: Default::default(),
        protection: None,
        join_canary: None,
        control_planes: Vec::new(),
        endpoint: None,
    };
    Migration {
        id: uuid::Uuid::nil(),
        plan,
        by: "test".into(),
        started_at: NOW,
        paused_by: None,
        aborted_by: None,
        planned: 2,
        track: track(Phase::Working),
        nodes: vec![node("worker1", "10.0.0.1"), node("worker2", "10.0.0.2")],
        export: None,
        protection: Default::default(),
        identity: None,
        proved: None,
    }
}

/// The control plane `m<number>`.
pub(crate) fn plane(number: u8) -> ControlPlane {
    ControlPlane {
        name: format!("m{number}").parse().unwrap(),
        address: format!("10.0.0.{number}"),
        api_server: format!("10.0.0.{number}:6443"),
    }
}

/// What is heard of the member on one of those, and of nothing else there.
pub(crate) fn member_heard(number: u8, said: Result<Etcd, String>) -> etcd::Heard {
    let unknown = || "nobody asked".to_owned();
    etcd::Heard {
        node: plane(number).name,
        said,
        control_plane: Err(unknown()),
        certificates: Err(unknown()),
        addresses: Err(unknown()),
    }
}

/// The name of the node that tests are about.
pub(super) fn worker1() -> NodeName {
    "worker1".parse().unwrap()
}

/// What was recorded of it.
pub(super) fn snapshot() -> Snapshot {
    Snapshot {
        node_uid: "uid-worker1".into(),
        unschedulable: false,
        objects_sha256: String::new(),
        host_sha256: String::new(),
        boot_id: "boot-1".into(),
        machine_id: "machine-1".into(),
        product_uuid: "4c4c4544".into(),
        macs: vec!["52:54:00:00:00:01".into()],
    }
}

/// The report of `worker1` freshly installed, fit to join, and another installation than that of
/// [`snapshot`].
pub(super) fn host_report() -> Report {
    let nic = Nic {
        name: "eth0".into(),
        mac: "52:54:00:00:00:01".into(),
        addresses: vec!["10.0.0.1".into()],
    };
    let text = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
    Report {
        clock_ms: NOW.as_millis(),
        identity: Some(Identity {
            hostname: "worker1".into(),
            machine_id: "machine-2".into(),
            boot_id: "boot-2".into(),
            product_uuid: "4C4C4544".into(),
            product_serial: String::new(),
            nics: vec![nic],
        }),
        os: Some(Os {
            id: "ubuntu".into(),
            version_id: "22.04".into(),
            pretty_name: "Ubuntu 22.04.5 LTS".into(),
            ..Os::default()
        }),
        processes: Some(Processes::default()),
        listeners: Some(Listeners::default()),
        paths: Some(Paths {
            present: Vec::new(),
            absent: text(&[
                "/etc/cni",
                "/etc/etcd.env",
                "/etc/kubernetes",
                "/etc/ssl/etcd",
                "/var/lib/containerd",
                "/var/lib/etcd",
                "/var/lib/kubelet",
            ]),
        }),
        disks: Some(Disks::default()),
        packages: Some(Packages::default()),
        certificates: Some(Certificates::default()),
        swap: Some(Swap::default()),
        units: Some(Units {
            active: Vec::new(),
            inactive: text(&["firewalld.service", "kubelet.service", "ufw.service"]),
        }),
        resolver: Some(Resolver { nameservers: text(&["10.0.0.53"]), upstreams: Vec::new() }),
        ..Report::default()
    }
}

/// A report of generation 2 that was asked for at [`NOW`] and came 100 ms later.
pub(super) fn heard(report: Report) -> Heard {
    let heard_at = Timestamp::from_millis(NOW.as_millis() + 100);
    Heard { report, generation: Generation(2), asked_at: NOW, heard_at }
}

/// Lets a node be out: its removal has ended, and `gate` comes next.
pub(crate) fn out(node: &mut Node, gate: Gate) {
    let inputs = Inputs {
        inventory: "i".into(),
        inventory_sha256: String::new(),
        vars: "v".into(),
        vars_sha256: String::new(),
        ssh_secret: None,
        left_out: Vec::new(),
    };
    let cluster = "prod".parse().unwrap();
    let name = operation::name(&cluster, Kind::Remove, &node.planned.name, Attempt(1));
    let intent = OperationIntent { name, kind: Kind::Remove, attempt: Attempt(1), inputs };
    let progress = Progress::Ended { uid: None, outcome: Outcome::Succeeded };
    node.operations = vec![Operation {
        intent,
        progress,
        archived: true,
        extent: Extent::Unknown,
        accepted: false,
    }];
    node.track.phase = Phase::Ready { next: Step::Ask(gate) };
}

fn node(name: &str, address: &str) -> Node {
    let name = name.parse().unwrap();
    let planned =
        PlannedNode { name, address: address.into(), canary: false, role: Default::default() };
    let mut node = Node::new(planned, NOW);
    node.track.round = Round(1);
    node
}

fn track(phase: Phase) -> Track {
    Track {
        round: Round(1),
        phase,
        since: NOW,
        hold: None,
        troubles: Default::default(),
        approvals: Default::default(),
    }
}

/// Asserts the word of a verdict and a part of what was seen.
#[track_caller]
pub(super) fn says(verdict: &Verdict, word: &str, part: &str) {
    assert_eq!(verdict.word(), word, "{verdict:?}");
    assert!(verdict.seen().contains(part), "{verdict:?} does not speak of {part:?}");
}
