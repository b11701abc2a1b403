//! Whether the pods of a node find room on the others.
//!
//! Every pod is put, the largest first, on the first node that has room for its requests and one
//! more pod, and whose taints it tolerates. Affinities, topology and the zones of volumes are not
//! looked at, so a pass may still be followed by a pending pod: gate `Drain` sees it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Node as NodeObject, Pod, Taint, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};
use rehull_shared::{evidence::Verdict, ids::NodeName};

use super::{
    super::{metadata::is_cordoned, pods},
    cluster::is_ready,
};

/// An amount of what is scarce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    /// Thousandths of a processor.
    cpu_m: u64,
    /// Bytes of memory.
    memory: u64,
    /// Pods.
    pods: u64,
}

/// What one pod takes of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Load {
    node: String,
    amount: Amount,
}

/// What a pod takes of the node that it is bound to; nothing if it is finished or unbound.
pub(super) fn load(pod: Pod) -> Option<Load> {
    let node = pod.spec.as_ref()?.node_name.clone()?;
    (!pods::is_finished(&pod)).then(|| Load { node, amount: requests(&pod) })
}

/// Whether the movable ones among `leaving` fit on the nodes other than `node`.
pub(super) fn fits(
    node: &NodeName,
    nodes: &[NodeObject],
    loads: &[Load],
    leaving: &[Pod],
) -> Verdict {
    let mut rooms = match rooms(node, nodes, loads) {
        Ok(rooms) => rooms,
        Err(unknown) => return unknown,
    };
    let mut moving: Vec<&Pod> = leaving.iter().filter(|pod| pods::is_movable(pod)).collect();
    let size = |pod: &Pod| (requests(pod).memory, requests(pod).cpu_m);
    moving.sort_by(|a, b| size(b).cmp(&size(a)).then_with(|| pods::name(a).cmp(&pods::name(b))));
    for pod in &moving {
        let wanted = requests(pod);
        let found = rooms.iter_mut().find(|room| room.takes(pod, wanted));
        match found {
            Some(room) => room.free = room.free.without(wanted),
            None => {
                return Verdict::fail(format!(
                    "no other node has room for pod {} ({} m of cpu, {} MiB)",
                    pods::name(pod),
                    wanted.cpu_m,
                    wanted.memory >> 20
                ));
            }
        }
    }
    Verdict::pass(format!("{} pods fit on {} other nodes", moving.len(), rooms.len()))
}

/// What is free on one node.
struct Room<'a> {
    free: Amount,
    taints: Vec<&'a Taint>,
}

impl Room<'_> {
    fn takes(&self, pod: &Pod, wanted: Amount) -> bool {
        let tolerations: Vec<&Toleration> =
            pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten()).collect();
        let tolerated = |taint: &&Taint| tolerations.iter().any(|one| tolerates(one, taint));
        self.free.covers(wanted) && self.taints.iter().all(tolerated)
    }
}

fn rooms<'a>(
    node: &NodeName,
    nodes: &'a [NodeObject],
    loads: &[Load],
) -> Result<Vec<Room<'a>>, Verdict> {
    let mut taken: BTreeMap<&str, Amount> = BTreeMap::new();
    for load in loads {
        let sum = taken.entry(&load.node).or_default();
        *sum = sum.with(load.amount);
    }
    let mut rooms = Vec::new();
    for other in nodes {
        let name = other.metadata.name.as_deref().unwrap_or_default();
        if name == node.as_str() || !is_ready(other) || is_cordoned(other) {
            continue;
        }
        let Some(all) = allocatable(other) else {
            return Err(Verdict::unknown(format!("Node {name} does not say what it has")));
        };
        let free = all.without(taken.get(name).copied().unwrap_or_default());
        let taints = other.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let taints = taints.filter(|taint| taint.effect != "PreferNoSchedule").collect();
        rooms.push(Room { free, taints });
    }
    Ok(rooms)
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let exists = toleration.operator.as_deref() == Some("Exists");
    let key = toleration.key.as_deref().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let value = toleration.value.as_deref().unwrap_or_default();
    (key == taint.key || (key.is_empty() && exists))
        && (effect.is_empty() || effect == taint.effect)
        && (exists || value == taint.value.as_deref().unwrap_or_default())
}

impl Amount {
    fn with(self, other: Self) -> Self {
        Self {
            cpu_m: self.cpu_m.saturating_add(other.cpu_m),
            memory: self.memory.saturating_add(other.memory),
            pods: self.pods.saturating_add(other.pods),
        }
    }

    fn without(self, other: Self) -> Self {
        Self {
            cpu_m: self.cpu_m.saturating_sub(other.cpu_m),
            memory: self.memory.saturating_sub(other.memory),
            pods: self.pods.saturating_sub(other.pods),
        }
    }

    fn covers(self, other: Self) -> bool {
        self.cpu_m >= other.cpu_m && self.memory >= other.memory && self.pods >= other.pods
    }

    fn of(quantities: Option<&BTreeMap<String, Quantity>>) -> Self {
        let get = |name, unit| {
            let quantity = quantities.and_then(|all| all.get(name));
            quantity.and_then(|quantity| parse(&quantity.0, unit)).unwrap_or_default()
        };
        Self { cpu_m: get("cpu", 1000.0), memory: get("memory", 1.0), pods: get("pods", 1.0) }
    }
}

