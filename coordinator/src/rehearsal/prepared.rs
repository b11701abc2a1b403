//! Clusters that are made up: what the demo and the tests rehearse.

use rehull_shared::text::sha256_hex;
use serde_json::{Value, json};

use super::{
    SECRETS,
    cluster::{CONTROL_PLANE, Original},
    machine::Os,
    world::{IMAGE, NAMESPACE},
};
use crate::{
    domain::plan::{ControlPlane, PlannedNode, Role},
    effects::EXPORTED,
};

/// The Kubernetes version of every cluster that is made up.
const KUBERNETES: &str = "v1.27.5";

/// DaemonSets of the system namespace.
const DAEMON_SETS: &[&str] = &["calico-node", "kube-proxy", "nodelocaldns"];

/// Parts of a control plane, each a static pod.
const STATIC_PODS: &[&str] =
    &["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// Deployments: namespace, name, replicas, and how many must stay available.
const DEPLOYMENTS: &[(&str, &str, u32, u32)] =
    &[("kube-system", "coredns", 2, 1), ("shop", "web", 6, 5), ("shop", "cart", 2, 1)];

/// How a cluster is laid out.
pub(super) struct Layout {
    pub(super) name: &'static str,
    pub(super) control_planes: u32,
    /// Whether they are migrated, too. If not, something stands before their API servers.
    pub(super) include: bool,
    pub(super) workers: u32,
    /// Third number of its addresses.
    pub(super) network: u32,
}

impl Layout {
    fn address(&self, number: u32) -> String {
        format!("10.20.{}.{number}", self.network)
    }

    fn control_planes(&self) -> Vec<(String, String)> {
        let all = 1..=self.control_planes;
        all.map(|n| (format!("{}-control{n}", self.name), self.address(10 + n))).collect()
    }

    fn workers(&self) -> Vec<(String, String)> {
        let all = 1..=self.workers;
        all.map(|n| (format!("{}-worker{n}", self.name), self.address(20 + n))).collect()
    }

    /// Where clients find the API.
    fn server(&self) -> String {
        format!("{}:6443", self.address(if self.include { 11 } else { 10 }))
    }

    /// The cluster, with everything that runs in it.
    pub(super) fn original(&self) -> Original {
        let parsed = |name: String| name.parse().expect("names of layouts are names");
        let planned = |role: Role| {
            move |(name, address): (String, String)| PlannedNode {
                name: parsed(name),
                address,
                canary: false,
                role,
            }
        };
        let mut nodes: Vec<_> = self.workers().into_iter().map(planned(Role::Worker)).collect();
        let plane = |(name, address): (String, String)| ControlPlane {
            name: parsed(name),
            api_server: format!("{address}:6443"),
            address,
        };
        let included = if self.include { self.control_planes() } else { Vec::new() };
        if let Some((first, others)) = included.split_first() {
            nodes.extend(others.iter().cloned().map(planned(Role::ControlPlane)));
            nodes.push(planned(Role::FirstControlPlane)(first.clone()));
        }
        let profile = |id: &str| {
            let profile = id.to_owned().try_into().expect("the profiles are rows");
            Os::of(&profile).expect("the profiles can be rehearsed")
        };
        Original {
            name: self.name.parse().expect("names of layouts are names"),
            document: document(self.name, self.include),
            nodes,
            control_planes: included.into_iter().map(plane).collect(),
            servers: self.control_planes().iter().map(|(_, ip)| format!("{ip}:6443")).collect(),
            systems: (profile("centos-7.9"), profile("ubuntu-22.04")),
            management: self.management(),
            workload: self.workload(),
        }
    }

    /// The management cluster as Kubean has left it.
    fn management(&self) -> Vec<Value> {
        let name = self.name;
        let server = format!("https://{}", self.server());
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "admin",
            "clusters": [{ "name": "c", "cluster": { "server": server } }],
            "contexts": [{ "name": "admin", "context": { "cluster": "c", "user": "u" } }],
            "users": [{ "name": "u", "user": { "token": SECRETS[2] } }],
        });
        let variables = format!("kube_version: {KUBERNETES}\nregistry_password: {}\n", SECRETS[1]);
        let reference =
            |what: &str| json!({ "name": format!("{name}-{what}"), "namespace": NAMESPACE });
        let mut objects: Vec<Value> = ["default", "kube-system", NAMESPACE].map(namespace).into();
        for (what, key, content) in [
            ("hosts-conf", "hosts.yml", self.inventory()),
            ("vars-conf", "group_vars.yml", variables),
            ("kubeconf", "config", kubeconfig.to_string()),
        ] {
            objects.push(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": reference(what),
                "data": { key: content },
            }));
        }
        objects.push(json!({
            "apiVersion": "kubean.io/v1alpha1", "kind": "Cluster", "metadata": { "name": name },
            "spec": {
                "hostsConfRef": reference("hosts-conf"), "varsConfRef": reference("vars-conf"),
                "kubeconfRef": reference("kubeconf"),
            },
        }));
        objects.push(json!({
            "apiVersion": "kubean.io/v1alpha1", "kind": "ClusterOperation",
            "metadata": { "name": format!("{name}-install"), "labels": { "clusterName": name } },
            "spec": {
                "cluster": name, "image": IMAGE, "actionType": "playbook",
                "action": "cluster.yml",
            },
            "status": { "status": "Succeeded" },
        }));
        objects
    }

    /// The inventory, as Kubean keeps it.
    fn inventory(&self) -> String {
        let (planes, workers) = (self.control_planes(), self.workers());
        let mut hosts = String::new();
        for (name, address) in planes.iter().chain(&workers) {
            hosts += &format!(
                "    {name}:\n      ip: {address}\n      access_ip: {address}\n      \
                 ansible_host: {address}\n      ansible_user: root\n      \
                 ansible_become_password: VAULT;{}\n",
                SECRETS[0]
            );
        }
        let group = |all: &[(String, String)]| -> String {
            all.iter().map(|(name, _)| format!("        {name}:\n")).collect()
        };
        let (planes, workers) = (group(&planes), group(&workers));
        format!(
            "all:\n  hosts:\n{hosts}  children:\n    kube_control_plane:\n      hosts:\n{planes}\
             \x20   kube_node:\n      hosts:\n{workers}    etcd:\n      hosts:\n{planes}    \
             k8s_cluster:\n      children:\n        kube_control_plane:\n        kube_node:\n"
        )
    }

    fn workload(&self) -> Vec<Value> {
        let mut objects: Vec<Value> =
            ["default", "kube-system", "kube-public", "kube-node-lease", "shop"]
                .map(namespace)
                .into();
        for (_, namespace, name) in EXPORTED {
            objects.push(json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": name, "namespace": namespace },
                "data": { "rehearsed": "yes" },
            }));
        }
        if self.include {
            objects.extend(self.leading());
        }
        for (name, address) in self.control_planes() {
            let mut node = node(&name, &address);
            node["metadata"]["labels"][CONTROL_PLANE] = json!("");
            node["spec"]["taints"] = json!([{ "key": CONTROL_PLANE, "effect": "NoSchedule" }]);
            objects.push(node);
            objects.extend(STATIC_PODS.iter().map(|part| static_pod(part, &name)));
        }
        for (number, (name, address)) in self.workers().iter().enumerate() {
            let mut node = node(name, address);
            // What people have put on it over the years; a fresh kubelet brings none of it.
            let zone = ["a", "b", "c"][number % 3];
            node["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!(zone);
            let tier = if number == 0 { "gold" } else { "silver" };
            node["metadata"]["labels"]["tier"] = json!(tier);
            node["metadata"]["annotations"]["example.com/owner"] = json!("team-shop");
            objects.push(node);
        }
        objects.extend(DAEMON_SETS.iter().map(|name| daemon_set(name)));
        for (namespace, name, replicas, available) in DEPLOYMENTS {
            objects.extend(self.deployment(namespace, name, *replicas, *available));
        }
        objects
    }

    /// What leads to its API servers.
    fn leading(&self) -> [Value; 4] {
        let server = self.server();
        let kubeconfig = |server: &str| {
            format!(
                "clusters:\n- cluster:\n    certificate-authority-data: \n    server: https://{server}\n  \
                 name: \"\"\nkind: Config\n"
            )
        };
        let config = format!("controlPlaneEndpoint: {server}\nkind: ClusterConfiguration\n");
        let map = |namespace: &str, name: &str, key: &str, text: String| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": name, "namespace": namespace }, "data": { key: text },
            })
        };
        [
            map("kube-public", "cluster-info", "kubeconfig", kubeconfig(&server)),
            map("kube-system", "kubeadm-config", "ClusterConfiguration", config),
            map("kube-system", "kube-proxy", "kubeconfig.conf", kubeconfig("localhost:6443")),
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": "kubernetes", "namespace": "default",
                    "labels": { "kubernetes.io/service-name": "kubernetes" },
                },
                "addressType": "IPv4", "endpoints": [],
            }),
        ]
    }

    fn deployment(&self, namespace: &str, name: &str, replicas: u32, available: u32) -> [Value; 3] {
        let selector = json!({ "matchLabels": { "k8s-app": name } });
        let uid = format!("{}-{namespace}-{name}", self.name);
        let template = template(namespace, name);
        let owner = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid,
            "controller": true,
        });
        let set = format!("{name}-7c9d8f6b5");
        [
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": { "name": name, "namespace": namespace, "uid": uid },
                "spec": { "replicas": replicas, "selector": selector, "template": template },
            }),
            json!({
                "apiVersion": "apps/v1", "kind": "ReplicaSet",
                "metadata": { "name": set, "namespace": namespace, "ownerReferences": [owner] },
                "spec": { "replicas": replicas, "selector": selector, "template": template },
            }),
            json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": { "name": name, "namespace": namespace, "generation": 1 },
                "spec": { "minAvailable": available, "selector": selector },
                "status": { "disruptionsAllowed": 0, "desiredHealthy": available },
            }),
        ]
    }
}

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name },
        "status": { "phase": "Active" },
    })
}

