//! How faults strike, and how what people do about them works.

use std::io;

use serde_json::{Value, json};

use super::{Chore, World};
use crate::{
    domain::gate::Gate,
    inventory,
    kubean::INVENTORY_KEY,
    rehearsal::{
        api::store::Store,
        faults::Fault,
        person::Remedy,
        workloads::{key, lives, text},
    },
};

impl World {
    /// Lets a fault strike a node, if one of these waits for it; the first one in their order.
    pub(in crate::rehearsal) fn strike(&mut self, node: &str, which: &[Fault]) -> Option<Fault> {
        let waits = |fault: &&Fault| self.pending.contains(&(node.to_owned(), **fault));
        let fault = which.iter().find(waits).copied()?;
        self.pending.remove(&(node.to_owned(), fault));
        self.struck.insert((node.to_owned(), fault));
        Some(fault)
    }

    /// A node has its turn: it is asked whether it may be touched.
    pub(in crate::rehearsal) fn meet_turn(&mut self, cluster: &str, node: &str) {
        if self.strike(node, &[Fault::AgentLost]).is_some() {
            let (cluster, node) = (cluster.to_owned(), node.to_owned());
            self.chores.push(Chore::Stop { cluster, node });
        }
        let waits = self.pending.contains(&(node.to_owned(), Fault::BudgetAtZero));
        if waits && let Some(budget) = self.raise_budget(cluster, node) {
            self.strike(node, &[Fault::BudgetAtZero]);
            self.marks.insert((node.to_owned(), Fault::BudgetAtZero), budget);
        }
    }

    /// A control plane is asked whether it may go on through a gate.
    pub(in crate::rehearsal) fn meet_gate(&mut self, cluster: &str, node: &str, gate: Gate) {
        let fault = match gate {
            Gate::Reordered => Fault::OrderPutBack,
            Gate::Withdraw => Fault::AddressStays,
            Gate::JoinAdmission => Fault::SecondAils,
            _ => return,
        };
        if self.strike(node, &[fault]).is_none() {
            return;
        }
        match fault {
            Fault::OrderPutBack => self.put_order_back(cluster),
            Fault::AddressStays => {
                let Some(site) = self.site(cluster) else { return };
                site.control_planes.stale =
                    site.host(node).map(|host| host.machine.address.clone());
            }
            _ => {
                let Some(site) = self.site(cluster) else { return };
                if let Some(member) = site.control_planes.etcd.state().members.first_mut() {
                    member.errors = vec!["etcdserver: mvcc: database space exceeded".to_owned()];
                }
            }
        }
    }

    /// A playbook makes what it should have taken from the other control planes.
    pub(in crate::rehearsal) fn meet_authorities(
        &mut self,
        cluster: &str,
        node: &str,
    ) -> io::Result<()> {
        if self.strike(node, &[Fault::NewAuthority]).is_none() {
            return Ok(());
        }
        let stranger = self.stranger.clone();
        let host = self.site(cluster).and_then(|site| site.host(node));
        host.map_or(Ok(()), |host| host.machine.put_authorities(Some(&stranger)))
    }

    /// What was kept of the inventory as it was, takes the place of what it is.
    fn put_order_back(&mut self, cluster: &str) {
        let store = &mut *self.management.store();
        let (namespace, name) = inventory_of(store, cluster);
        let kept = format!("{name}-before-");
        let before = store
            .list("configmaps")
            .find(|map| text(&map["metadata"]["name"]).starts_with(&kept))
            .map(|map| map["data"].clone());
        if let Some(data) = before {
            store.edit("configmaps", &namespace, &name, |map| map["data"] = data);
        }
    }

    /// Puts a node last in the inventory of its cluster.
    fn reorder(&mut self, cluster: &str, node: &str) {
        let store = &mut *self.management.store();
        let (namespace, name) = inventory_of(store, cluster);
        let Ok(node) = node.parse() else { return };
        store.edit("configmaps", &namespace, &name, |map| {
            let before = text(&map["data"][INVENTORY_KEY]);
            if let Ok(edited) = inventory::with_last(&before, &node) {
                map["data"][INVENTORY_KEY] = json!(edited);
            }
        });
    }

