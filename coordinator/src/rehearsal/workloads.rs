//! What runs in a simulated cluster: its controllers and kubelets, one step after the other, for
//! whatever objects the cluster has.

use std::collections::{BTreeMap, BTreeSet};

use rehull_shared::time::{Span, Timestamp};
use serde_json::{Value, json};

use super::{
    api::{kubernetes_time, selects, store::Store},
    scheduler::{self, Room},
};

/// How long a new pod takes to be Ready.
const POD_START: Span = Span::from_secs(10);

/// How old a lease may be before its node counts as lost: `--node-monitor-grace-period`.
const MONITOR_GRACE: Span = Span::from_secs(40);

/// Controllers whose pods are made anew wherever there is room: plural and kind.
pub(super) const REPLICATED: [(&str, &str); 2] =
    [("replicasets", "ReplicaSet"), ("statefulsets", "StatefulSet")];

/// Lets every controller and kubelet of the cluster move once. Pods in `sick` were not well before,
/// and stay so; on the nodes in `stuck` none starts. Says whether something waits for time to pass.
pub(super) fn step(
    store: &mut Store,
    sick: &BTreeSet<String>,
    stuck: &BTreeSet<String>,
    now: Timestamp,
) -> bool {
    watch_nodes(store, now);
    collect_pods(store);
    let pods = by_controller(store);
    for set in all(store, "daemonsets") {
        daemon_set(store, &set, &pods);
    }
    for (plural, _) in REPLICATED {
        for set in all(store, plural) {
            replicas(store, &set, &pods);
        }
    }
    schedule(store, sick);
    let waits = start_pods(store, sick, stuck, now);
    say(store);
    waits
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
        if condition(node, "Ready")["status"] != status {
            let time = kubernetes_time(now);
            node["status"]["conditions"] = json!([{
                "type": "Ready", "status": status, "lastTransitionTime": time,
                "reason": if status == "True" { "KubeletReady" } else { "NodeStatusUnknown" },
            }]);
        }
    });
}

/// The pod garbage collector: pods of nodes that are gone go, too.
fn collect_pods(store: &mut Store) {
    let nodes: BTreeSet<String> = names(store, "nodes").into_iter().collect();
    let lost: Vec<(String, String)> = store
        .list("pods")
        .filter(|pod| pod["spec"]["nodeName"].as_str().is_some_and(|n| !nodes.contains(n)))
        .map(key)
        .collect();
    for (namespace, name) in lost {
        store.remove("pods", &namespace, &name);
    }
}

/// What is known of the pods of each controller, by its UID.
type Pods = BTreeMap<String, Vec<(String, Option<String>)>>;

/// Names and nodes of the pods that are not over or on their way out.
fn by_controller(store: &Store) -> Pods {
    let mut pods = Pods::new();
    for pod in store.list("pods").filter(|pod| lives(pod)) {
        let node = pod["spec"]["nodeName"].as_str().map(str::to_owned);
        let owners = pod["metadata"]["ownerReferences"].as_array();
        for owner in owners.into_iter().flatten().filter(|owner| owner["controller"] == true) {
            let of = pods.entry(text(&owner["uid"])).or_default();
            of.push((text(&pod["metadata"]["name"]), node.clone()));
        }
    }
    pods
}

fn of<'a>(pods: &'a Pods, set: &Value) -> &'a [(String, Option<String>)] {
    pods.get(&text(&set["metadata"]["uid"])).map_or(&[], Vec::as_slice)
}

/// One pod on each node that its template suits: cordoned ones, too.
fn daemon_set(store: &mut Store, set: &Value, pods: &Pods) {
    let template = &set["spec"]["template"];
    let wanted: Vec<String> = store
        .list("nodes")
        .filter(|node| scheduler::suits(&template["spec"], node, true))
        .map(|node| text(&node["metadata"]["name"]))
        .collect();
    for node in &wanted {
        if !of(pods, set).iter().any(|(_, on)| on.as_ref() == Some(node)) {
            let name = format!("{}-{}", text(&set["metadata"]["name"]), store.suffix());
            make_pod(store, set, name, Some(node));
        }
    }
}

