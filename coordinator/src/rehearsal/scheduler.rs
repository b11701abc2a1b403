//! Where a new pod goes: the filters of the scheduler that decide most, and the emptiest node.
//!
//! The preflight (`capacity`) is the exact one, and is asked in a rehearsal as it always is. This one
//! only moves pods on: of taints, node selection, requests, affinity between pods and the places of
//! volumes it knows what is required, and nothing of what is preferred or spread.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    api::{selects, store::Store},
    workloads::{is_on, lives, text},
};
use crate::capacity::quantity;

/// What is taken of each node: thousandths of processors, bytes of memory, pods.
pub(super) struct Room {
    taken: BTreeMap<String, [i64; 3]>,
}

impl Room {
    /// As the pods leave it.
    pub(super) fn of(store: &Store) -> Self {
        let mut room = Self { taken: BTreeMap::new() };
        for pod in store.list("pods").filter(|pod| lives(pod)) {
            if let Some(node) = pod["spec"]["nodeName"].as_str() {
                room.take(pod, node);
            }
        }
        room
    }

    /// Puts a pod on a node.
    pub(super) fn take(&mut self, pod: &Value, node: &str) {
        let taken = self.taken.entry(node.to_owned()).or_default();
        for (taken, asked) in taken.iter_mut().zip(asked(pod)) {
            *taken = taken.saturating_add(asked);
        }
    }

    /// The node with the fewest pods that takes the pod, one without a pod of its controller first;
    /// the first by name among equals.
    pub(super) fn choose(&self, store: &Store, pod: &Value) -> Option<String> {
        let owner = &pod["metadata"]["ownerReferences"][0]["uid"];
        let takes = |node: &&Value| {
            is_on(node, "Ready")
                && suits(&pod["spec"], node, false)
                && self.fits(pod, node)
                && agrees(store, pod, node)
                && has_volumes(store, pod, node)
        };
        let nodes = store.list("nodes").filter(takes).map(|node| text(&node["metadata"]["name"]));
        nodes.min_by_key(|node| {
            let mut there = store.list("pods").filter(|pod| pod["spec"]["nodeName"] == **node);
            let beside = there.any(|other| {
                lives(other) && other["metadata"]["ownerReferences"][0]["uid"] == *owner
            });
            (beside, self.taken.get(node).map_or(0, |taken| taken[2]))
        })
    }

    fn fits(&self, pod: &Value, node: &Value) -> bool {
        let room = &node["status"]["allocatable"];
        let read = |field: &str, read: fn(&str) -> Option<i64>| {
            room[field].as_str().and_then(read).unwrap_or(0)
        };
        let room = [
            read("cpu", quantity::thousandths),
            read("memory", quantity::units),
            read("pods", quantity::units),
        ];
        let taken = self.taken.get(&text(&node["metadata"]["name"])).copied().unwrap_or_default();
        let mut each = room.into_iter().zip(taken).zip(asked(pod));
        each.all(|((room, taken), asked)| asked == 0 || taken.saturating_add(asked) <= room)
    }
}

fn asked(pod: &Value) -> [i64; 3] {
    let mut asked = [0, 0, 1];
    for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
        let requests = &container["resources"]["requests"];
        let of = |field: &str| requests[field].as_str().unwrap_or("0");
        let cpu = quantity::thousandths(of("cpu")).unwrap_or(0);
        let memory = quantity::units(of("memory")).unwrap_or(0);
        asked = [asked[0] + cpu, asked[1] + memory, 1];
    }
    asked
}

/// Whether a node is one that the pod selects and whose taints it bears. A daemon bears what comes
/// and goes with a node: the cordon, and that it is not Ready yet.
pub(super) fn suits(spec: &Value, node: &Value, daemon: bool) -> bool {
    let labels = &node["metadata"]["labels"];
    let mut selector = spec["nodeSelector"].as_object().into_iter().flatten();
    let affinity = &spec["affinity"]["nodeAffinity"];
    let terms = &affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let cordoned = node["spec"]["unschedulable"] == true;
    (daemon || !cordoned)
        && selector.all(|(key, value)| labels[key] == *value)
        && is_chosen(terms, node)
        && bears(spec, node, daemon)
}

/// Whether one of the terms chooses the node; all of them are missing if none is needed.
fn is_chosen(terms: &Value, node: &Value) -> bool {
    let Some(terms) = terms.as_array() else { return true };
    let holds = |row: &Value, value: Option<&str>| {
        let among = || {
            let values = row["values"].as_array().into_iter().flatten();
            value.is_some_and(|value| values.into_iter().any(|one| one == value))
        };
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
        let limit = || number(row["values"][0].as_str()).zip(number(value));
        match row["operator"].as_str() {
            Some("In") => among(),
            Some("NotIn") => !among(),
            Some("Exists") => value.is_some(),
            Some("DoesNotExist") => value.is_none(),
            Some("Gt") => limit().is_some_and(|(limit, value)| value > limit),
            Some("Lt") => limit().is_some_and(|(limit, value)| value < limit),
            _ => false,
        }
    };
    let metadata = &node["metadata"];
    terms.iter().any(|term| {
        let rows = |field: &str| term[field].as_array().cloned().unwrap_or_default();
        let label = |row: &Value| metadata["labels"][text(&row["key"])].as_str();
        rows("matchExpressions").iter().all(|row| holds(row, label(row)))
            && rows("matchFields").iter().all(|row| holds(row, metadata["name"].as_str()))
    })
}

