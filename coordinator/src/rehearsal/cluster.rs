//! A simulated workload cluster: the objects of an original, its nodes on hosts, and what kubespray
//! does to them.

use std::{collections::BTreeSet, io, path::Path};

use rehull_shared::{
    ids::ClusterName,
    time::{Span, Timestamp},
};
use serde_json::{Value, json};

use super::{
    api::{Api, store::Store},
    control_planes::{ControlPlanes, trust},
    machine::{Machine, Os},
    watch::Watch,
    workloads::{self, is_on, text},
};
use crate::domain::plan::{ControlPlane, PlannedNode};

/// How long a kubelet takes from its start until its node is Ready.
const NODE_START: Span = Span::from_secs(20);

/// The label of control planes, and the taint that kubeadm gives them.
pub(super) const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

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
    /// The nodes that migrate. Their hosts are played.
    pub(super) nodes: Vec<PlannedNode>,
    /// Every control plane, if they migrate.
    pub(super) control_planes: Vec<ControlPlane>,
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
    /// The hosts of its nodes that migrate.
    pub(super) hosts: Vec<Host>,
    pub(super) control_planes: ControlPlanes,
    /// What its clients may have noticed.
    pub(super) watch: Watch,
    /// Nodes on which no pod starts.
    stuck: BTreeSet<String>,
    /// Nodes that nobody touches, and that were Ready.
    others: Vec<String>,
    /// Pods that were not well before: nothing in a rehearsal heals them.
    sick: BTreeSet<String>,
    /// The version behind which nothing has changed but time.
    settled: Option<String>,
}

