//! Changes to the workload cluster: cordon, drain, and giving a node back what it carried.

use k8s_openapi::api::{
    core::v1::{Node as NodeObject, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use rehull_shared::{
    ids::NodeName,
    text::{SEEN_BYTES_MAX, bounded},
};
use serde_json::{Value, json};

use super::{
    Pass, Requests, Trouble,
    api::{Failure, call, get, list},
    evictions::{self, Answer, evict},
    metadata::{self, CORDONED_BY, is_cordoned},
    snapshots::Objects,
};
use crate::{
    clients::Endpoint,
    domain::{
        approval::Item,
        command::{Report, Request},
        state::{Drain, Snapshot},
    },
    pods,
};

/// Refused evictions that are reported; the others are refused for the same reasons, mostly.
const REFUSED_MAX: usize = 8;

/// Longest text of one refusal, in bytes.
const REFUSAL_MAX: usize = SEEN_BYTES_MAX / 2;

impl Pass<'_> {
    /// Cordons the very node that was recorded.
    pub(super) async fn cordon(&self, name: &NodeName) -> Result<Requests, Trouble> {
        let snapshot = self.recorded(name)?;
        let nodes = self.nodes().await?;
        let node = existing(&nodes, name).await?;
        if !is_recorded(&node, snapshot) {
            return Err(is_another(name));
        }
        self.cordon_this(&nodes, &node, name).await
    }

    /// Cordons the Node that has come into the place of the recorded one, once it is there: before
    /// its labels and taints are back, the scheduler would put on it what they keep away.
    pub(super) async fn hold_back(&self, name: &NodeName) -> Result<Requests, Trouble> {
        let snapshot = self.recorded(name)?;
        let nodes = self.nodes().await?;
        let found = get(&nodes, name.as_str()).await;
        match found.map_err(|failure| failure.with(format!("Node {name}")))? {
            Some(node) if !is_recorded(&node, snapshot) => {
                self.cordon_this(&nodes, &node, name).await
            }
            _ => Ok(Requests::new()),
        }
    }

    async fn cordon_this(
        &self,
        nodes: &Api<NodeObject>,
        node: &NodeObject,
        name: &NodeName,
    ) -> Result<Requests, Trouble> {
        if !is_cordoned(node) {
            let mut patch = metadata::for_this(node);
            patch["metadata"]["annotations"] = json!({CORDONED_BY: self.migration.id});
            patch["spec"] = json!({"unschedulable": true});
            change(nodes, name, &patch).await?;
        }
        Ok(Requests::new())
    }

    /// Takes the cordon of a node that was given up away again, or gives it back: as it was.
    pub(super) async fn uncordon(&self, name: &NodeName) -> Result<Requests, Trouble> {
        let snapshot = self.recorded(name)?;
        let nodes = self.nodes().await?;
        let node = existing(&nodes, name).await?;
        if !is_recorded(&node, snapshot) {
            return Err(is_another(name));
        }
        if is_cordoned(&node) != snapshot.unschedulable {
            let mut patch = metadata::for_this(&node);
            patch["metadata"]["annotations"] = json!({CORDONED_BY: null});
            let value = if snapshot.unschedulable { Value::Bool(true) } else { Value::Null };
            patch["spec"] = json!({"unschedulable": value});
            change(&nodes, name, &patch).await?;
        }
        Ok(Requests::new())
    }

    /// Tries to evict each pod that must move, once. No pod is ever deleted, and one that nobody would
    /// make anew stays until a person accepts that.
    pub(super) async fn drain(&self, name: &NodeName) -> Result<Requests, Trouble> {
        let snapshot = self.recorded(name)?;
        let node = existing(&self.nodes().await?, name).await?;
        if !is_recorded(&node, snapshot) {
            return Err(is_another(name));
        }
        if !is_cordoned(&node) {
            return Err(Trouble::new(format!("the drain of {name}"), "it is not cordoned"));
        }
        let client = self.workload().await?;
        let on_node = ListParams::default().fields(&format!("spec.nodeName={name}"));
        let movable = |pod: Pod| pods::is_movable(&pod).then_some(pod);
        let moving = list(&Api::all(client.clone()), on_node, movable).await;
        let mut moving = moving.map_err(|failure| failure.with(format!("the pods of {name}")))?;
        moving.sort_by_key(pods::name);
        let before = self.node(name)?.drain.clone().unwrap_or_default();
        let judged = |pod| (self.objection(name, &pod), pod);
        let moving: Vec<(Option<Item>, Pod)> = moving.into_iter().map(judged).collect();
        let drain = evict_all(&client, &moving, &before).await?;
        let node = name.clone();
        Ok(vec![Request::Report(Report::Drain { node, drain })])
    }

    /// Deletes the very Node object that was recorded. Whatever comes of it, the rules look again.
    pub(super) async fn delete_node(
        &self,
        name: &NodeName,
        uid: &str,
    ) -> Result<Requests, Trouble> {
        let nodes = self.nodes().await?;
        let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
        let how = DeleteParams::background().preconditions(preconditions);
        let seen = match call(nodes.delete(name.as_str(), &how)).await {
            Ok(_) => format!("Node {name} was deleted (uid {uid})"),
            Err(failure) if failure.is_absence() => format!("there is no Node {name}"),
            Err(Failure::Refused(status)) if status.code == 409 => {
                format!("Node {name} is another one than was recorded (uid {uid}): it stays")
            }
            Err(failure) => return Err(failure.with(format!("the deletion of Node {name}"))),
        };
        let (node, uid) = (name.clone(), uid.to_owned());
        Ok(vec![Request::Report(Report::NodeDeletionAnswered { node, uid, seen })])
    }

    /// Gives the new Node back what the old one carried.
    pub(super) async fn restore_metadata(&self, name: &NodeName) -> Result<Requests, Trouble> {
        let snapshot = self.recorded(name)?;
        let nodes = self.nodes().await?;
        let node = existing(&nodes, name).await?;
        if is_recorded(&node, snapshot) {
            return Err(Trouble::new(format!("Node {name}"), "it is still the old one"));
        }
        let before = Objects::load(&self.context.blobs, &snapshot.objects_sha256)?.node;
        if let Some(patch) = metadata::patch(&before, &node) {
            change(&nodes, name, &patch).await?;
        }
        Ok(Requests::new())
    }

    /// The client for the workload cluster. While a control plane is away, or about to go, its
    /// kubeconfig may lead there: then one of the others is asked by its own address.
    pub(super) async fn workload(&self) -> Result<Client, Trouble> {
        let plan = &self.migration.plan;
        let other = self
            .migration
            .apart()
            .and_then(|apart| plan.api_servers.iter().find(|address| address.as_str() != apart));
        let endpoint = other.cloned().map_or(Endpoint::Workload, Endpoint::ApiServer);
        self.context.clients.get(plan, endpoint).await
    }

    async fn nodes(&self) -> Result<Api<NodeObject>, Trouble> {
        Ok(Api::all(self.workload().await?))
    }

    fn recorded(&self, name: &NodeName) -> Result<&Snapshot, Trouble> {
        let snapshot = self.node(name)?.snapshot.as_ref();
        snapshot.ok_or_else(|| Trouble::new(name, "what it was is not recorded"))
    }
}

/// One eviction for each pod that is not on its way yet. Pods count as left until they are gone.
async fn evict_all(
    client: &Client,
    moving: &[(Option<Item>, Pod)],
    before: &Drain,
) -> Result<Drain, Trouble> {
    let (mut evicted, mut left) = (before.evicted, moving.len());
    let mut failures = Vec::new();
    let open = moving.iter().filter_map(|(objection, _)| objection.as_ref()).map(Item::words);
    let unopposed = moving.iter().filter(|(objection, _)| objection.is_none()).map(|(_, pod)| pod);
    for pod in unopposed.filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        match evict(client, pod, false).await {
            Answer::Gone => left -= 1,
            Answer::Accepted => evicted += 1,
            Answer::Refused(failure) => failures.push((pod, failure)),
            Answer::Silent(failure) if evicted == before.evicted => {
                return Err(failure.with(format!("the eviction of {}", pods::name(pod))));
            }
            Answer::Silent(failure) => {
                // What was done must be told; the others would be answered by silence, too.
                failures.push((pod, failure));
                break;
            }
        }
    }
    let budgets: Vec<PodDisruptionBudget> = match failures.is_empty() {
        true => Vec::new(),
        // Only for words: without them the API server's own must do.
        false => {
            list(&Api::all(client.clone()), ListParams::default(), Some).await.unwrap_or_default()
        }
    };
    let refusal = |(pod, failure): &(&Pod, Failure)| evictions::refusal(pod, failure, &budgets);
    let refused = open.chain(failures.iter().map(refusal)).take(REFUSED_MAX);
    let refused = refused.map(|words| bounded(&words, REFUSAL_MAX)).collect();
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    Ok(Drain { evicted, left, refused })
}

async fn existing(nodes: &Api<NodeObject>, name: &NodeName) -> Result<NodeObject, Trouble> {
    let node = get(nodes, name.as_str()).await;
    let node = node.map_err(|failure| failure.with(format!("Node {name}")))?;
    node.ok_or_else(|| Trouble::new(format!("Node {name}"), "does not exist"))
}

async fn change(nodes: &Api<NodeObject>, name: &NodeName, patch: &Value) -> Result<(), Trouble> {
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let done = call(nodes.patch(name.as_str(), &params, &patch)).await;
    done.map(|_| ()).map_err(|failure| failure.with(format!("changing Node {name}")))
}

fn is_recorded(node: &NodeObject, snapshot: &Snapshot) -> bool {
    node.metadata.uid.as_deref() == Some(&snapshot.node_uid)
}

fn is_another(name: &NodeName) -> Trouble {
    Trouble::new(format!("Node {name}"), "it is not the one that was recorded")
}