fn bears(spec: &Value, node: &Value, daemon: bool) -> bool {
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let mut hard = taints.filter(|taint| taint["effect"] != "PreferNoSchedule");
    hard.all(|taint| {
        let passing = daemon && text(&taint["key"]).starts_with("node.kubernetes.io/");
        let mut tolerations = spec["tolerations"].as_array().into_iter().flatten();
        passing
            || tolerations.any(|one| {
                let any = |field: &str| one[field].is_null() || one[field] == "";
                let exists = one["operator"] == "Exists" || any("value");
                (any("key") && one["operator"] == "Exists" || one["key"] == taint["key"])
                    && (any("effect") || one["effect"] == taint["effect"])
                    && (exists || one["value"] == taint["value"])
            })
    })
}

/// Whether required affinity between pods agrees with the node.
fn agrees(store: &Store, pod: &Value, node: &Value) -> bool {
    let rows = |kind: &str| {
        let rows = &pod["spec"]["affinity"][kind];
        rows["requiredDuringSchedulingIgnoredDuringExecution"].as_array().cloned()
    };
    let namespace = &pod["metadata"]["namespace"];
    let chosen = |row: &Value, other: &Value| {
        let of = row["namespaces"].as_array();
        let inside = of.map_or(other["metadata"]["namespace"] == *namespace, |of| {
            of.contains(&other["metadata"]["namespace"])
        });
        inside && selects(&row["labelSelector"], other)
    };
    let near = |row: &Value| {
        let topology = text(&row["topologyKey"]);
        let place = |node: &Value| node["metadata"]["labels"][&topology].clone();
        let here = place(node);
        store.list("pods").filter(|other| lives(other) && chosen(row, other)).any(|other| {
            let on = other["spec"]["nodeName"].as_str();
            let on = on.and_then(|name| store.get("nodes", "", name));
            on.is_some_and(|on| place(on) == here && !here.is_null())
        })
    };
    // The first pod of a group that wants to be together may go anywhere.
    let alone = |row: &Value| {
        let others = store.list("pods").filter(|other| !other["spec"]["nodeName"].is_null());
        chosen(row, pod) && !others.into_iter().any(|other| lives(other) && chosen(row, other))
    };
    !rows("podAntiAffinity").unwrap_or_default().iter().any(near)
        && rows("podAffinity").unwrap_or_default().iter().all(|row| near(row) || alone(row))
}

/// Whether every volume of the pod that has a place can be reached from the node.
fn has_volumes(store: &Store, pod: &Value, node: &Value) -> bool {
    let namespace = text(&pod["metadata"]["namespace"]);
    pod["spec"]["volumes"].as_array().into_iter().flatten().all(|volume| {
        let claim = text(&volume["persistentVolumeClaim"]["claimName"]);
        let claim = store.get("persistentvolumeclaims", &namespace, &claim);
        let name = claim.map(|claim| text(&claim["spec"]["volumeName"])).unwrap_or_default();
        let volume = store.get("persistentvolumes", "", &name);
        volume.is_none_or(|volume| {
            is_chosen(&volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"], node)
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node() -> Value {
        json!({
            "metadata": { "name": "n1", "labels": { "zone": "a" } },
            "spec": { "taints": [{ "key": "gpu", "value": "yes", "effect": "NoSchedule" }] },
        })
    }

    #[test]
    fn selection_and_taints_decide_which_node_suits() {
        let bearing = json!({ "tolerations": [{ "key": "gpu", "operator": "Exists" }] });
        assert!(suits(&bearing, &node(), false));
        assert!(!suits(&json!({}), &node(), true), "its taint is nothing that passes");
        let other = json!({ "tolerations": [{ "key": "gpu", "value": "no" }] });
        assert!(!suits(&other, &node(), false));
        let mut spec = bearing.clone();
        spec["nodeSelector"] = json!({ "zone": "b" });
        assert!(!suits(&spec, &node(), false));
        let mut cordoned = node();
        cordoned["spec"]["unschedulable"] = json!(true);
        assert!(!suits(&bearing, &cordoned, false) && suits(&bearing, &cordoned, true));
        let rows = json!([{ "key": "zone", "operator": "NotIn", "values": ["a"] }]);
        assert!(!is_chosen(&json!([{ "matchExpressions": rows }]), &node()));
        assert!(is_chosen(&Value::Null, &node()));
    }
}