    /// Somebody asks for as many pods as there are, of a workload on the node.
    fn raise_budget(&mut self, cluster: &str, node: &str) -> Option<(String, String)> {
        let api = self.site(cluster)?.api.clone();
        let store = &mut *api.store();
        let here = |budget: &&Value| {
            let selector = &budget["spec"]["selector"];
            let mut pods = store.list("pods").filter(|pod| pod["spec"]["nodeName"] == node);
            // DNS has rules of its own, which would speak first.
            budget["metadata"]["namespace"] != "kube-system"
                && pods.any(|pod| {
                    lives(pod)
                        && pod["metadata"]["namespace"] == budget["metadata"]["namespace"]
                        && super::super::api::selects(selector, pod)
                })
        };
        let (namespace, name) = key(store.list("poddisruptionbudgets").find(here)?);
        store.edit("poddisruptionbudgets", &namespace, &name, |budget| {
            let expected = budget["status"]["expectedPods"].clone();
            if let Some(spec) = budget["spec"].as_object_mut() {
                spec.remove("maxUnavailable");
            }
            budget["spec"]["minAvailable"] = expected;
        });
        Some((namespace, name))
    }

    /// Lets those strike that wait until a node is cordoned.
    pub(super) fn meet_cordons(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut cordoned = Vec::new();
        for site in &self.sites {
            let store = site.api.store();
            let nodes = site.hosts.iter().map(|host| host.name());
            let nodes = nodes.filter(|node| {
                let node = store.get("nodes", "", node);
                node.is_some_and(|node| {
                    // One that was so before has not been touched by us.
                    !node["metadata"]["annotations"]["rehull.dev/cordoned-by"].is_null()
                })
            });
            cordoned.extend(nodes.map(|node| (site.name.to_string(), node.to_owned())));
        }
        for (cluster, node) in cordoned {
            if self.strike(&node, &[Fault::VolumeAttached]).is_some() {
                self.attach(&cluster, &node);
            }
            if self.strike(&node, &[Fault::ForeignOperation]).is_some() {
                self.begin_foreign(&cluster, &node);
            }
        }
    }