/// A node that migrates: its host, its Node as it was, the mirrors of its static pods, and since when
/// its kubelet is there.
pub(super) struct Host {
    pub(super) machine: Machine,
    before: Value,
    mirrors: Vec<Value>,
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
        let Original { name, nodes, control_planes, servers, systems, workload, .. } = original;
        let (source, target) = systems;
        api.store().adopt(workload);
        trust(&mut api.store(), certificate);
        let seed = format!("{seed}/{name}");
        let control_planes = ControlPlanes::new(control_planes, servers, &seed);
        let mut all = Vec::new();
        for node in nodes {
            let before = api.store().get("nodes", "", node.name.as_str()).cloned();
            let missing = || io::Error::other(format!("{name} has no Node {}", node.name));
            let before = before.ok_or_else(missing)?;
            let mirrors = mirrors(&api.store(), node.name.as_str());
            let root = hosts.join(node.name.as_str());
            let etcd = node.role.is_control_plane().then(|| control_planes.etcd.clone());
            // One that was migrated before is what it is.
            let image = text(&before["status"]["nodeInfo"]["osImage"]);
            let os = if target.is_shown_by(&image) { target } else { source };
            let mut machine = Machine::new(&root, &seed, node, certificate.to_owned(), etcd, os)?;
            machine.make_node()?;
            all.push(Host { machine, before, mirrors, joined: now });
        }
        let hosts = all;
        let (others, sick) = {
            let store = &*api.store();
            let ours =
                |node: &Value| hosts.iter().any(|host| node["metadata"]["name"] == *host.name());
            let others = store.list("nodes").filter(|node| is_on(node, "Ready") && !ours(node));
            let sick = store.list("pods").filter(|pod| !is_on(pod, "Ready"));
            (
                others.map(|node| text(&node["metadata"]["name"])).collect(),
                sick.map(|pod| text(&pod["metadata"]["uid"])).collect(),
            )
        };
        let (watch, stuck, settled) = (Watch::default(), BTreeSet::new(), None);
        let mut site =
            Self { name, api, target, hosts, control_planes, watch, stuck, others, sick, settled };
        // A cluster that has run for a while: what is to be there is there, and up.
        site.step(now)?;
        site.step(now + Span::from_secs(30))?;
        site.step(now + Span::from_secs(30))?;
        site.watch = Watch::default();
        Ok(site)
    }

    /// Lets kubelets and controllers move.
    pub(super) fn step(&mut self, now: Timestamp) -> io::Result<()> {
        let api = self.api.clone();
        let store = &mut *api.store();
        for host in &mut self.hosts {
            host.machine.settle();
            host.machine.start_static_pods()?;
        }
        self.control_planes.step(self.hosts.iter().map(|host| &host.machine), store, now);
        let untouched = self.settled.as_ref() == Some(&store.version());
        let mut settled = untouched;
        for name in &self.others {
            renew_lease(store, name, now);
        }
        for host in &self.hosts {
            let name = host.name();
            let Some(node) = store.get("nodes", "", name).cloned() else { continue };
            if !host.reports() {
                settled &= !is_on(&node, "Ready"); // its lease will be too old
                continue; // a kubelet whose node was deleted registers only when it starts again
            }
            renew_lease(store, name, now);
            let ready = is_on(&node, "Ready");
            settled &= ready;
            // One that was down before the rehearsal stays so until it is made anew.
            let old = node["metadata"]["uid"] == host.before["metadata"]["uid"];
            let well = !old || is_on(&host.before, "Ready");
            if !ready && well && host.joined + NODE_START <= now {
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
        Ok(())
    }

    /// The host of this name.
    pub(super) fn host(&mut self, name: &str) -> Option<&mut Host> {
        self.hosts.iter_mut().find(|host| host.name() == name)
    }

    /// What `remove-node.yml` does, but for the programs whose names end like the survivors, and but
    /// for its member of etcd if that outlives it.
    pub(super) fn remove(
        &mut self,
        name: &str,
        survivors: &[&str],
        member_stays: bool,
    ) -> io::Result<()> {
        if let Some(host) = self.host(name) {
            host.machine.reset(survivors)?;
            let address = host.machine.address.clone();
            if !member_stays {
                self.control_planes.leave(&address);
            }
        }
        let store = &mut *self.api.store();
        store.remove("nodes", "", name); // its lease and its CSINode are the node's own
        Ok(())
    }

    /// What `scale.yml` does, and `cluster.yml` to a control plane.
    pub(super) fn join(&mut self, name: &str, now: Timestamp) -> io::Result<()> {
        let api = self.api.clone();
        let Some(host) = self.host(name) else { return Ok(()) };
        host.machine.make_node()?;
        host.joined = now;
        register(&mut api.store(), host.fresh(), &host.mirrors);
        if host.machine.is_control_plane() {
            let address = host.machine.address.clone();
            self.control_planes.enter(&address);
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

    /// Whether the host is a Ready node with the new OS, and carries what it carried.
    pub(super) fn is_as_wished(&self, host: &Host) -> bool {
        let store = self.api.store();
        let node = store.get("nodes", "", host.name());
        node.is_some_and(|node| {
            let before = &host.before;
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

impl Host {
    pub(super) fn name(&self) -> &str {
        self.machine.name.as_str()
    }

    /// Whether its kubelet runs and is heard: on a control plane it asks the API server beside it.
    fn reports(&self) -> bool {
        let machine = &self.machine;
        machine.has_kubelet() && (!machine.is_control_plane() || machine.runs("/kube-apiserver"))
    }

    /// The Node that a new kubelet registers: the same hardware, and nothing of what people have
    /// put on it over the years.
    fn fresh(&self) -> Value {
        let (before, machine) = (&self.before, &self.machine);
        let labels = before["metadata"]["labels"].as_object().into_iter().flatten();
        let labels = labels.filter(|(key, _)| KUBELET_LABELS.contains(&key.as_str()));
        let mut labels: serde_json::Map<String, Value> =
            labels.map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut spec = json!({});
        if machine.is_control_plane() {
            labels.insert(CONTROL_PLANE.to_owned(), json!(""));
            spec["taints"] = json!([{ "key": CONTROL_PLANE, "effect": "NoSchedule" }]);
        }
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
            "spec": spec,
            "status": {
                "capacity": status["capacity"], "allocatable": status["allocatable"],
                "nodeInfo": info, "addresses": status["addresses"],
                "conditions": [{ "type": "Ready", "status": "False" }],
            },
        })
    }
}

/// The mirrors of the static pods of a node.
fn mirrors(store: &Store, node: &str) -> Vec<Value> {
    let is_mirror = |pod: &&Value| {
        pod["spec"]["nodeName"] == node
            && !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null()
    };
    store.list("pods").filter(is_mirror).cloned().collect()
}

/// A Node and what belongs to it.
fn register(store: &mut Store, node: Value, mirrors: &[Value]) {
    let name = text(&node["metadata"]["name"]);
    store.put(node);
    let owner = owner_of(store, &name);
    for mirror in mirrors {
        let mut pod = mirror.clone();
        pod["metadata"]["ownerReferences"] = json!([owner]);
        pod["status"] = json!({ "phase": "Pending" });
        store.put(pod);
    }
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
