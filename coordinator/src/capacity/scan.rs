//! Which pods must leave a node, and what of them and on it is worth knowing (F10, F12, F19-F27).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    findings::{Finding, Object, What},
    labels::{Requirement, Test},
    model::{Model, NodeId, PodId},
    notes::Note,
    storage::VolumeId,
    symbols::Symbol,
    workloads::Key,
};

/// Label of every node with its own name.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Priority classes of what a cluster cannot do without.
const CRITICAL: [&str; 2] = ["system-cluster-critical", "system-node-critical"];

/// Where the pods are that answer DNS, and the label by which their Service finds them.
const DNS: (&str, &str, [&str; 2]) = ("kube-system", "k8s-app", ["kube-dns", "coredns"]);

/// The pods of nodes that are to be drained.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Must be placed elsewhere.
    pub(super) placed: Vec<PodId>,
    /// May run on these nodes only, and will wait until one is back.
    pub(super) pinned: Vec<(PodId, String)>,
    /// Are evicted: all of the above, and those that nobody makes anew.
    pub(super) evicted: Vec<PodId>,
}

impl Model {
    /// The pods that leave these nodes: not those of DaemonSets and of files on the host, which
    /// belong to it, nor those that are on their way and have been replaced already.
    pub(super) fn leaving(&self, nodes: &[NodeId]) -> Leaving {
        let mut leaving = Leaving::default();
        let pods = nodes.iter().flat_map(|node| &self.index.pods_of_node[*node]);
        for id in pods.copied() {
            let pod = &self.pods[id];
            if pod.stays {
                continue;
            }
            if !pod.is_going {
                leaving.evicted.push(id);
            }
            let Some(owner) = pod.owner else { continue };
            // A ReplicaSet makes a new pod as soon as the old one is on its way.
            if pod.is_going && self.text(owner.0) == "ReplicaSet" {
                continue;
            }
            match self.pinned(id, nodes) {
                Some(by) => leaving.pinned.push((id, by)),
                None => leaving.placed.push(id),
            }
        }
        leaving
    }

