//! What the management cluster says: about itself, the inventory, and operations.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Namespace, Node as NodeObject, Pod};
use kube::{Api, Client, ResourceExt, api::ListParams};
use rehull_shared::{
    evidence::{Check, Verdict},
    ids::NodeName,
};

use super::{
    super::{
        Pass,
        api::{self, few},
        control_planes::host_of,
        operations::{describe, unfinished},
    },
    joined::internal_addresses,
};
use crate::{
    clients::{Endpoint, Trouble, kept_server, server_of},
    domain::{
        approval::Item,
        plan::Role,
        state::{Phase, Subject},
    },
    inventory::{self, Inventory},
    items,
    kubean::{ClusterOperation, stored},
    readiness::complaint,
};

/// Playbooks that set up a cluster: the image of the last one that succeeded is the running one.
const DEPLOYMENTS: [&str; 3] = ["cluster.yml", "upgrade-cluster.yml", "scale.yml"];

impl Pass<'_> {
    /// Answers one check, now.
    pub(in crate::effects) async fn management(&self, subject: &Subject, check: Check) -> Verdict {
        let answer = match check {
            Check::ManagementSeparate => self.management_separate().await,
            Check::KubeconfigUsable => self.kubeconfig_usable().await,
            Check::VersionsPinned => self.versions_pinned().await,
            Check::InventoryUnderstood => self.inventory_understood(subject).await,
            Check::NoForeignOperation => self.no_foreign_operation(subject).await,
            Check::InputsStored => self.inputs_as_planned(subject).await,
            Check::InputsRemoved => self.inputs_removed().await,
            Check::KubeconfigElsewhere => self.kubeconfig_elsewhere(subject).await,
            Check::InventoryReordered => match subject {
                Subject::Node(node) => self.inventory_reordered(node).await,
                Subject::Cluster => Ok(Verdict::unknown("it is asked of no node")),
            },
            other => Ok(Verdict::unknown(format!("the management cluster cannot answer {other}"))),
        };
        answer.unwrap_or_else(|trouble| Verdict::unknown(trouble.to_string()))
    }

    /// The UID of its first namespace tells one cluster from another.
    async fn management_separate(&self) -> Result<Verdict, Trouble> {
        let uid = async |client: Client, what: Endpoint| {
            let found = api::call(Api::<Namespace>::all(client).get("kube-system")).await;
            let found = found.map_err(|failure| failure.with(&what))?;
            found.uid().ok_or_else(|| Trouble::new(what, "its kube-system has no UID"))
        };
        let management = uid(self.management_client().await?, Endpoint::Management).await?;
        let workload = uid(self.workload().await?, Endpoint::Workload).await?;
        Ok(match management == workload {
            true => Verdict::fail(
                "the workload cluster is the management cluster itself: jobs and coordinator \
                 could run on the node that is removed",
            ),
            false => Verdict::pass(format!("kube-system is {management} here, {workload} there")),
        })
    }

    async fn kubeconfig_usable(&self) -> Result<Verdict, Trouble> {
        let plan = &self.migration.plan;
        let server = server_of(plan, &self.context.clients).await?;
        let host = host_of(&server);
        let removed = self
            .migration
            .nodes
            .iter()
            .filter(|node| !node.planned.role.is_control_plane()) // they hand it on before they go
            .find(|node| node.planned.address == host || node.planned.name.as_str() == host);
        if let Some(node) = removed {
            let name = &node.planned.name;
            return Ok(Verdict::fail(format!("its server {server} is {name}, which is removed")));
        }
        let client = self.workload().await?;
        match complaint(&client).await {
            Ok(None) => self.is_this_cluster(&server, client).await,
            Ok(Some(answer)) => Ok(Verdict::fail(format!("{server} is not ready: {answer}"))),
            Err(failure) => {
                // It may have been renewed since it was read.
                self.context.clients.forget(plan);
                Err(failure.with(format!("{server}, /readyz")))
            }
        }
    }

    /// Another cluster may well have nodes of the same names, but not of the same addresses.
    async fn is_this_cluster(&self, server: &str, client: Client) -> Result<Verdict, Trouble> {
        let known = |node: NodeObject| Some((node.name_any(), internal_addresses(&node)));
        let nodes = api::list(&Api::<NodeObject>::all(client), ListParams::default(), known).await;
        let nodes = nodes.map_err(|failure| failure.with(format!("Nodes of {server}")))?;
        let nodes: BTreeMap<String, Vec<String>> = nodes.into_iter().collect();
        let planned = || self.migration.nodes.iter().map(|node| &node.planned);
        let other = planned().filter_map(|node| {
            let found = nodes.get(node.name.as_str()).filter(|found| !found.is_empty())?;
            (!found.contains(&node.address)).then(|| {
                format!("{} has {} there, not {}", node.name, found.join(", "), node.address)
            })
        });
        let other: Vec<String> = other.collect();
        let none = planned().all(|node| !nodes.contains_key(node.name.as_str()));
        Ok(match (other.is_empty(), none) {
            (true, false) => Verdict::pass(format!("{server} is ready")),
            (true, true) => Verdict::fail(format!(
                "{server} is of another cluster: it has none of the planned nodes"
            )),
            (false, _) => Verdict::fail(format!("{server} is of another cluster: {}", few(other))),
        })
    }

    async fn kubeconfig_elsewhere(&self, subject: &Subject) -> Result<Verdict, Trouble> {
        let plan = &self.migration.plan;
        let Some(server) = kept_server(plan, &self.context.clients).await? else {
            return Ok(Verdict::pass("Kubean keeps none"));
        };
        Ok(match self.may_lead_to(subject.node(), &server) {
            Ok(()) => Verdict::pass(format!("it leads to {server}")),
            Err(why) => Verdict::fail(why),
        })
    }

    async fn versions_pinned(&self) -> Result<Verdict, Trouble> {
        let plan = &self.migration.plan;
        let operations: Api<ClusterOperation> = Api::all(self.management_client().await?);
        let cluster = plan.cluster.as_str();
        let deployed = |operation: ClusterOperation| {
            let counts = operation.spec.cluster == cluster
                && operation.word() == "Succeeded"
                && DEPLOYMENTS.contains(&operation.spec.action.as_str());
            counts.then_some(operation)
        };
        let list = api::list(&operations, ListParams::default(), deployed).await;
        let list = list.map_err(|failure| failure.with("the list of operations"))?;
        let last = list.iter().max_by_key(|op| (op.creation_timestamp(), op.name_any()));
        if let Some(last) = last.filter(|last| last.spec.image != plan.image) {
            let (name, image) = (last.name_any(), &last.spec.image);
            let why = format!("{} is planned, but {name} has deployed with {image}", plan.image);
            return Ok(Verdict::fail(why));
        }
        let nodes: Api<NodeObject> = Api::all(self.workload().await?);
        let version = |node: NodeObject| {
            let info = node.status?.node_info?;
            Some((node.metadata.name.unwrap_or_default(), info.kubelet_version))
        };
        let kubelets = api::list(&nodes, ListParams::default(), version).await;
        let kubelets = kubelets.map_err(|failure| failure.with("nodes of the workload cluster"))?;
        let planned = &plan.kubernetes_version;
        let others: Vec<String> = (kubelets.iter())
            .filter(|(_, version)| version != planned)
            .map(|(name, version)| format!("{name} runs {version}"))
            .collect();
        if !others.is_empty() {
            return Ok(Verdict::fail(format!("{planned} is planned, but {}", few(others))));
        }
        if kubelets.is_empty() {
            return Ok(Verdict::unknown("the workload cluster has no nodes to compare with"));
        }
        let image = match last {
            Some(last) => format!("{} has deployed with {}", last.name_any(), plan.image),
            None => format!("no deployment is kept to compare {} with", plan.image),
        };
        Ok(Verdict::pass(format!("{image}; {} kubelets run {planned}", kubelets.len())))
    }

    async fn inventory_understood(&self, subject: &Subject) -> Result<Verdict, Trouble> {
        let plan = &self.migration.plan;
        let found =
            stored(&self.management_client().await?, &plan.namespace, &plan.cluster).await?;
        let inventory = match Inventory::parse(&found.inventory) {
            Ok(inventory) => inventory,
            Err(fault) => return Ok(Verdict::fail(fault.to_string())),
        };
        if let Err(fault) = inventory::member_names_in(&found.vars) {
            return Ok(Verdict::fail(format!("variables: {fault}")));
        }
        let (open, accepted) = self.unaccepted(subject, items::of_inventory(&found)?);
        if !open.is_empty() {
            let open = few(open.iter().map(Item::words));
            let why = format!("{open}: use sshAuthRef, or let Kubean encrypt them (VAULT;)");
            return Ok(Verdict::fail(why));
        }
        let workers: BTreeSet<&NodeName> = inventory.workers().collect();
        for node in &self.migration.nodes {
            let name = &node.planned.name;
            let (kept, what) = match node.planned.role.is_control_plane() {
                false => (workers.contains(name), "worker"),
                true => (is_stacked(&inventory, name), "control plane and member of etcd"),
            };
            if !kept {
                return Ok(Verdict::fail(format!("{name} is no {what} of the inventory any more")));
            }
            let address = inventory.host(name).and_then(|host| host.address());
            if address != Some(&node.planned.address) {
                let planned = &node.planned.address;
                return Ok(Verdict::fail(format!("{name} no longer has the address {planned}")));
            }
            if node.planned.role == Role::FirstControlPlane
                && let Err(fault) = inventory::with_last(&found.inventory, name)
            {
                return Ok(Verdict::fail(fault.to_string()));
            }
        }
        let (hosts, nodes) = (inventory.hosts.len(), self.migration.nodes.len());
        let passwords = if accepted.is_empty() { ", no plain passwords" } else { &accepted };
        Ok(Verdict::pass(format!("{hosts} hosts, {nodes} of them planned{passwords}")))
    }

    /// No operation of the cluster may run now, not even one of ours: every gate that asks this
    /// stands before an operation or after its end, or nobody else operates. Only a node that has not
    /// come to its operations may begin beside those of another. A pod may outlive its operation.
    async fn no_foreign_operation(&self, subject: &Subject) -> Result<Verdict, Trouble> {
        let plan = &self.migration.plan;
        let client = self.management_client().await?;
        let operations: Api<ClusterOperation> = Api::all(client.clone());
        let mut running = unfinished(&operations).await?;
        let beside = self.open_beside(subject);
        running.retain(|operation| {
            let name = operation.name_any();
            operation.spec.cluster == plan.cluster.as_str() && beside != Some(name.as_str())
        });
        if !running.is_empty() {
            running.sort_by_key(ResourceExt::name_any);
            let names = running.iter().map(|operation| match self.made_by_us(operation) {
                true => format!("our {}", describe(operation)),
                false => describe(operation),
            });
            return Ok(Verdict::fail(format!("not over: {}", few(names))));
        }
        let pods: Api<Pod> = Api::namespaced(client, &plan.namespace);
        let living = |pod: Pod| {
            let job = pod.metadata.labels.as_ref()?.get("job-name")?;
            let phase = pod.status.as_ref()?.phase.as_deref()?;
            let over = matches!(phase, "Succeeded" | "Failed");
            let known = beside.map(ClusterOperation::job_of).as_ref() == Some(job);
            (!over && !known && self.is_our_job(job)).then(|| pod.name_any())
        };
        let pods = api::list(&pods, ListParams::default().labels("job-name"), living).await;
        let pods = pods.map_err(|failure| failure.with("pods of operations"))?;
        Ok(match pods.is_empty() {
            true => {
                Verdict::pass(format!("no operation of {} is running or waiting", plan.cluster))
            }
            false => Verdict::fail(format!("pods of our operations still run: {}", few(pods))),
        })
    }

    fn our_operations(&self) -> impl Iterator<Item = &str> {
        let operations = self.migration.nodes.iter().flat_map(|node| &node.operations);
        operations.map(|operation| operation.intent.name.as_str())
    }

    /// The operation of another node that runs as it should, if this is about a node.
    fn open_beside(&self, subject: &Subject) -> Option<&str> {
        let Subject::Node(name) = subject else { return None };
        let other = self.migration.operating().filter(|other| other.planned.name != *name)?;
        let operation = other.operation().filter(|_| other.track.phase == Phase::Operating)?;
        Some(&operation.intent.name)
    }

    fn made_by_us(&self, operation: &ClusterOperation) -> bool {
        self.our_operations().any(|name| name == operation.name_any())
    }

    fn is_our_job(&self, job: &str) -> bool {
        self.our_operations().any(|name| ClusterOperation::job_of(name) == job)
    }

    async fn inputs_as_planned(&self, subject: &Subject) -> Result<Verdict, Trouble> {
        let Subject::Node(name) = subject else {
            return Ok(Verdict::unknown("the cluster itself has no operation"));
        };
        let node = self.node(name)?;
        let Some(inputs) = &node.inputs else {
            return Ok(Verdict::unknown("they are not stored yet"));
        };
        let out: Vec<NodeName> = self.absent_but(name);
        if inputs.left_out != out {
            let why = format!(
                "they leave out {:?}, but {:?} are out now",
                names(&inputs.left_out),
                names(&out)
            );
            return Ok(Verdict::fail(why));
        }
        Ok(self.inputs_stored(&self.management_client().await?, inputs).await)
    }

    async fn inputs_removed(&self) -> Result<Verdict, Trouble> {
        let maps = self.config_maps(&self.management_client().await?);
        let left = self.left_behind(&maps).await?;
        Ok(match left.is_empty() {
            true => Verdict::pass("no ConfigMap of this migration is left"),
            false => {
                let left = left.iter().map(ResourceExt::name_any);
                Verdict::fail(format!("ConfigMaps are left: {}", few(left)))
            }
        })
    }
}

fn is_stacked(inventory: &Inventory, name: &NodeName) -> bool {
    inventory.control_planes.contains(name) && inventory.etcd.contains(name)
}

fn names(nodes: &[NodeName]) -> Vec<&str> {
    nodes.iter().map(NodeName::as_str).collect()
}

#[cfg(test)]
mod tests;
