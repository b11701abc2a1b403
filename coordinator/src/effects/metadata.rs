//! What a node carried before and should carry again: a three-way merge that never takes away.
//!
//! The base is the snapshot; the other side is the new Node object. What the snapshot had and the
//! new object lacks comes back; whatever the new object has, in any value, was set after the join
//! by somebody who knows better, and stays. Keys of the system are left to the system (F24).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::{Map, Value, json};

/// Says on a Node which migration has cordoned it.
pub(super) const CORDONED_BY: &str = "rehull.dev/cordoned-by";

/// Keys that kubelet, kubeadm and controllers write themselves.
const SYSTEM_KEYS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "csi.volume.kubernetes.io/nodeid",
    "kubeadm.alpha.kubernetes.io/cri-socket",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.alpha.kubernetes.io/ttl",
];

/// Beginnings of such keys. The last five are of network plugins, which keep addresses and MACs of
/// the running system there: old ones would break the node's network. `rehull.dev/` is our own.
const SYSTEM_PREFIXES: &[&str] = &[
    "rehull.dev/",
    "volumes.kubernetes.io/",
    "flannel.alpha.coreos.com/",
    "io.cilium.",
    "k8s.ovn.org/",
    "network.cilium.io/",
    "projectcalico.org/",
];

/// Beginnings of keys of taints that the node controllers set and remove by themselves.
const SYSTEM_TAINTS: &[&str] = &["node.kubernetes.io/", "node.cloudprovider.kubernetes.io/"];

/// What the node carried before and lacks now.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Missing {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    taints: Vec<Taint>,
}

/// Compares a node with what it was.
pub(super) fn missing(before: &Node, now: &Node) -> Missing {
    let lost = |before: &Option<BTreeMap<String, String>>,
                now: &Option<BTreeMap<String, String>>| {
        let mut lost = before.clone().unwrap_or_default();
        lost.retain(|key, _| {
            !is_system(key) && !now.as_ref().is_some_and(|now| now.contains_key(key))
        });
        lost
    };
    let kept = taints(now);
    let mut taints = taints(before);
    taints.retain(|old| {
        let system = SYSTEM_TAINTS.iter().any(|prefix| old.key.starts_with(prefix));
        !system && !kept.iter().any(|new| new.key == old.key && new.effect == old.effect)
    });
    Missing {
        labels: lost(&before.metadata.labels, &now.metadata.labels),
        annotations: lost(&before.metadata.annotations, &now.metadata.annotations),
        taints,
    }
}

/// Whether the node takes no new pods by order.
pub(super) fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false)
}

/// The merge patch that gives a node back what it lacks and makes it schedulable as it was, with our
/// mark of a cordon gone; `None` if nothing is to be done. It names UID and version of the object
/// that it is for.
pub(super) fn patch(before: &Node, now: &Node) -> Option<Value> {
    let missing = missing(before, now);
    let mut spec = Map::new();
    if !missing.taints.is_empty() {
        // A merge patch replaces lists, so the ones that are there go with it.
        let all: Vec<Taint> = taints(now).into_iter().chain(missing.taints.clone()).collect();
        spec.insert("taints".to_owned(), json!(all));
    }
    if is_cordoned(before) != is_cordoned(now) {
        let value = if is_cordoned(before) { Value::Bool(true) } else { Value::Null };
        spec.insert("unschedulable".to_owned(), value);
    }
    let marked = now.metadata.annotations.as_ref().is_some_and(|now| now.contains_key(CORDONED_BY));
    if missing == Missing::default() && spec.is_empty() && !marked {
        return None;
    }
    let mut patch = for_this(now);
    patch["metadata"]["labels"] = json!(missing.labels);
    patch["metadata"]["annotations"] = json!(missing.annotations);
    if marked {
        patch["metadata"]["annotations"][CORDONED_BY] = Value::Null;
    }
    patch["spec"] = Value::Object(spec);
    Some(patch)
}

/// The beginning of a patch that fails if the object is another one or was changed meanwhile.
pub(super) fn for_this(node: &Node) -> Value {
    let (uid, version) = (&node.metadata.uid, &node.metadata.resource_version);
    json!({"metadata": {"uid": uid, "resourceVersion": version}})
}

impl Missing {
    /// What is missing, each in a word.
    pub(super) fn names(&self) -> Vec<String> {
        let labels = self.labels.keys().map(|key| format!("label {key}"));
        let annotations = self.annotations.keys().map(|key| format!("annotation {key}"));
        let taints =
            self.taints.iter().map(|taint| format!("taint {}:{}", taint.key, taint.effect));
        labels.chain(annotations).chain(taints).collect()
    }
}

fn is_system(key: &str) -> bool {
    SYSTEM_KEYS.contains(&key) || SYSTEM_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

fn taints(node: &Node) -> Vec<Taint> {
    node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::testing::from;

    fn node(labels: Value, annotations: Value, spec: Value) -> Node {
        let metadata = json!({"name": "n1", "uid": "u2", "resourceVersion": "7",
            "labels": labels, "annotations": annotations});
        from(json!({"metadata": metadata, "spec": spec}))
    }

    fn before() -> Node {
        let taint = json!({"key": "gpu", "value": "yes", "effect": "NoSchedule"});
        let broken = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"});
        node(
            json!({"disk": "ssd", "zone": "a", "kubernetes.io/hostname": "n1"}),
            json!({"note": "keep", "projectcalico.org/IPv4Address": "10.0.0.9/24"}),
            json!({"taints": [taint, broken]}),
        )
    }

    #[test]
    fn what_was_there_comes_back_and_what_is_there_stays() {
        let own = json!({"key": "new", "effect": "NoSchedule"});
        let now = node(
            json!({"zone": "b", "team": "x"}),
            json!({}),
            json!({"taints": [own], "unschedulable": true}),
        );
        let patch = patch(&before(), &now).unwrap();
        assert_eq!(patch["metadata"]["labels"], json!({"disk": "ssd"}), "zone=b is newer");
        assert_eq!(patch["metadata"]["annotations"], json!({"note": "keep"}));
        assert_eq!(
            (&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]),
            (&json!("u2"), &json!("7"))
        );
        let keys: Vec<_> = patch["spec"]["taints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|taint| taint["key"].as_str().unwrap())
            .collect();
        assert_eq!(keys, ["new", "gpu"], "the list is replaced, so it must be whole");
        assert_eq!(patch["spec"]["unschedulable"], Value::Null, "it was schedulable before");
    }

    #[test]
    fn nothing_is_done_twice() {
        assert_eq!(patch(&before(), &before()), None);
        assert_eq!(missing(&before(), &before()).names(), Vec::<String>::new());
    }

    #[test]
    fn a_node_that_was_cordoned_is_cordoned_again() {
        let was = node(json!({}), json!({}), json!({"unschedulable": true}));
        let now = node(json!({}), json!({}), json!({}));
        assert_eq!(patch(&was, &now).unwrap()["spec"], json!({"unschedulable": true}));
    }

    #[test]
    fn what_is_missing_is_named() {
        let now = node(json!({"zone": "a"}), json!({}), json!({}));
        assert_eq!(
            missing(&before(), &now).names(),
            ["label disk", "annotation note", "taint gpu:NoSchedule"]
        );
    }
}
