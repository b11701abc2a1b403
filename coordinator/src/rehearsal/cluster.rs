//! A simulated workload cluster: control planes, workers on hosts, what kubespray does to them.

use std::{io, path::Path};

use rehull_shared::{
    ids::{ClusterName, NodeName},
    time::{Span, Timestamp},
};
use serde_json::{Value, json};

use super::{
    SECRETS,
    api::{Api, kubernetes_time, store::Store},
    machine::{Machine, Os},
    workloads,
};

/// The Kubernetes version of every rehearsed cluster.
pub(super) const KUBERNETES: &str = "v1.27.5";

/// How long a kubelet takes from its start until its node is Ready.
const NODE_START: Span = Span::from_secs(20);

/// How a cluster is laid out.
pub(super) struct Layout {
    pub(super) name: &'static str,
    pub(super) control_planes: u32,
    pub(super) workers: u32,
    /// Third number of its addresses.
    pub(super) network: u32,
}

/// A workload cluster.
pub(super) struct Site {
    pub(super) name: ClusterName,
    pub(super) api: Api,
    pub(super) network: u32,
    pub(super) control_planes: Vec<(String, String)>,
    pub(super) workers: Vec<Worker>,
}

/// A worker: its host, and since when its kubelet is there.
pub(super) struct Worker {
    pub(super) machine: Machine,
    joined: Timestamp,
}

impl Site {
    /// A cluster with everything that runs in it.
    pub(super) fn new(
        layout: &Layout,
        seed: &str,
        api: Api,
        hosts: &Path,
        certificate: &str,
        now: Timestamp,
    ) -> io::Result<Self> {
        let address = |number: u32| format!("10.20.{}.{number}", layout.network);
        let control_planes: Vec<(String, String)> = (1..=layout.control_planes)
            .map(|number| (format!("{}-control{number}", layout.name), address(10 + number)))
            .collect();
        let mut workers = Vec::new();
        for number in 1..=layout.workers {
            let name = format!("{}-worker{number}", layout.name);
            let root = hosts.join(&name);
            let seed = format!("{seed}/{}", layout.name);
            let name: NodeName = name.parse().map_err(io::Error::other)?;
            let at = address(20 + number);
            let mut machine = Machine::new(&root, &seed, name, at, certificate.to_owned())?;
            machine.make_worker()?;
            workers.push(Worker { machine, joined: now });
        }
        let name = layout.name.parse().map_err(io::Error::other)?;
        let network = layout.network;
        let mut site = Self { name, api, network, control_planes, workers };
        site.furnish(now);
        Ok(site)
    }

