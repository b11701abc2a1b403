//! How long the capacity and disruption preflight of one node takes in a cluster of the largest size
//! that Kubernetes supports: 5,000 nodes and 150,000 pods.
//!
//! `BENCH_NODES` is how many nodes are examined, one after the other, on one core.

#![expect(clippy::unwrap_used, reason = "a measurement stops where its ground is missing")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    policy::v1::PodDisruptionBudget,
};
use rehull::capacity::{Builder, Model, What};
use rehull_tests::chance::Chance;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const NODES: usize = 5_000;
const PODS: usize = 150_000;
const DAEMONS: usize = 6;
const GOAL: Duration = Duration::from_millis(200);

fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return; // built as a test: nothing to prove here
    }
    let examined = std::env::var("BENCH_NODES").ok().and_then(|text| text.parse().ok());
    let examined: usize = examined.unwrap_or(200);
    let (model, reading, building) = cluster();
    println!(
        "\n{} nodes, {} pods: read from objects in {} ms, put together in {} ms",
        model.nodes(),
        model.pods(),
        reading.as_millis(),
        building.as_millis()
    );
    let mut times = Vec::new();
    let (mut pods, mut proven, mut left_over) = (0, 0, 0);
    for number in 0..examined {
        let name = node_name(number * (NODES / examined));
        let began = Instant::now();
        let report = model.examine(&[&name]).unwrap();
        times.push(began.elapsed());
        pods += report.placement.pods;
        proven += usize::from(report.placement.ways == 0);
        let is_left = report
            .findings
            .iter()
            .any(|one| matches!(one.what, What::DoesNotFit { .. } | What::MayNotFit { .. }));
        left_over += usize::from(is_left);
    }
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{examined} nodes examined, {} pods to place on each; {proven} proven in one way, \
         {left_over} with pods left over",
        pods / examined
    );
    println!(
        "one node: fastest {:.1} ms, median {:.1} ms, slowest {:.1} ms",
        ms(times[0]),
        ms(median),
        ms(slowest)
    );
    let word = if slowest <= GOAL { "within" } else { "MISSED" };
    println!("slowest: {:.1} ms, goal {} ms: {word}", ms(slowest), GOAL.as_millis());
}

fn node_name(number: usize) -> String {
    format!("node-{number:04}")
}

/// Ten workloads, one of each sort, share a namespace.
fn namespace(workload: usize) -> String {
    format!("team-{}", workload / 10)
}

/// Reads a whole cluster, page by page as from an API server; says how long reading and putting
/// together took, without the time for making the objects up.
fn cluster() -> (Model, Duration, Duration) {
    let mut builder = Builder::default();
    let mut reading = Duration::ZERO;
    let mut chance = Chance(7);
    let nodes: Vec<Node> = (0..NODES).map(node).collect();
    timed(&mut reading, || nodes.iter().for_each(|node| builder.node(node)));
    let mut made = 0;
    for number in 0..DAEMONS {
        let template = daemon(number);
        for start in (0..NODES).step_by(500) {
            let pods = start..(start + 500).min(NODES);
            let pods: Vec<Pod> =
                pods.map(|node| placed(&template, &format!("d{number}-{node}"), node)).collect();
            made += pods.len();
            timed(&mut reading, || pods.iter().for_each(|pod| builder.pod(pod)));
        }
    }
    let mut workload = 0;
    while made < PODS {
        let replicas = (1 + chance.below(90) as usize).min(PODS - made);
        let first = chance.below(NODES as u64) as usize;
        let template = template(workload);
        let pods: Vec<Pod> = (0..replicas)
            .map(|replica| {
                // Spread over zones and racks, and never two on one node.
                let node = (first + replica * 53) % NODES;
                placed(&template, &format!("w{workload}-{replica}"), node)
            })
            .collect();
        timed(&mut reading, || pods.iter().for_each(|pod| builder.pod(pod)));
        if workload.is_multiple_of(3) {
            let budget = budget(workload, replicas);
            timed(&mut reading, || builder.budget(&budget));
        }
        if workload % 10 == 9 {
            for replica in 0..replicas {
                let (volume, claim) = volume(workload, replica);
                timed(&mut reading, || {
                    builder.volume(&volume);
                    builder.claim(&claim);
                });
            }
        }
        made += replicas;
        workload += 1;
    }
    let began = Instant::now();
    let model = builder.build();
    (model, reading, began.elapsed())
}

fn timed(sum: &mut Duration, work: impl FnOnce()) {
    let began = Instant::now();
    work();
    *sum += began.elapsed();
}

fn read<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