/// What the scheduler reckons with: all containers together, or the largest init container if that
/// is more, and the overhead of the runtime.
fn requests(pod: &Pod) -> Amount {
    let Some(spec) = &pod.spec else { return Amount { pods: 1, ..Amount::default() } };
    let of = |container: &k8s_openapi::api::core::v1::Container| {
        let resources = container.resources.as_ref();
        Amount::of(resources.and_then(|resources| resources.requests.as_ref()))
    };
    let mut sum = spec.containers.iter().map(of).fold(Amount::default(), Amount::with);
    for init in spec.init_containers.iter().flatten() {
        let one = of(init);
        if init.restart_policy.as_deref() == Some("Always") {
            sum = sum.with(one); // a sidecar runs beside the others
        } else {
            sum.cpu_m = sum.cpu_m.max(one.cpu_m);
            sum.memory = sum.memory.max(one.memory);
        }
    }
    let overhead = Amount::of(spec.overhead.as_ref());
    Amount { pods: 1, ..sum.with(overhead) }
}

fn allocatable(node: &NodeObject) -> Option<Amount> {
    let quantities = node.status.as_ref()?.allocatable.as_ref()?;
    let amount = Amount::of(Some(quantities));
    (amount.cpu_m > 0 && amount.memory > 0 && amount.pods > 0).then_some(amount)
}

/// A Kubernetes quantity in units of 1/`scale`, rounded up; `None` if it is not one.
fn parse(text: &str, scale: f64) -> Option<u64> {
    const SUFFIXES: [(&str, f64); 13] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
    ];
    let found = SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix));
    let (suffix, factor) = found.copied().unwrap_or(("", 1.0));
    let number: f64 = text.strip_suffix(suffix)?.parse().ok()?;
    let value = number * factor * scale;
    // A hair less, so that 1.1 x 1000 is not rounded up for the sake of its last bit.
    (value.is_finite() && value >= 0.0).then(|| (value - 1e-6).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::effects::testing::{from, node_object, pod, says, worker1};

    fn asking(name: &str, cpu: &str, memory: &str) -> Pod {
        let mut pod = pod(name, "worker1", "ReplicaSet");
        let requests = json!({"requests": {"cpu": cpu, "memory": memory}});
        pod.spec.as_mut().unwrap().containers[0].resources = from(requests);
        pod
    }

    fn judge(nodes: &[NodeObject], others: &[Pod], leaving: &[Pod]) -> Verdict {
        let loads: Vec<Load> = others.iter().cloned().filter_map(load).collect();
        fits(&worker1(), nodes, &loads, leaving)
    }

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, scale, value) in [
            ("100m", 1000.0, 100),
            ("2", 1000.0, 2000),
            ("0.5", 1000.0, 500),
            ("1Ki", 1.0, 1024),
            ("3670016Ki", 1.0, 3_758_096_384),
            ("1e3", 1.0, 1000),
            ("128M", 1.0, 128_000_000),
        ] {
            assert_eq!(parse(text, scale), Some(value), "{text}");
        }
        assert_eq!(parse("much", 1.0), None);
    }

    #[test]
    fn pods_fit_until_the_other_nodes_are_full() {
        let nodes = [node_object("worker1"), node_object("worker2")];
        let leaving = [asking("a", "1500m", "1Gi"), asking("b", "500m", "1Gi")];
        says(&judge(&nodes, &[], &leaving), "pass", "2 pods fit on 1 other nodes");
        let mut there = asking("c", "100m", "1Gi");
        there.spec.as_mut().unwrap().node_name = Some("worker2".into());
        let full = judge(&nodes, &[there], &leaving);
        says(&full, "fail", "no other node has room for pod default/b (500 m of cpu, 1024 MiB)");
    }

    #[test]
    fn slots_taints_cordons_and_daemons_count() {
        let mut nodes = [node_object("worker1"), node_object("worker2")];
        let leaving: Vec<Pod> = (0..11).map(|n| asking(&format!("p{n}"), "1m", "1Mi")).collect();
        says(&judge(&nodes, &[], &leaving), "fail", "no other node has room");
        says(&judge(&nodes, &[], &leaving[..10]), "pass", "10 pods");
        let taint = json!({"taints": [{"key": "gpu", "effect": "NoSchedule"}]});
        nodes[1].spec = from(taint);
        says(&judge(&nodes, &[], &leaving[..1]), "fail", "default/p0");
        let mut tolerant = leaving[0].clone();
        let toleration = json!([{"key": "gpu", "operator": "Exists"}]);
        tolerant.spec.as_mut().unwrap().tolerations = from(toleration);
        says(&judge(&nodes, &[], &[tolerant]), "pass", "1 pods");
        nodes[1].spec = from(json!({"unschedulable": true}));
        says(&judge(&nodes, &[], &leaving[..1]), "fail", "default/p0");
        let daemon = pod("proxy", "worker1", "DaemonSet");
        says(&judge(&nodes, &[], &[daemon]), "pass", "0 pods");
    }

    #[test]
    fn a_node_that_does_not_say_what_it_has_is_unknown() {
        let mut nodes = [node_object("worker1"), node_object("worker2")];
        nodes[1].status.as_mut().unwrap().allocatable = None;
        says(&judge(&nodes, &[], &[]), "unknown", "worker2 does not say");
    }
}
