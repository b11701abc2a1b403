//! What a node and a cluster were before they were touched, stored off the node by content hash.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    core::v1::{ConfigMap, Node as NodeObject, PersistentVolume, Pod},
    storage::v1::CSINode,
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use rehull_proto::v1::Report as HostReport;
use rehull_shared::{ids::NodeName, text::sha256_hex};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Pass, Requests, Trouble,
    api::{Failure, get, list},
    collect::Look,
    metadata::is_cordoned,
};
use crate::{
    blobs::Blobs,
    clients::Endpoint,
    domain::{
        command::{Report, Request},
        state::{Node, Snapshot},
    },
    pods,
};

/// ConfigMaps of the workload cluster that a recovery starts from: the field of the export, namespace
/// and name.
pub(crate) const EXPORTED: [(&str, &str, &str); 2] = [
    ("kubeadmConfig", "kube-system", "kubeadm-config"),
    ("clusterInfo", "kube-public", "cluster-info"),
];

/// Kubernetes objects that speak of one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Objects {
    /// The Node object.
    pub(super) node: NodeObject,
    /// DaemonSets that had a pod on it, `namespace/name`.
    pub(super) daemon_sets: BTreeSet<String>,
    /// Pods of the whole cluster that were pending, `namespace/name`.
    pub(super) pending: BTreeSet<String>,
    /// What failed again and again before, as [`pods::origin`] names it.
    #[serde(default)]
    pub(super) failing: BTreeSet<String>,
    /// Nodes that were cordoned, whoever had done that.
    #[serde(default)]
    pub(super) cordoned: BTreeSet<String>,
    /// The pods on it: what they are and where their data is, not what they run with, since
    /// environments hold passwords.
    pods: Vec<Value>,
    /// PersistentVolumes whose data is on it (F19).
    volumes: Vec<Value>,
    /// Its CSINode.
    csi_node: Option<CSINode>,
    /// The address blocks that Calico has given it, where there is Calico.
    address_blocks: Vec<Value>,
}

impl Objects {
    /// Reads them back.
    ///
    /// # Errors
    /// If they are not in the store, damaged, or not understood.
    pub(super) fn load(blobs: &Blobs, hash: &str) -> Result<Self, Trouble> {
        let trouble = |why: &dyn std::fmt::Display| Trouble::new("what was recorded", why);
        let content = blobs.get(hash).map_err(|error| trouble(&error))?;
        serde_json::from_slice(&content).map_err(|error| trouble(&error))
    }
}