    fn attach(&mut self, cluster: &str, node: &str) {
        let name = format!("csi-{node}");
        if let Some(site) = self.site(cluster) {
            site.api.store().put(json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
                "metadata": { "name": name },
                "spec": {
                    "attacher": "csi.example.com", "nodeName": node,
                    "source": { "persistentVolumeName": format!("pvc-of-{node}") },
                },
                "status": { "attached": true },
            }));
        }
        self.marks.insert((node.to_owned(), Fault::VolumeAttached), (String::new(), name));
    }

    fn begin_foreign(&mut self, cluster: &str, node: &str) {
        let name = foreign(cluster);
        self.management.store().put(json!({
            "apiVersion": "kubean.io/v1alpha1", "kind": "ClusterOperation",
            "metadata": { "name": name, "labels": { "clusterName": cluster } },
            "spec": {
                "cluster": cluster, "image": "", "actionType": "playbook",
                "action": "cluster-info.yml",
            },
            "status": { "status": "Running" },
        }));
        self.marks.insert((node.to_owned(), Fault::ForeignOperation), (String::new(), name));
    }

    /// Does in the world what a person does. False if there is nothing that it could mend: what is
    /// wrong was wrong before.
    pub(in crate::rehearsal) fn mend(
        &mut self,
        cluster: &str,
        node: &str,
        remedy: Remedy,
    ) -> io::Result<bool> {
        let fault = match remedy {
            // These ask the real parts for another attempt, or for another look.
            Remedy::Resubmit
            | Remedy::FixInstaller
            | Remedy::Retry
            | Remedy::Accept
            | Remedy::Abort => return Ok(true),
            Remedy::WakeOperator => Fault::OperatorDown,
            Remedy::GiveAddressBack => Fault::MovedAddress,
            Remedy::StopKubelet => Fault::SurvivingKubelet,
            Remedy::DetachVolume => Fault::VolumeAttached,
            Remedy::ScaleUp => Fault::BudgetAtZero,
            Remedy::EndForeign => Fault::ForeignOperation,
            Remedy::StartPods => Fault::PodsDoNotStart,
            Remedy::StartAgent => Fault::AgentLost,
            Remedy::ReorderAgain => Fault::OrderPutBack,
            Remedy::DropAddress => Fault::AddressStays,
            Remedy::HealMember => Fault::SecondAils,
            Remedy::RestoreAuthorities => Fault::NewAuthority,
        };
        let mut at = (node.to_owned(), fault);
        if fault == Fault::ForeignOperation {
            // Whoever it struck, every node of the cluster meets it.
            let ours = (String::new(), foreign(cluster));
            let found = self.marks.iter().find(|(_, mark)| **mark == ours);
            at = found.map_or(at, |(found, _)| found.clone());
        }
        if !self.struck.contains(&at) {
            return Ok(false);
        }
        let (namespace, name) = self.marks.remove(&at).unwrap_or_default();
        self.operator.sleeps_over.remove(node);
        if fault == Fault::ForeignOperation {
            self.management.store().remove("clusteroperations", "", &name);
        }
        if fault == Fault::AgentLost {
            let (cluster, node) = (cluster.to_owned(), node.to_owned());
            self.chores.push(Chore::Restart { cluster, node });
        }
        if fault == Fault::OrderPutBack {
            self.reorder(cluster, node);
        }
        let Some(site) = self.site(cluster) else { return Ok(false) };
        match fault {
            Fault::AddressStays => site.control_planes.stale = None,
            Fault::SecondAils => {
                let mut etcd = site.control_planes.etcd.state();
                etcd.members.iter_mut().for_each(|member| member.errors.clear());
            }
            Fault::VolumeAttached => site.api.store().remove("volumeattachments", "", &name),
            Fault::PodsDoNotStart => site.let_start(node, true),
            Fault::BudgetAtZero => site.scale_up(&namespace, &name),
            Fault::SurvivingKubelet | Fault::MovedAddress | Fault::NewAuthority => {
                let Some(host) = site.host(node) else { return Ok(false) };
                match fault {
                    Fault::MovedAddress => host.machine.take_address(None)?,
                    Fault::NewAuthority => host.machine.put_authorities(None)?,
                    _ => host.machine.stop(|exe| exe.ends_with("/kubelet"))?,
                }
            }
            _ => (),
        }
        Ok(true)
    }
}

/// Namespace and name of the ConfigMap with the inventory of a cluster.
fn inventory_of(store: &Store, cluster: &str) -> (String, String) {
    let found = store.get("clusters", "", cluster);
    let reference = found.map(|found| &found["spec"]["hostsConfRef"]).unwrap_or(&Value::Null);
    (text(&reference["namespace"]), text(&reference["name"]))
}

/// The operation that somebody begins.
fn foreign(cluster: &str) -> String {
    format!("{cluster}-by-hand")
}

impl super::Site {
    /// One pod more for the workloads that a budget guards.
    fn scale_up(&mut self, namespace: &str, budget: &str) {
        let store = &mut *self.api.store();
        let Some(budget) = store.get("poddisruptionbudgets", namespace, budget).cloned() else {
            return;
        };
        for plural in ["deployments", "replicasets", "statefulsets"] {
            let guarded = |set: &&Value| {
                let mut pod = set["spec"]["template"].clone();
                pod["metadata"]["namespace"] = json!(namespace);
                set["metadata"]["namespace"] == namespace
                    && set["spec"]["replicas"].as_u64().unwrap_or(1) > 0
                    && super::super::api::selects(&budget["spec"]["selector"], &pod)
            };
            let names: Vec<String> =
                store.list(plural).filter(guarded).map(|s| text(&s["metadata"]["name"])).collect();
            for name in names {
                store.edit(plural, namespace, &name, |set| {
                    let replicas = set["spec"]["replicas"].as_u64().unwrap_or(1);
                    set["spec"]["replicas"] = json!(replicas + 1);
                });
            }
        }
    }
}