/// The mirror of a static pod.
fn static_pod(part: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{part}-{node}"), "namespace": "kube-system",
            "labels": { "component": part, "tier": "control-plane" },
            "annotations": { "kubernetes.io/config.mirror": "rehearsed" },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": node, "uid": node }],
        },
        "spec": {
            "nodeName": node,
            "containers": [{ "name": part, "image": format!("registry.example/{part}:1") }],
        },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

fn daemon_set(name: &str) -> Value {
    let selector = json!({ "matchLabels": { "k8s-app": name } });
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": { "name": name, "namespace": "kube-system" },
        "spec": { "selector": selector, "template": template("kube-system", name) },
    })
}

/// Only what the system brings tolerates the taint of control planes.
fn template(namespace: &str, app: &str) -> Value {
    let tolerations = match namespace {
        "kube-system" => json!([{ "key": "node-role.kubernetes.io/control-plane" }]),
        _ => json!([]),
    };
    json!({
        "metadata": { "labels": { "k8s-app": app } },
        "spec": {
            "tolerations": tolerations,
            "containers": [{
                "name": app, "image": format!("registry.example/{app}:1"),
                "resources": { "requests": { "cpu": "250m", "memory": "256Mi" } },
                "env": [{ "name": "DB_PASSWORD", "value": SECRETS[3] }],
            }],
        },
    })
}