impl Pass<'_> {
    /// Records a node: its objects from the cluster's API, its facts from its agent.
    pub(super) async fn take_snapshot(&self, name: &NodeName) -> Result<Requests, Trouble> {
        let node = self.node(name)?;
        let client = self.workload().await?;
        let objects = read(&client, name).await?;
        let heard = self
            .hear(name, node.track.round, Look::Snapshot)
            .await
            .map_err(|(_, unknown)| Trouble::new(format!("the facts of {name}"), unknown.seen()))?;
        let snapshot = self.snapshot(node, &objects, &heard.report)?;
        let node = name.clone();
        Ok(vec![Request::Report(Report::Snapshot { node, snapshot })])
    }

    fn snapshot(
        &self,
        node: &Node,
        objects: &Objects,
        report: &HostReport,
    ) -> Result<Snapshot, Trouble> {
        let name = &node.planned.name;
        let trouble = |why: &str| Trouble::new(format!("the facts of {name}"), why);
        let host = report.identity.as_ref().ok_or_else(|| trouble("it does not say who it is"))?;
        if host.boot_id.is_empty() || host.machine_id.is_empty() {
            return Err(trouble("its boot id or machine id is not known"));
        }
        let node_uid = objects.node.metadata.uid.clone().unwrap_or_default();
        let carrying = host.nics.iter().filter(|nic| nic.addresses.contains(&node.planned.address));
        Ok(Snapshot {
            node_uid,
            unschedulable: is_cordoned(&objects.node),
            objects_sha256: self.store(objects)?,
            host_sha256: self.store(&facts(report))?,
            boot_id: host.boot_id.clone(),
            machine_id: host.machine_id.clone(),
            product_uuid: host.product_uuid.clone(),
            macs: carrying.map(|nic| nic.mac.clone()).collect(),
        })
    }

    /// Exports what a recovery of the cluster would start from. Of inventory, vars and kubeconfig only
    /// the names and hashes: they hold passwords and keys. Backups of control planes hold their texts,
    /// encrypted.
    pub(super) async fn export(&self) -> Result<Requests, Trouble> {
        let plan = &self.migration.plan;
        let management = self.context.clients.get(plan, Endpoint::Management).await?;
        let workload = self.workload().await?;
        let cluster = Api::<DynamicObject>::all_with(management.clone(), &cluster_resource());
        let cluster = get(&cluster, plan.cluster.as_str()).await;
        let cluster = cluster.map_err(|failure| failure.with("Cluster"))?;
        let cluster = cluster
            .ok_or_else(|| Trouble::new(format!("Cluster {}", plan.cluster), "does not exist"))?;
        let mut inputs = Vec::new();
        for field in ["hostsConfRef", "varsConfRef"] {
            inputs.push(fingerprint(&management, &cluster, field).await?);
        }
        if !cluster.data["spec"]["kubeconfRef"].is_null() {
            inputs.push(fingerprint(&management, &cluster, "kubeconfRef").await?);
        }
        let nodes = Api::<NodeObject>::all(workload.clone());
        let nodes = list(&nodes, ListParams::default(), |node| Some(cleaned(&node))).await;
        let nodes = nodes.map_err(|failure| failure.with("Nodes"))?;
        let mut export = json!({
            "cluster": cleaned(&cluster),
            "inputs": inputs,
            "nodes": nodes,
        });
        for (field, namespace, name) in EXPORTED {
            export[field] = config_map(&workload, namespace, name).await?.into();
        }
        let sha256 = self.store(&export)?;
        Ok(vec![Request::Report(Report::Exported { sha256 })])
    }

    /// Stores something as JSON with sorted keys, so that the same content has the same hash.
    fn store(&self, content: &impl Serialize) -> Result<String, Trouble> {
        let json = serde_json::to_value(content).and_then(|value| serde_json::to_vec(&value));
        let json = json.map_err(|error| Trouble::new("a record", error))?;
        self.context.blobs.put(&json).map_err(|error| Trouble::new("a record", error))
    }
}

/// Everything that the API says about one node.
async fn read(client: &Client, name: &NodeName) -> Result<Objects, Trouble> {
    let no = |what: &'static str| move |failure: Failure| failure.with(what);
    let node = get(&Api::<NodeObject>::all(client.clone()), name.as_str()).await;
    let node = node.map_err(no("Node"))?;
    let node = node.ok_or_else(|| Trouble::new(format!("Node {name}"), "does not exist"))?;
    let all_pods = Api::<Pod>::all(client.clone());
    let on_node = ListParams::default().fields(&format!("spec.nodeName={name}"));
    let on_node = list(&all_pods, on_node, Some).await.map_err(no("pods"))?;
    let waiting = ListParams::default().fields("status.phase=Pending");
    let pending = list(&all_pods, waiting, |pod| Some(pods::name(&pod))).await;
    let fails = |pod: Pod| pods::failure(&pod).map(|_| pods::origin(&pod));
    let failing = list(&all_pods, ListParams::default(), fails).await;
    let cordoned = |node: NodeObject| if is_cordoned(&node) { node.metadata.name } else { None };
    let nodes = Api::<NodeObject>::all(client.clone());
    let cordoned = list(&nodes, ListParams::default(), cordoned).await;
    let volumes = Api::<PersistentVolume>::all(client.clone());
    let volumes = list(&volumes, ListParams::default(), |volume| {
        let value = cleaned(&volume);
        is_bound_to(&value, name).then_some(value)
    });
    let csi_node = get(&Api::<CSINode>::all(client.clone()), name.as_str()).await;
    Ok(Objects {
        daemon_sets: on_node.iter().filter_map(pods::daemon_set).collect(),
        pending: pending.map_err(no("pending pods"))?.into_iter().collect(),
        failing: failing.map_err(no("pods that fail"))?.into_iter().collect(),
        cordoned: cordoned.map_err(no("Nodes"))?.into_iter().collect(),
        pods: on_node.iter().map(summary).collect(),
        volumes: volumes.await.map_err(no("PersistentVolumes"))?,
        csi_node: csi_node.map_err(no("CSINode"))?,
        address_blocks: address_blocks(client, name).await.map_err(no("BlockAffinities"))?,
        node: serde_json::from_value(cleaned(&node))
            .map_err(|error| Trouble::new(format!("Node {name}"), error))?,
    })
}

