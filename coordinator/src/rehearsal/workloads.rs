//! What runs in a simulated cluster: its controllers and kubelets, one step after the other.

use rehull_shared::time::{Span, Timestamp};
use serde_json::{Value, json};

use super::{
    SECRETS,
    api::{kubernetes_time, selects, store::Store},
};

/// How long a new pod takes to be Ready.
const POD_START: Span = Span::from_secs(10);

/// How old a lease may be before its node counts as lost: `--node-monitor-grace-period`.
const MONITOR_GRACE: Span = Span::from_secs(40);

/// Namespace of what the system brings.
const SYSTEM: &str = "kube-system";

/// DaemonSets of the system namespace.
pub(super) const DAEMON_SETS: &[&str] = &["calico-node", "kube-proxy", "nodelocaldns"];

/// Deployments: namespace, name, replicas, and how many must stay available.
pub(super) const DEPLOYMENTS: &[(&str, &str, u32, u32)] =
    &[("kube-system", "coredns", 2, 1), ("shop", "web", 4, 3), ("shop", "cart", 2, 1)];

/// Puts the workloads into a new cluster.
pub(super) fn install(store: &mut Store) {
    let labels = |name: &str| json!({ "k8s-app": name });
    for name in DAEMON_SETS {
        store.put(json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": { "name": name, "namespace": SYSTEM },
            "spec": { "selector": { "matchLabels": labels(name) } },
        }));
    }
    for (namespace, name, replicas, available) in DEPLOYMENTS {
        let selector = json!({ "matchLabels": labels(name) });
        store.put(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "replicas": replicas, "selector": selector },
        }));
        store.put(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": set_of(name), "namespace": namespace,
                "ownerReferences": [owner(store, "deployments", namespace, name, "Deployment")],
            },
            "spec": { "replicas": replicas, "selector": selector },
        }));
        store.put(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "minAvailable": available, "selector": selector },
            "status": { "disruptionsAllowed": 0, "desiredHealthy": available },
        }));
    }
}

/// Lets every controller and kubelet of the cluster move once.
pub(super) fn step(store: &mut Store, now: Timestamp) {
    watch_nodes(store, now);
    collect_pods(store);
    for name in DAEMON_SETS {
        daemon_set(store, name, now);
    }
    start_pods(store, now);
    for (namespace, name, replicas, _) in DEPLOYMENTS {
        deployment(store, namespace, name, *replicas, now);
        budget(store, namespace, name);
    }
}

/// The node controller: a node whose lease stands still is lost.
fn watch_nodes(store: &mut Store, now: Timestamp) {
    for name in names(store, "nodes") {
        let lease = store.get("leases", "kube-node-lease", &name);
        let renewed = lease.and_then(|lease| lease["spec"]["renewTime"].as_str()?.parse().ok());
        if renewed.is_none_or(|renewed: Timestamp| renewed + MONITOR_GRACE < now) {
            set_ready(store, &name, "Unknown", now);
        }
    }
}

/// Says whether a node is Ready, and since when.
pub(super) fn set_ready(store: &mut Store, node: &str, status: &str, now: Timestamp) {
    store.edit("nodes", "", node, |node| {
        let conditions = &mut node["status"]["conditions"];
        if conditions[0]["status"] != status {
            let time = kubernetes_time(now);
            *conditions = json!([{
                "type": "Ready", "status": status, "lastTransitionTime": time,
                "reason": if status == "True" { "KubeletReady" } else { "NodeStatusUnknown" },
            }]);
        }
    });
}