/// Three zones, a hundred racks; every tenth node is tainted, every fifth has an SSD.
fn node(number: usize) -> Node {
    let name = node_name(number);
    let mut taints = json!([]);
    if number % 10 == 3 {
        taints = json!([{"key": "dedicated", "value": "batch", "effect": "NoSchedule"}]);
    }
    read(json!({
        "metadata": {"name": name, "uid": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            "topology.kubernetes.io/zone": format!("zone-{}", number % 3),
            "rack": format!("rack-{}", number % 100),
            "disk": if number.is_multiple_of(5) { "ssd" } else { "hdd" },
        }},
        "spec": {"taints": taints},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"cpu": "32", "memory": "128Gi", "ephemeral-storage": "500Gi",
                "pods": "110"},
        },
    }))
}

fn daemon(number: usize) -> Pod {
    read(json!({
        "metadata": {"namespace": "kube-system", "labels": {"daemon": number.to_string()},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "controller": true,
                "name": format!("daemon-{number}"), "uid": "u"}]},
        "spec": {"tolerations": [{"operator": "Exists"}], "hostNetwork": true,
            "containers": [{"name": "c", "ports": [{"containerPort": 9100 + number,
                "hostPort": 9100 + number}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }))
}

/// Of ten workloads two keep their pods on different nodes, two spread them over zones, one over
/// racks, one must be near another, one wants an SSD, one tolerates the taint, one has volumes.
fn template(number: usize) -> Pod {
    let own = json!({"matchLabels": {"app": format!("w{number}")}});
    let required = |topology: &str, selector: &Value| {
        json!({"requiredDuringSchedulingIgnoredDuringExecution":
            [{"topologyKey": topology, "labelSelector": selector}]})
    };
    let spread = |topology: &str, skew: u32| {
        json!([{"topologyKey": topology, "maxSkew": skew, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": own}])
    };
    let (host, zone) = ("kubernetes.io/hostname", "topology.kubernetes.io/zone");
    let mut spec = match number % 10 {
        0 | 1 => json!({"affinity": {"podAntiAffinity": required(host, &own)}}),
        2 | 3 => json!({"topologySpreadConstraints": spread(zone, 2)}),
        4 => json!({"topologySpreadConstraints": spread("rack", 5)}),
        5 => {
            let other = json!({"matchLabels": {"app": format!("w{}", number - 1)}});
            json!({"affinity": {"podAffinity": required(zone, &other)}})
        }
        6 => json!({"nodeSelector": {"disk": "ssd"}}),
        7 => json!({"tolerations": [{"key": "dedicated", "operator": "Exists"}]}),
        _ => json!({}),
    };
    let cpu = format!("{}m", 100 * (1 + number % 7));
    spec["containers"] = json!([{"name": "c", "image": format!("registry.example/w{number}:1"),
        "resources": {"requests": {"cpu": cpu, "memory": "512Mi"}}}]);
    read(json!({
        "metadata": {"namespace": namespace(number),
            "labels": {"app": format!("w{number}"), "pod-template-hash": "7c9d8f6b5"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                "name": format!("w{number}"), "uid": "u"}]},
        "spec": spec,
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }))
}

fn placed(template: &Pod, name: &str, node: usize) -> Pod {
    let mut pod = template.clone();
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.uid = Some(format!("uid-{name}"));
    let spec = pod.spec.as_mut().unwrap();
    spec.node_name = Some(node_name(node));
    let labels = pod.metadata.labels.get_or_insert_with(BTreeMap::new);
    if labels.get("app").is_some_and(|app| app.ends_with('9')) {
        let claim = json!({"name": "data", "persistentVolumeClaim": {"claimName": name}});
        spec.volumes = Some(vec![read(claim)]);
    }
    pod
}

fn budget(workload: usize, replicas: usize) -> PodDisruptionBudget {
    read(json!({
        "metadata": {"name": format!("w{workload}"), "namespace": namespace(workload)},
        "spec": {"maxUnavailable": 1,
            "selector": {"matchLabels": {"app": format!("w{workload}")}}},
        "status": {"disruptionsAllowed": 1, "currentHealthy": replicas,
            "desiredHealthy": replicas - 1, "expectedPods": replicas},
    }))
}

fn volume(workload: usize, replica: usize) -> (PersistentVolume, PersistentVolumeClaim) {
    let (name, claim) = (format!("pv-{workload}-{replica}"), format!("w{workload}-{replica}"));
    let namespace = namespace(workload);
    let zones = json!(["zone-0", "zone-1", "zone-2"]);
    let volume = json!({
        "metadata": {"name": name, "uid": name},
        "spec": {"csi": {"driver": "disk.example", "volumeHandle": name},
            "claimRef": {"namespace": namespace, "name": claim},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "topology.kubernetes.io/zone", "operator": "In", "values": zones}]}]}}},
    });
    let claim = json!({
        "metadata": {"name": claim, "namespace": namespace,
            "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": name}, "status": {"phase": "Bound"},
    });
    (read(volume), read(claim))
}
