//! Hand-made clusters, and what becomes of their pods.

use serde_json::{Value, json};

use super::*;

mod affinity;
mod budgets;
mod order;
mod random;
mod resources;
mod scan;
mod spread;
mod volumes;

/// A cluster that is put together object by object.
#[derive(Default)]
struct Cluster {
    builder: Builder,
}

impl Cluster {
    /// A Ready node with 4 processors, 8 GiB and room for ten pods, but for what is said.
    fn node(&mut self, name: &str, but: Value) -> &mut Self {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"},
            },
        });
        merge(&mut node, but);
        self.builder.node(&serde_json::from_value(node).unwrap());
        self
    }

    /// Nodes in zones: `a1`, `a2` in zone `a` and so on.
    fn zoned(&mut self, names: &[&str]) -> &mut Self {
        for name in names {
            self.node(name, json!({"metadata": {"labels": {"zone": &name[..1]}}}));
        }
        self
    }

    /// A Ready pod `shop/<name>` of a ReplicaSet on a node (none if it waits), with label `app` = the
    /// name up to its first hyphen, but for what is said.
    fn pod(&mut self, name: &str, node: &str, but: Value) -> &mut Self {
        let app = name.split('-').next().unwrap();
        let mut pod = json!({
            "metadata": {
                "name": name, "namespace": "shop", "uid": format!("uid-{name}"),
                "labels": {"app": app},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app,
                    "uid": app, "controller": true}],
            },
            "spec": {"containers": [{"name": "c"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        if node.is_empty() {
            pod["status"] = json!({"phase": "Pending"});
        } else {
            pod["spec"]["nodeName"] = json!(node);
        }
        merge(&mut pod, but);
        self.builder.pod(&serde_json::from_value(pod).unwrap());
        self
    }

    fn budget(&mut self, name: &str, selector: Value, status: Value) -> &mut Self {
        let budget = json!({"metadata": {"name": name, "namespace": "shop"},
            "spec": {"selector": selector}, "status": status});
        self.builder.budget(&serde_json::from_value(budget).unwrap());
        self
    }

    /// What is found when a node is drained.
    fn drain(&mut self, node: &str) -> Report {
        std::mem::take(&mut self.builder).build().examine(&[node]).unwrap()
    }
}

/// Puts fields into an object; lists are replaced.
fn merge(object: &mut Value, but: Value) {
    match (object, but) {
        (Value::Object(object), Value::Object(but)) => {
            for (key, value) in but {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
        (object, but) => *object = but,
    }
}

/// A pod that asks for processor and memory.
fn asks(cpu: &str, memory: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c",
        "resources": {"requests": {"cpu": cpu, "memory": memory}}}]}})
}

/// Fields of a pod's spec.
fn spec(spec: Value) -> Value {
    json!({ "spec": spec })
}

/// A selector for label `app`.
fn app(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

/// What was found, but for what is shown of every pod.
fn lines(report: &Report) -> Vec<String> {
    let blocks = report.findings.iter().filter(|one| one.weight() < Weight::Shown);
    let blocks = blocks.filter(|one| !matches!(one.what, What::SingleReplica { .. }));
    blocks.map(ToString::to_string).collect()
}

/// Asserts that everything fits.
#[track_caller]
fn fits(report: &Report, pods: usize) {
    assert_eq!(lines(report), Vec::<String>::new());
    assert_eq!(report.placement.pods, pods, "{:?}", report.placement);
}

/// Asserts that exactly this pod does not fit, and why each node refuses it.
#[track_caller]
fn refused(report: &Report, pod: &str, why: &str) {
    let nodes = report.findings.iter().find_map(|one| match &one.what {
        What::DoesNotFit { refusals, .. } => Some(refusals.nodes),
        _ => None,
    });
    let nodes = nodes.unwrap_or_default();
    let line = format!("shop/{pod}: fits on no other node: 0/{nodes} nodes are available: {why}");
    assert_eq!(lines(report), [line]);
}

#[test]
fn an_unknown_node_has_no_report() {
    let mut cluster = Cluster::default();
    cluster.node("n1", json!({}));
    let model = std::mem::take(&mut cluster.builder).build();
    assert_eq!(model.examine(&["n2"]), None);
    assert_eq!(model.examine(&["n1"]).unwrap().findings, []);
}
