//! A simulated workload cluster: the objects of an original, its workers on hosts, and what
//! kubespray does to them.

use std::{collections::BTreeSet, io, path::Path};

use rehull_shared::{
    ids::{ClusterName, NodeName},
    time::{Span, Timestamp},
};
use serde_json::{Value, json};

use super::{
    api::{Api, store::Store},
    machine::{Machine, Os},
    watch::Watch,
    workloads::{self, is_on, text},
};

/// How long a kubelet takes from its start until its node is Ready.
const NODE_START: Span = Span::from_secs(20);

/// Labels that a kubelet gives its node by itself.
const KUBELET_LABELS: [&str; 5] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// A cluster as it is before its rehearsal: made up for the demo, or read from its APIs.
pub(super) struct Original {
    /// Its name.
    pub(super) name: ClusterName,
    /// The document of its migration.
    pub(super) document: String,
    /// The workers that migrate, and their addresses. Their hosts are played.
    pub(super) workers: Vec<(NodeName, String)>,
    /// `host:port` of every API server.
    pub(super) servers: Vec<String>,
    /// The OS that they leave, and the one that they reach.
    pub(super) systems: (&'static Os, &'static Os),
    /// Objects of the management cluster.
    pub(super) management: Vec<Value>,
    /// Objects of the cluster itself.
    pub(super) workload: Vec<Value>,
}

/// A workload cluster.
pub(super) struct Site {
    pub(super) name: ClusterName,
    pub(super) api: Api,
    pub(super) target: &'static Os,
    pub(super) workers: Vec<Worker>,
    /// What its clients may have noticed.
    pub(super) watch: Watch,
    /// Nodes on which no pod starts.
    stuck: BTreeSet<String>,
    servers: Vec<String>,
    /// Nodes that nobody touches, and that were Ready.
    others: Vec<String>,
    /// Pods that were not well before: nothing in a rehearsal heals them.
    sick: BTreeSet<String>,
    /// The version behind which nothing has changed but time.
    settled: Option<String>,
}

/// A worker: its host, its Node as it was, and since when its kubelet is there.
pub(super) struct Worker {
    pub(super) machine: Machine,
    before: Value,
    joined: Timestamp,
}

impl Site {
    /// A copy of a cluster, with hosts in `hosts`.
    pub(super) fn new(
        original: Original,
        seed: &str,
        api: Api,
        hosts: &Path,
        certificate: &str,
        now: Timestamp,
    ) -> io::Result<Self> {
        let Original { name, workers: planned, servers, systems, workload, .. } = original;
        let (source, target) = systems;
        api.store().adopt(workload);
        let mut workers = Vec::new();
        for (node, address) in planned {
            let before = api.store().get("nodes", "", node.as_str()).cloned();
            let missing = || io::Error::other(format!("{name} has no Node {node}"));
            let before = before.ok_or_else(missing)?;
            let (root, seed) = (hosts.join(node.as_str()), format!("{seed}/{name}"));
            let certificate = certificate.to_owned();
            // One that was migrated before is what it is.
            let image = text(&before["status"]["nodeInfo"]["osImage"]);
            let os = if target.is_shown_by(&image) { target } else { source };
            let mut machine = Machine::new(&root, &seed, node, address, certificate, os)?;
            machine.make_worker()?;
            workers.push(Worker { machine, before, joined: now });
        }
        let (others, sick) = {
            let store = &*api.store();
            let ours = |node: &Value| {
                workers.iter().any(|worker| node["metadata"]["name"] == *worker.name())
            };
            let others = store.list("nodes").filter(|node| is_on(node, "Ready") && !ours(node));
            let sick = store.list("pods").filter(|pod| !is_on(pod, "Ready"));
            (
                others.map(|node| text(&node["metadata"]["name"])).collect(),
                sick.map(|pod| text(&pod["metadata"]["uid"])).collect(),
            )
        };
        let (watch, stuck, settled) = (Watch::default(), BTreeSet::new(), None);
        let mut site =
            Self { name, api, target, workers, watch, stuck, servers, others, sick, settled };
        // A cluster that has run for a while: what is to be there is there, and up.
        site.step(now);
        site.step(now + Span::from_secs(30));
        site.step(now + Span::from_secs(30));
        site.watch = Watch::default();
        Ok(site)
    }

    /// Lets kubelets and controllers move.
    pub(super) fn step(&mut self, now: Timestamp) {
        let api = self.api.clone();
        let store = &mut *api.store();
        let untouched = self.settled.as_ref() == Some(&store.version());
        let mut settled = untouched;
        for name in &self.others {
            renew_lease(store, name, now);
        }
        for worker in &mut self.workers {
            worker.machine.settle();
            let name = worker.machine.name.as_str();
            let Some(node) = store.get("nodes", "", name).cloned() else { continue };
            if !worker.machine.has_kubelet() {
                settled &= !is_on(&node, "Ready"); // its lease will be too old
                continue; // a kubelet whose node was deleted registers only when it starts again
            }
            renew_lease(store, name, now);
            let ready = is_on(&node, "Ready");
            settled &= ready;
            // One that was down before the rehearsal stays so until it is made anew.
            let old = node["metadata"]["uid"] == worker.before["metadata"]["uid"];
            let well = !old || is_on(&worker.before, "Ready");
            if !ready && well && worker.joined + NODE_START <= now {
                workloads::set_ready(store, name, "True", now);
            }
        }
        if !settled {
            let waits = workloads::step(store, &self.sick, &self.stuck, now);
            self.watch.look(store, now);
            self.settled = (!waits).then(|| store.version());
        } else {
            self.settled = Some(store.version()); // only leases were renewed
        }
    }