    fn furnish(&mut self, now: Timestamp) {
        let api = self.api.clone();
        let store = &mut *api.store();
        for name in ["default", "kube-system", "kube-public", "kube-node-lease", "shop"] {
            store.put(json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name },
                "status": { "phase": "Active" },
            }));
        }
        for (namespace, name) in
            [("kube-system", "kubeadm-config"), ("kube-public", "cluster-info")]
        {
            store.put(json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": name, "namespace": namespace },
                "data": { "rehearsed": "yes" },
            }));
        }
        for (name, address) in &self.control_planes {
            let mut node = control_plane(name, address);
            ready_at_once(&mut node, now);
            store.put(node);
            renew_lease(store, name, now);
        }
        for (number, worker) in self.workers.iter().enumerate() {
            let mut node = node_of(&worker.machine);
            give_character(&mut node, number);
            ready_at_once(&mut node, now);
            register(store, node);
            renew_lease(store, worker.machine.name.as_str(), now);
        }
        workloads::install(store);
        // A cluster that has run for a while: every pod is up.
        workloads::step(store, now);
        workloads::step(store, now + Span::from_secs(30));
    }

    /// Lets kubelets and controllers move.
    pub(super) fn step(&mut self, now: Timestamp) {
        let api = self.api.clone();
        let store = &mut *api.store();
        for (name, _) in &self.control_planes {
            renew_lease(store, name, now);
            workloads::set_ready(store, name, "True", now);
        }
        for worker in &mut self.workers {
            worker.machine.settle();
            let name = worker.machine.name.as_str();
            if !worker.machine.has_kubelet() || store.get("nodes", "", name).is_none() {
                continue; // a kubelet whose node was deleted registers only when it starts again
            }
            renew_lease(store, name, now);
            if worker.joined + NODE_START <= now {
                workloads::set_ready(store, name, "True", now);
            }
        }
        workloads::step(store, now);
    }

    /// The worker of this name.
    pub(super) fn worker(&mut self, name: &str) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.machine.name.as_str() == name)
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
            register(&mut api.store(), node_of(&worker.machine));
        }
        Ok(())
    }

    /// Addresses of all its API servers.
    pub(super) fn has_server(&self, address: &str) -> bool {
        self.control_planes.iter().any(|(_, own)| format!("{own}:6443") == address)
    }

    /// The inventory, as Kubean keeps it.
    pub(super) fn inventory(&self) -> String {
        let mut hosts = String::new();
        let workers = self.workers.iter().map(|w| (w.machine.name.as_str(), &w.machine.address));
        let planes = self.control_planes.iter().map(|(name, address)| (name.as_str(), address));
        for (name, address) in planes.clone().chain(workers.clone()) {
            hosts += &format!(
                "    {name}:\n      ip: {address}\n      access_ip: {address}\n      \
                 ansible_host: {address}\n      ansible_user: root\n      \
                 ansible_become_password: VAULT;{}\n",
                SECRETS[0]
            );
        }
        let group = |names: &mut dyn Iterator<Item = &str>| -> String {
            names.map(|name| format!("        {name}:\n")).collect()
        };
        let planes = group(&mut planes.map(|(name, _)| name));
        let workers = group(&mut workers.map(|(name, _)| name));
        format!(
            "all:\n  hosts:\n{hosts}  children:\n    kube_control_plane:\n      hosts:\n{planes}\
             \x20   kube_node:\n      hosts:\n{workers}    etcd:\n      hosts:\n{planes}    \
             k8s_cluster:\n      children:\n        kube_control_plane:\n        kube_node:\n"
        )
    }
}

/// A Node and what belongs to it.
fn register(store: &mut Store, node: Value) {
    let name = workloads::text(&node["metadata"]["name"]);
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

fn ready_at_once(node: &mut Value, now: Timestamp) {
    node["status"]["conditions"] = json!([{
        "type": "Ready", "status": "True", "lastTransitionTime": kubernetes_time(now),
    }]);
}

fn node_of(machine: &Machine) -> Value {
    let info = info(machine.os, &machine.machine_id(), &machine.boot_id(), &machine.product_uuid());
    node(machine.name.as_str(), &machine.address, info)
}

fn control_plane(name: &str, address: &str) -> Value {
    let id = |what| rehull_shared::text::sha256_hex(format!("{name}/{what}").as_bytes());
    let mut node =
        node(name, address, info(&super::machine::OLD, &id("m")[..32], &id("b"), &id("p")));
    node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = json!("");
    node["spec"]["taints"] =
        json!([{ "key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule" }]);
    node
}

/// What people have put on a node over the years; a fresh kubelet brings none of it.
fn give_character(node: &mut Value, number: usize) {
    let zone = ["a", "b", "c"][number % 3];
    node["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!(zone);
    node["metadata"]["labels"]["tier"] = json!(if number == 0 { "gold" } else { "silver" });
    node["metadata"]["annotations"]["example.com/owner"] = json!("team-shop");
}

fn node(name: &str, address: &str, info: Value) -> Value {
    let room = json!({ "cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "180Gi" });
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
                "beta.kubernetes.io/arch": "amd64",
            },
            "annotations": {
                "kubeadm.alpha.kubernetes.io/cri-socket": "unix:///run/containerd/containerd.sock",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
        },
        "spec": {},
        "status": {
            "capacity": room, "allocatable": room, "nodeInfo": info,
            "addresses": [
                { "type": "InternalIP", "address": address },
                { "type": "Hostname", "address": name },
            ],
            "conditions": [{ "type": "Ready", "status": "False" }],
        },
    })
}

fn info(os: &Os, machine_id: &str, boot_id: &str, system_uuid: &str) -> Value {
    json!({
        "osImage": os.pretty, "kernelVersion": os.kernel, "kubeletVersion": KUBERNETES,
        "kubeProxyVersion": KUBERNETES, "containerRuntimeVersion": "containerd://1.7.1",
        "operatingSystem": "linux", "architecture": "amd64",
        "machineID": machine_id, "bootID": boot_id, "systemUUID": system_uuid,
    })
}
