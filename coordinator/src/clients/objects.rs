//! Reads what the capacity and disruption preflight looks at, page by page: only what it needs is
//! kept of each object.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod},
    policy::v1::PodDisruptionBudget,
    scheduling::v1::PriorityClass,
    storage::v1::{CSINode, StorageClass},
};
use kube::{Api, Client, Resource, api::ListParams};
use serde::de::DeserializeOwned;

use super::calls::{Failure, list};
use crate::capacity::{Builder, Model};

/// The whole workload cluster.
///
/// # Errors
/// If one of the lists cannot be read: half a cluster would prove nothing.
pub async fn model(client: &Client) -> Result<Model, Failure> {
    let mut builder = Builder::default();
    each(client, |node: Node| builder.node(&node)).await?;
    each(client, |pod: Pod| builder.pod(&pod)).await?;
    each(client, |volume: PersistentVolume| builder.volume(&volume)).await?;
    each(client, |claim: PersistentVolumeClaim| builder.claim(&claim)).await?;
    each(client, |class: StorageClass| builder.storage_class(&class)).await?;
    each(client, |node: CSINode| builder.csi_node(&node)).await?;
    each(client, |namespace: Namespace| builder.namespace(&namespace)).await?;
    each(client, |class: PriorityClass| builder.priority_class(&class)).await?;
    each(client, |budget: PodDisruptionBudget| builder.budget(&budget)).await?;
    each(client, |set: ReplicaSet| builder.replica_set(&set)).await?;
    each(client, |set: StatefulSet| builder.stateful_set(&set)).await?;
    each(client, |deployment: Deployment| builder.deployment(&deployment)).await?;
    Ok(builder.build())
}

/// Reads every object of a kind, of all namespaces.
async fn each<K>(client: &Client, mut take: impl FnMut(K)) -> Result<(), Failure>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let take = |object| {
        take(object);
        None::<()>
    };
    list(&Api::all(client.clone()), ListParams::default(), take).await.map(drop)
}