/// The pod garbage collector: pods of nodes that are gone go, too.
fn collect_pods(store: &mut Store) {
    let nodes = names(store, "nodes");
    let lost: Vec<(String, String)> = store
        .list("pods")
        .filter(|pod| {
            pod["spec"]["nodeName"].as_str().is_some_and(|n| !nodes.iter().any(|m| m == n))
        })
        .map(|pod| (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"])))
        .collect();
    for (namespace, name) in lost {
        store.remove("pods", &namespace, &name);
    }
}

fn daemon_set(store: &mut Store, name: &str, now: Timestamp) {
    let nodes = names(store, "nodes");
    for node in &nodes {
        if !pods_of(store, "kube-system", name).iter().any(|pod| pod["spec"]["nodeName"] == **node)
        {
            let owner = owner(store, "daemonsets", "kube-system", name, "DaemonSet");
            make_pod(store, "kube-system", name, name, owner, node, now);
        }
    }
    let ready = pods_of(store, "kube-system", name).iter().filter(|pod| is_ready(pod)).count();
    let desired = nodes.len();
    store.edit("daemonsets", "kube-system", name, |set| {
        set["status"] = json!({
            "desiredNumberScheduled": desired, "currentNumberScheduled": desired,
            "numberReady": ready, "numberAvailable": ready, "numberMisscheduled": 0,
        });
    });
}

/// Pods start when their time has come and their node is Ready, and are unready with it.
fn start_pods(store: &mut Store, now: Timestamp) {
    let ready: Vec<String> = store
        .list("nodes")
        .filter(|node| node["status"]["conditions"][0]["status"] == "True")
        .map(|node| text(&node["metadata"]["name"]))
        .collect();
    let pods: Vec<(String, String, bool)> = store
        .list("pods")
        .filter_map(|pod| {
            let made: Timestamp = pod["metadata"]["creationTimestamp"].as_str()?.parse().ok()?;
            let on_ready = ready.iter().any(|node| pod["spec"]["nodeName"] == **node);
            let may = on_ready && (is_ready(pod) || made + POD_START <= now);
            let key = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
            (may != is_ready(pod)).then_some((key.0, key.1, may))
        })
        .collect();
    for (namespace, name, may) in pods {
        store.edit("pods", &namespace, &name, |pod| {
            let status = if may { "True" } else { "False" };
            pod["status"] = json!({
                "phase": "Running", "conditions": [{ "type": "Ready", "status": status }],
            });
        });
    }
}

/// The deployment's controller and the scheduler in one.
fn deployment(store: &mut Store, namespace: &str, name: &str, replicas: u32, now: Timestamp) {
    let mut have = pods_of(store, namespace, name);
    while have.len() < replicas as usize {
        let Some(node) = roomiest(store, namespace, name) else { break };
        let owner = owner(store, "replicasets", namespace, &set_of(name), "ReplicaSet");
        make_pod(store, namespace, name, &set_of(name), owner, &node, now);
        have = pods_of(store, namespace, name);
    }
    let ready = have.iter().filter(|pod| is_ready(pod)).count();
    store.edit("deployments", namespace, name, |deployment| {
        deployment["status"] = json!({
            "replicas": replicas, "readyReplicas": ready, "availableReplicas": ready,
            "updatedReplicas": replicas,
        });
    });
}

/// The schedulable node with the fewest pods, one without a pod of the application first; the first
/// by name among equals. Only what the system brings tolerates the taint of control planes.
fn roomiest(store: &Store, namespace: &str, app: &str) -> Option<String> {
    let free = |node: &&Value| {
        let tainted = node["spec"]["taints"].as_array().is_some_and(|taints| !taints.is_empty());
        let ready = node["status"]["conditions"][0]["status"] == "True";
        ready && (!tainted || namespace == SYSTEM) && node["spec"]["unschedulable"] != true
    };
    let on = |pod: &Value, node: &str| pod["spec"]["nodeName"] == *node;
    let load = |node: &str| store.list("pods").filter(|pod| on(pod, node)).count();
    let has = |node: &str| pods_of(store, namespace, app).iter().any(|pod| on(pod, node));
    let nodes = store.list("nodes").filter(free).map(|node| text(&node["metadata"]["name"]));
    nodes.min_by_key(|node| (has(node), load(node)))
}

fn budget(store: &mut Store, namespace: &str, name: &str) {
    let healthy = pods_of(store, namespace, name).iter().filter(|pod| is_ready(pod)).count();
    store.edit("poddisruptionbudgets", namespace, name, |budget| {
        let desired = budget["spec"]["minAvailable"].as_u64().unwrap_or(0);
        let allowed = (healthy as u64).saturating_sub(desired);
        budget["status"] = json!({
            "disruptionsAllowed": allowed, "currentHealthy": healthy,
            "desiredHealthy": desired, "expectedPods": healthy,
            "observedGeneration": budget["metadata"]["generation"],
        });
    });
}

fn make_pod(
    store: &mut Store,
    namespace: &str,
    app: &str,
    prefix: &str,
    owner: Value,
    node: &str,
    now: Timestamp,
) {
    let name = format!("{prefix}-{}", store.suffix());
    let control_plane = json!({ "key": "node-role.kubernetes.io/control-plane" });
    let tolerations = match namespace {
        SYSTEM => json!([control_plane]),
        _ => json!([]),
    };
    store.put(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "labels": { "k8s-app": app },
            "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": node,
            "tolerations": tolerations,
            "containers": [{
                "name": app, "image": format!("registry.example/{app}:1"),
                "resources": { "requests": { "cpu": "250m", "memory": "256Mi" } },
                "env": [{ "name": "DB_PASSWORD", "value": SECRETS[3] }],
            }],
        },
        "status": { "phase": "Pending", "startTime": kubernetes_time(now) },
    }));
}

fn set_of(deployment: &str) -> String {
    format!("{deployment}-7c9d8f6b5")
}

fn owner(store: &Store, plural: &str, namespace: &str, name: &str, kind: &str) -> Value {
    let uid = store.get(plural, namespace, name).map(|object| &object["metadata"]["uid"]);
    json!({ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true })
}

/// Pods of an application that are not on their way out.
fn pods_of<'a>(store: &'a Store, namespace: &str, app: &str) -> Vec<&'a Value> {
    let selector = json!({ "matchLabels": { "k8s-app": app } });
    let pods = store.list("pods").filter(|pod| pod["metadata"]["namespace"] == *namespace);
    pods.filter(|pod| selects(&selector, pod))
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .collect()
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"][0]["status"] == "True"
}

fn names(store: &Store, plural: &str) -> Vec<String> {
    store.list(plural).map(|object| text(&object["metadata"]["name"])).collect()
}

/// A field as text; empty if it is none.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