    /// The worker of this name.
    pub(super) fn worker(&mut self, name: &str) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.name() == name)
    }

    /// What `remove-node.yml` does, but for the programs whose names end like the survivors.
    pub(super) fn remove(&mut self, name: &str, survivors: &[&str]) -> io::Result<()> {
        if let Some(worker) = self.worker(name) {
            worker.machine.reset(survivors)?;
        }
        let store = &mut *self.api.store();
        store.remove("nodes", "", name); // its lease and its CSINode are the node's own
        Ok(())
    }

    /// What `scale.yml` does.
    pub(super) fn join(&mut self, name: &str, now: Timestamp) -> io::Result<()> {
        let api = self.api.clone();
        if let Some(worker) = self.worker(name) {
            worker.machine.make_worker()?;
            worker.joined = now;
            register(&mut api.store(), worker.fresh());
        }
        Ok(())
    }

    /// Whether pods start on a node from here on.
    pub(super) fn let_start(&mut self, node: &str, may: bool) {
        if may {
            self.stuck.remove(node);
        } else {
            self.stuck.insert(node.to_owned());
        }
        self.settled = None;
    }

    /// Whether one of its API servers listens there.
    pub(super) fn has_server(&self, address: &str) -> bool {
        self.servers.iter().any(|own| own == address)
    }

    /// Whether the worker is a Ready node with the new OS, and carries what it carried.
    pub(super) fn is_as_wished(&self, worker: &Worker) -> bool {
        let store = self.api.store();
        let node = store.get("nodes", "", worker.name());
        node.is_some_and(|node| {
            let before = &worker.before;
            let kept = |field: &str| {
                let all = before["metadata"][field].as_object();
                all.into_iter().flatten().all(|(key, value)| {
                    // What is under these domains belongs to the running system.
                    let system = ["kubernetes.io/", "projectcalico.org/", "rehull.dev/"];
                    system.iter().any(|domain| key.contains(domain))
                        || node["metadata"][field][key] == *value
                })
            };
            node["status"]["nodeInfo"]["osImage"] == self.target.pretty
                && is_on(node, "Ready")
                && kept("labels")
                && kept("annotations")
                && node["spec"]["unschedulable"].as_bool().unwrap_or(false)
                    == before["spec"]["unschedulable"].as_bool().unwrap_or(false)
        })
    }
}

impl Worker {
    pub(super) fn name(&self) -> &str {
        self.machine.name.as_str()
    }

    /// The Node that a new kubelet registers: the same hardware, and nothing of what people have
    /// put on it over the years.
    fn fresh(&self) -> Value {
        let (before, machine) = (&self.before, &self.machine);
        let labels = before["metadata"]["labels"].as_object().into_iter().flatten();
        let labels = labels.filter(|(key, _)| KUBELET_LABELS.contains(&key.as_str()));
        let labels: serde_json::Map<String, Value> =
            labels.map(|(key, value)| (key.clone(), value.clone())).collect();
        let status = &before["status"];
        let mut info = status["nodeInfo"].clone();
        info["osImage"] = json!(machine.os.pretty);
        info["kernelVersion"] = json!(machine.os.kernel);
        info["machineID"] = json!(machine.machine_id());
        info["bootID"] = json!(machine.boot_id());
        info["systemUUID"] = json!(machine.product_uuid());
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": self.name(), "labels": labels, "annotations": {
                "kubeadm.alpha.kubernetes.io/cri-socket": "unix:///run/containerd/containerd.sock",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            } },
            "spec": {},
            "status": {
                "capacity": status["capacity"], "allocatable": status["allocatable"],
                "nodeInfo": info, "addresses": status["addresses"],
                "conditions": [{ "type": "Ready", "status": "False" }],
            },
        })
    }
}

/// A Node and what belongs to it.
fn register(store: &mut Store, node: Value) {
    let name = text(&node["metadata"]["name"]);
    store.put(node);
    let owner = owner_of(store, &name);
    store.put(json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
        "metadata": { "name": name, "ownerReferences": [owner] }, "spec": { "drivers": [] },
    }));
}

fn renew_lease(store: &mut Store, node: &str, now: Timestamp) {
    let time = now.to_string().replace("Z", "000Z");
    let owner = owner_of(store, node);
    store.put(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": node, "namespace": "kube-node-lease", "ownerReferences": [owner],
        },
        "spec": { "holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": time },
    }));
}

fn owner_of(store: &Store, node: &str) -> Value {
    let uid = store.get("nodes", "", node).map(|object| &object["metadata"]["uid"]);
    json!({ "apiVersion": "v1", "kind": "Node", "name": node, "uid": uid })
}