    /// Everything about these nodes but whether the pods fit elsewhere and may be evicted.
    pub(super) fn scan(&self, nodes: &[NodeId], leaving: &Leaving) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (pod, by) in &leaving.pinned {
            findings.push(self.finding(*pod, What::Pinned { by: by.clone() }));
        }
        let pinned = leaving.pinned.iter().map(|(pod, _)| pod);
        for pod in leaving.placed.iter().chain(pinned) {
            let class = &self.classes[self.pods[*pod].class];
            if class.tolerations.iter().any(|one| one.bears(&self.cordon)) {
                findings.push(self.finding(*pod, What::MayComeBack));
            }
        }
        for pod in &leaving.evicted {
            if self.pods[*pod].owner.is_none() {
                findings.push(self.finding(*pod, What::Bare));
            }
        }
        findings.extend(self.workloads_of(leaving));
        findings.extend(self.dns(nodes));
        findings.extend(self.local_volumes(nodes));
        let pods = nodes.iter().flat_map(|node| &self.index.pods_of_node[*node]);
        findings.extend(pods.flat_map(|pod| self.noted(*pod)));
        findings
    }

    /// What says that a pod may run on these nodes only.
    fn pinned(&self, id: PodId, nodes: &[NodeId]) -> Option<String> {
        let pod = &self.pods[id];
        let is_here = |name: Symbol| nodes.iter().any(|node| self.nodes[*node].name == name);
        let workload = self.workloads.get(pod.owner?);
        if let Some(node) = workload.and_then(|workload| workload.node) {
            return is_here(node).then(|| format!("its template names node {}", self.text(node)));
        }
        let class = &self.classes[pod.class];
        let hostname = self.symbols.find(HOSTNAME);
        let label = |node: NodeId| hostname.and_then(|key| self.nodes[node].labels.get(key));
        let only_here = |one: &Requirement| match &one.test {
            Test::In(values) if Some(one.key) == hostname => {
                values.iter().all(|value| nodes.iter().any(|node| label(*node) == Some(*value)))
            }
            _ => false,
        };
        let named_here = |test: &Test| match test {
            Test::In(names) => names.iter().all(|name| is_here(*name)),
            _ => false,
        };
        if class.node_labels.iter().any(only_here) {
            return Some(format!("its node selector asks for {HOSTNAME}"));
        }
        let terms = class.node_terms.as_deref().filter(|terms| !terms.is_empty())?;
        terms
            .iter()
            .all(|term| term.labels.iter().any(only_here) || term.name.iter().any(named_here))
            .then(|| "its node affinity asks for its name".to_owned())
    }

    /// Workloads that are away while their pods move, and pods that the cluster cannot do without.
    fn workloads_of(&self, leaving: &Leaving) -> Vec<Finding> {
        let mut here: BTreeMap<Key, Vec<PodId>> = BTreeMap::new();
        let mut findings = Vec::new();
        for pod in &leaving.evicted {
            if let Some(owner) = self.pods[*pod].owner {
                here.entry(self.workloads.root(owner)).or_default().push(*pod);
            }
        }
        for (root, pods) in here {
            let critical = pods.iter().find_map(|pod| self.critical(*pod));
            let kind = self.text(root.0);
            let serves = matches!(kind, "Deployment" | "StatefulSet" | "ReplicaSet");
            let all = self.index.pods_of_root.get(&root).into_iter().flatten();
            let all = all.filter(|pod| !self.pods[**pod].is_going).count();
            let wanted = self.workloads.get(root).map(|workload| workload.replicas);
            let about = || self.workload_object(root);
            if serves && (wanted == Some(1) || (wanted.is_none() && all == 1)) {
                let what = What::SingleReplica { critical };
                findings.push(Finding { about: about(), what });
            } else if serves && pods.len() >= all {
                let what = What::AllReplicasHere { pods: pods.len() };
                findings.push(Finding { about: about(), what });
            } else if let Some(class) = critical {
                let what = |_| What::Critical { class: class.clone() };
                findings.extend(pods.iter().map(|pod| self.finding(*pod, what(pod))));
            }
        }
        findings
    }

    /// The system's priority class of a pod.
    fn critical(&self, pod: PodId) -> Option<String> {
        let name = self.text(self.classes[self.pods[pod].class].priority_class?);
        CRITICAL.contains(&name).then(|| name.to_owned())
    }

    /// Two Ready pods must answer DNS, and one of them elsewhere.
    fn dns(&self, nodes: &[NodeId]) -> Option<Finding> {
        let (namespace, key, values) = DNS;
        let (in_namespace, key) = (self.symbols.find(namespace)?, self.symbols.find(key)?);
        let values = values.map(|value| self.symbols.find(value));
        let answers = |pod: PodId| {
            let pod = &self.pods[pod];
            let label = self.classes[pod.class].labels.get(key);
            pod.namespace == in_namespace && label.is_some() && values.contains(&label)
        };
        // A daemon on each node is no help to the others.
        let pods: Vec<PodId> =
            (0..self.pods.len()).filter(|pod| !self.pods[*pod].stays && answers(*pod)).collect();
        if pods.is_empty() {
            return None; // its DNS is another, which nobody here knows
        }
        let ready = pods.iter().map(|pod| &self.pods[*pod]);
        let ready: Vec<NodeId> =
            ready.filter(|pod| pod.is_ready && !pod.is_going).filter_map(|pod| pod.node).collect();
        let elsewhere: Vec<NodeId> =
            ready.iter().copied().filter(|node| !nodes.contains(node)).collect();
        let distinct: BTreeSet<NodeId> = elsewhere.iter().copied().collect();
        let what = if ready.len() < 2 || elsewhere.is_empty() {
            What::DnsAtRisk { ready: ready.len(), elsewhere: elsewhere.len() }
        } else if elsewhere.len() == ready.len() && distinct.len() == 1 {
            What::DnsOnOneNode { node: self.text(self.nodes[elsewhere[0]].name).to_owned() }
        } else {
            return None;
        };
        let about = match self.pods[pods[0]].owner {
            Some(owner) => self.workload_object(self.workloads.root(owner)),
            None => self.pod_object(pods[0]),
        };
        Some(Finding { about, what })
    }

    /// Volumes on the disks of these nodes: those that no other node can have, mounted or not, and
    /// directories of hosts that a pod here has mounted.
    fn local_volumes(&self, nodes: &[NodeId]) -> Vec<Finding> {
        let pods = nodes.iter().flat_map(|node| &self.index.pods_of_node[*node]);
        let mounted: BTreeSet<VolumeId> =
            pods.flat_map(|pod| &self.mounts[self.pods[*pod].class].volumes).copied().collect();
        let is_here = |id: VolumeId| {
            let volume = &self.storage.volumes[id];
            match volume.terms.as_deref() {
                Some(terms) => {
                    let mut others = (0..self.nodes.len()).filter(|node| !nodes.contains(node));
                    nodes.iter().any(|node| self.has_labels(terms, *node))
                        && !others.any(|node| self.has_labels(terms, node))
                }
                None => volume.is_local && mounted.contains(&id),
            }
        };
        let here = (0..self.storage.volumes.len()).filter(|id| is_here(*id));
        let finding = |id: VolumeId| {
            let volume = &self.storage.volumes[id];
            let about = Object {
                kind: "PersistentVolume".to_owned(),
                namespace: String::new(),
                name: self.text(volume.name).to_owned(),
                uid: volume.uid.clone().into(),
            };
            let claim = volume.claim.map(|(namespace, name)| self.full_name(namespace, name));
            Finding { about, what: What::LocalVolume { claim } }
        };
        here.map(finding).collect()
    }

    /// What was noted of a pod.
    fn noted(&self, pod: PodId) -> Vec<Finding> {
        let notes = self.notes.get(&pod).into_iter().flatten();
        let what = notes.map(|note| match note {
            Note::EmptyDir(volumes) => What::EmptyDir { volumes: volumes.clone() },
            Note::HostPath { path, only_reads } => {
                What::HostPath { path: path.clone(), only_reads: *only_reads }
            }
            Note::Storage(of) => What::StorageDaemon { of },
            Note::Unforeseeable(why) => What::Unforeseeable { why: why.clone() },
            Note::Static => What::StaticPod,
        });
        what.map(|what| self.finding(pod, what)).collect()
    }
}