/// The facts of a host without what differs from one look to the next.
fn facts(report: &HostReport) -> Value {
    let HostReport { identity, os, paths, certificates, swap, units, resolver, files, .. } = report;
    let unread: Vec<_> = report.unread.iter().filter(|unread| unread.part == "files").collect();
    json!({
        "identity": identity, "os": os, "paths": paths, "certificates": certificates,
        "swap": swap, "units": units, "resolver": resolver, "files": files, "unread": unread,
    })
}

/// What is kept of a pod.
fn summary(pod: &Pod) -> Value {
    let (metadata, spec) = (&pod.metadata, pod.spec.as_ref());
    json!({
        "name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid,
        "labels": metadata.labels, "ownerReferences": metadata.owner_references,
        "volumes": spec.map(|spec| &spec.volumes),
        "images": spec.map(|spec| spec.containers.iter().map(|one| &one.image).collect::<Vec<_>>()),
    })
}

/// An object as JSON without the bookkeeping of its writers.
fn cleaned(object: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    value
}

/// Whether a volume may only be used on this node.
fn is_bound_to(volume: &Value, name: &NodeName) -> bool {
    let terms = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
    let terms = terms.as_array().into_iter().flatten();
    let mut expressions =
        terms.flat_map(|term| term["matchExpressions"].as_array().into_iter().flatten());
    expressions.any(|one| {
        one["key"] == "kubernetes.io/hostname"
            && one["values"].as_array().into_iter().flatten().any(|value| value == name.as_str())
    })
}

async fn address_blocks(client: &Client, name: &NodeName) -> Result<Vec<Value>, Failure> {
    let kind = GroupVersionKind::gvk("crd.projectcalico.org", "v1", "BlockAffinity");
    let resource = ApiResource::from_gvk_with_plural(&kind, "blockaffinities");
    let blocks = Api::<DynamicObject>::all_with(client.clone(), &resource);
    let mine = |block: DynamicObject| {
        (block.data["spec"]["node"] == name.as_str()).then(|| cleaned(&block))
    };
    match list(&blocks, ListParams::default(), mine).await {
        Err(failure) if failure.is_404() => Ok(Vec::new()), // there is no Calico
        other => other,
    }
}

async fn config_map(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, Trouble> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let found = get(&api, name).await.map_err(|failure| failure.with(name))?;
    Ok(found.map(|map| json!(map.data)))
}

/// Name of a ConfigMap that the Cluster names, and a hash of each of its texts.
async fn fingerprint(
    client: &Client,
    cluster: &DynamicObject,
    field: &str,
) -> Result<Value, Trouble> {
    let reference = &cluster.data["spec"][field];
    let (Some(namespace), Some(name)) =
        (reference["namespace"].as_str(), reference["name"].as_str())
    else {
        return Err(Trouble::new(format!("Cluster spec.{field}"), "names no ConfigMap"));
    };
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let map = get(&api, name).await.map_err(|failure| failure.with(name))?;
    let map = map.ok_or_else(|| Trouble::new(format!("{namespace}/{name}"), "does not exist"))?;
    let texts = map.data.iter().flatten();
    let hashes: serde_json::Map<String, Value> =
        texts.map(|(key, text)| (key.clone(), sha256_hex(text.as_bytes()).into())).collect();
    Ok(json!({"field": field, "namespace": namespace, "name": name, "sha256": hashes}))
}

fn cluster_resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("kubean.io", "v1alpha1", "Cluster");
    ApiResource::from_gvk_with_plural(&kind, "clusters")
}