/// As many pods as are wanted; those of a StatefulSet by number.
fn replicas(store: &mut Store, set: &Value, pods: &Pods) {
    let wanted = set["spec"]["replicas"].as_u64().unwrap_or(1);
    let have = of(pods, set);
    let base = text(&set["metadata"]["name"]);
    let mut numbers = (0..).map(|number| format!("{base}-{number}"));
    for _ in have.len() as u64..wanted {
        let name = match set["kind"] == "StatefulSet" {
            true => numbers.find(|name| !have.iter().any(|(old, _)| old == name)),
            false => Some(format!("{base}-{}", store.suffix())),
        };
        make_pod(store, set, name.unwrap_or_default(), None);
    }
}

fn make_pod(store: &mut Store, set: &Value, name: String, node: Option<&str>) {
    let (namespace, template) = (&set["metadata"]["namespace"], &set["spec"]["template"]);
    let mut spec = template["spec"].clone();
    if let Some(node) = node {
        spec["nodeName"] = json!(node);
    }
    let mut volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    for claim in set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
        let of = text(&claim["metadata"]["name"]);
        let claim = json!({ "claimName": format!("{of}-{name}") });
        volumes.push(json!({ "name": of, "persistentVolumeClaim": claim }));
    }
    if !volumes.is_empty() {
        spec["volumes"] = json!(volumes);
    }
    let owner = json!({
        "apiVersion": "apps/v1", "kind": set["kind"], "name": set["metadata"]["name"],
        "uid": set["metadata"]["uid"], "controller": true,
    });
    let time = store.time();
    store.put(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "ownerReferences": [owner],
            "labels": template["metadata"]["labels"],
        },
        "spec": spec,
        "status": { "phase": "Pending", "startTime": time },
    }));
}

/// The scheduler: what has no node gets one, if one is left for it.
fn schedule(store: &mut Store, sick: &BTreeSet<String>) {
    let waiting: Vec<Value> = store
        .list("pods")
        .filter(|pod| pod["spec"]["nodeName"].is_null() && lives(pod))
        .filter(|pod| !sick.contains(&text(&pod["metadata"]["uid"])))
        .cloned()
        .collect();
    if waiting.is_empty() {
        return;
    }
    let mut room = Room::of(store);
    for pod in waiting {
        if let Some(node) = room.choose(store, &pod) {
            let (namespace, name) = key(&pod);
            store.edit("pods", &namespace, &name, |pod| pod["spec"]["nodeName"] = json!(node));
            room.take(&pod, &node);
        }
    }
}