fn node(name: &str, address: &str) -> Value {
    let room = json!({ "cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "180Gi" });
    let id = |what| sha256_hex(format!("{name}/{what}").as_bytes());
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
            "capacity": room, "allocatable": room,
            "nodeInfo": {
                "osImage": "CentOS Linux 7 (Core)", "kernelVersion": "3.10.0-1160.el7.x86_64",
                "kubeletVersion": KUBERNETES, "kubeProxyVersion": KUBERNETES,
                "containerRuntimeVersion": "containerd://1.7.1",
                "operatingSystem": "linux", "architecture": "amd64",
                "machineID": &id("m")[..32], "bootID": id("b"), "systemUUID": id("p"),
            },
            "addresses": [
                { "type": "InternalIP", "address": address },
                { "type": "Hostname", "address": name },
            ],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

/// The document of a rehearsed migration: production values throughout.
fn document(cluster: &str, include: bool) -> String {
    let control_planes = if include { "Include" } else { "Exclude" };
    format!(
        "apiVersion: rehull.dev/v1alpha1
kind: Migration
metadata:
  name: {cluster}
spec:
  cluster: {cluster}
  source: centos-7.9
  target: ubuntu-22.04
  operations:
    image: {IMAGE}
    kubernetesVersion: {KUBERNETES}
  controlPlanes: {control_planes}
  joinCanary: {{image: registry.example/busybox:1.36}}
  installer:
    command:
      program: /usr/local/sbin/reinstall
"
    )
}