/// Pods start when their time has come and their node is Ready, and are unready with it. Says
/// whether one of them waits for its time.
fn start_pods(
    store: &mut Store,
    sick: &BTreeSet<String>,
    stuck: &BTreeSet<String>,
    now: Timestamp,
) -> bool {
    let ready: BTreeSet<String> = store
        .list("nodes")
        .filter(|node| is_on(node, "Ready"))
        .map(|node| text(&node["metadata"]["name"]))
        .collect();
    let mut waits = false;
    let pods: Vec<(String, String, bool)> = store
        .list("pods")
        .filter(|pod| lives(pod) && !sick.contains(&text(&pod["metadata"]["uid"])))
        .filter_map(|pod| {
            let node = pod["spec"]["nodeName"].as_str()?;
            let made: Timestamp = pod["metadata"]["creationTimestamp"].as_str()?.parse().ok()?;
            let is = is_on(pod, "Ready");
            let old = made + POD_START <= now;
            let may = ready.contains(node) && (is || (old && !stuck.contains(node)));
            waits |= !may && !old;
            let (namespace, name) = key(pod);
            (may != is).then_some((namespace, name, may))
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
    waits
}

/// What every controller says of itself.
fn say(store: &mut Store) {
    let ready = |pod: &Value| is_on(pod, "Ready");
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for pod in store.list("pods").filter(|pod| lives(pod)) {
        let owners = pod["metadata"]["ownerReferences"].as_array();
        for owner in owners.into_iter().flatten() {
            let (have, well) = counts.entry(text(&owner["uid"])).or_default();
            (*have, *well) = (*have + 1, *well + u64::from(ready(pod)));
        }
    }
    let count = |object: &Value, counts: &BTreeMap<String, (u64, u64)>| {
        counts.get(&text(&object["metadata"]["uid"])).copied().unwrap_or_default()
    };
    for set in all(store, "daemonsets") {
        let (_, well) = count(&set, &counts);
        let template = &set["spec"]["template"]["spec"];
        let suited = |node: &&Value| scheduler::suits(template, node, true);
        let wanted = store.list("nodes").filter(suited).count();
        let (namespace, name) = key(&set);
        store.edit("daemonsets", &namespace, &name, |set| {
            set["status"] = json!({
                "desiredNumberScheduled": wanted, "currentNumberScheduled": wanted,
                "numberReady": well, "numberAvailable": well, "numberMisscheduled": 0,
            });
        });
    }
    // Those of the ReplicaSets first: a Deployment counts what they have.
    for plural in ["replicasets", "statefulsets", "deployments"] {
        for set in all(store, plural) {
            let (have, well) = count(&set, &counts);
            for owner in set["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
                let (all, ready) = counts.entry(text(&owner["uid"])).or_default();
                (*all, *ready) = (*all + have, *ready + well);
            }
            let (namespace, name) = key(&set);
            store.edit(plural, &namespace, &name, |set| {
                let status = &mut set["status"];
                for (field, value) in [
                    ("replicas", have),
                    ("readyReplicas", well),
                    ("availableReplicas", well),
                    ("updatedReplicas", have),
                ] {
                    status[field] = json!(value);
                }
            });
        }
    }
    for budget in all(store, "poddisruptionbudgets") {
        self::budget(store, &budget);
    }
}

/// The disruption controller.
fn budget(store: &mut Store, budget: &Value) {
    let (namespace, name) = key(budget);
    let selected = store.list("pods").filter(|pod| {
        pod["metadata"]["namespace"] == namespace.as_str()
            && lives(pod)
            && selects(&budget["spec"]["selector"], pod)
    });
    let (mut found, mut healthy, mut controllers) = (0, 0, BTreeMap::new());
    for pod in selected {
        found += 1;
        healthy += u64::from(is_on(pod, "Ready"));
        let owners = pod["metadata"]["ownerReferences"].as_array();
        for owner in owners.into_iter().flatten().filter(|owner| owner["controller"] == true) {
            for (plural, kind) in REPLICATED.iter().filter(|(_, kind)| owner["kind"] == *kind) {
                let set = store.get(plural, &namespace, &text(&owner["name"]));
                let replicas = set.and_then(|set| set["spec"]["replicas"].as_u64()).unwrap_or(1);
                controllers.insert((kind, text(&owner["name"])), replicas);
            }
        }
    }
    // A budget counts what its pods' controllers want, not what is there.
    let expected = if controllers.is_empty() { found } else { controllers.values().sum() };
    let spec = &budget["spec"];
    let desired =
        match (part(&spec["minAvailable"], expected), part(&spec["maxUnavailable"], expected)) {
            (Some(least), _) => least,
            (None, Some(most)) => expected.saturating_sub(most),
            (None, None) => 0,
        };
    store.edit("poddisruptionbudgets", &namespace, &name, |budget| {
        budget["status"] = json!({
            "disruptionsAllowed": healthy.saturating_sub(desired), "currentHealthy": healthy,
            "desiredHealthy": desired, "expectedPods": expected,
            "observedGeneration": budget["metadata"]["generation"],
        });
    });
}

/// A number, or a percentage of `all`, rounded up as the disruption controller does it.
fn part(value: &Value, all: u64) -> Option<u64> {
    let percent = || value.as_str()?.strip_suffix('%')?.parse::<u64>().ok();
    value.as_u64().or_else(|| percent().map(|percent| (percent * all).div_ceil(100)))
}

/// Whether a pod is neither over nor on its way out.
pub(super) fn lives(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    pod["metadata"]["deletionTimestamp"].is_null() && !matches!(phase, "Succeeded" | "Failed")
}

/// A condition of an object; null if it has not got it.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let all = object["status"]["conditions"].as_array();
    let found = all.into_iter().flatten().find(|condition| condition["type"] == kind);
    found.unwrap_or(&Value::Null)
}

/// Whether a condition is true.
pub(super) fn is_on(object: &Value, kind: &str) -> bool {
    condition(object, kind)["status"] == "True"
}

fn all(store: &Store, plural: &str) -> Vec<Value> {
    store.list(plural).cloned().collect()
}

/// Namespace and name.
pub(super) fn key(object: &Value) -> (String, String) {
    (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

fn names(store: &Store, plural: &str) -> Vec<String> {
    store.list(plural).map(|object| text(&object["metadata"]["name"])).collect()
}

/// A field as text; empty if it is none.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_rounded_up() {
        assert_eq!(part(&json!("50%"), 3), Some(2));
        assert_eq!(part(&json!(1), 3), Some(1));
        assert_eq!(part(&json!(null), 3), None);
    }
}
