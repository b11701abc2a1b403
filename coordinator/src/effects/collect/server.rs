//! One API server and what it said in this pass: everything is asked at most once, and only if a
//! check needs it.

use std::future::Future;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::{Node as NodeObject, Pod},
    policy::v1::PodDisruptionBudget,
    storage::v1::VolumeAttachment,
};
use kube::{Api, Client, Resource, api::ListParams};
use rehull_shared::{evidence::Verdict, ids::NodeName};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::{
    super::{
        Trouble,
        api::{self, Failure},
    },
    cluster::{self, Pending},
};
use crate::{capacity::Report, clients::objects};

/// What was read, or `Unknown` and why.
pub(super) type Reading<T> = Result<T, Verdict>;

/// Namespace of the cluster's own workloads.
pub(super) const SYSTEM: &str = "kube-system";

/// Namespace of the leases of kubelets.
const LEASES: &str = "kube-node-lease";

/// What the leases of API servers are labelled with, from Kubernetes 1.26 on. Source: its
/// `IdentityLeaseComponentLabelKey`.
const API_SERVERS: &str = "apiserver.kubernetes.io/identity=kube-apiserver";

/// One API server.
pub(super) struct Server {
    client: Result<Client, Trouble>,
    /// Why it no longer answers: then it is asked nothing more, or a dead server would cost a
    /// pass ten seconds for every list.
    silent: OnceCell<Failure>,
    node: OnceCell<Reading<Option<NodeObject>>>,
    nodes: OnceCell<Reading<Vec<NodeObject>>>,
    lease: OnceCell<Reading<Option<Lease>>>,
    leases: OnceCell<Reading<Vec<Lease>>>,
    api_server_leases: OnceCell<Reading<Vec<Lease>>>,
    pods: OnceCell<Reading<Vec<Pod>>>,
    pending: OnceCell<Reading<Vec<Pending>>>,
    reports: OnceCell<Reading<Option<Reports>>>,
    attachments: OnceCell<Reading<Vec<VolumeAttachment>>>,
    daemon_sets: OnceCell<Reading<Vec<DaemonSet>>>,
    deployments: OnceCell<Reading<Vec<Deployment>>>,
    requests: OnceCell<Reading<Vec<CertificateSigningRequest>>>,
    budgets: OnceCell<Reading<Vec<PodDisruptionBudget>>>,
}

/// What the preflight finds.
pub(super) struct Reports {
    /// If the node were drained.
    pub alone: Report,
    /// If the nodes whose pods have to go before were drained, too; `None` if there are none.
    pub together: Option<Report>,
}

impl Server {
    /// A server that has been asked nothing.
    pub(super) fn new(client: Result<Client, Trouble>) -> Self {
        Self {
            client,
            silent: OnceCell::new(),
            node: OnceCell::new(),
            nodes: OnceCell::new(),
            lease: OnceCell::new(),
            leases: OnceCell::new(),
            api_server_leases: OnceCell::new(),
            pods: OnceCell::new(),
            pending: OnceCell::new(),
            reports: OnceCell::new(),
            attachments: OnceCell::new(),
            daemon_sets: OnceCell::new(),
            deployments: OnceCell::new(),
            requests: OnceCell::new(),
            budgets: OnceCell::new(),
        }
    }

    /// The client of it.
    pub(super) fn client(&self) -> Reading<&Client> {
        self.client.as_ref().map_err(|trouble| Verdict::unknown(trouble.to_string()))
    }

    /// The Node object of this name.
    pub(super) async fn node(&self, name: &NodeName) -> Reading<Option<&NodeObject>> {
        let read = |client| async move { api::get(&Api::all(client), name.as_str()).await };
        self.once(&self.node, "its Node", read).await.map(Option::as_ref)
    }

    /// All Node objects.
    pub(super) async fn nodes(&self) -> Reading<&[NodeObject]> {
        self.all(&self.nodes, "Nodes", ListParams::default()).await
    }

    /// The lease of the node's kubelet.
    pub(super) async fn lease(&self, name: &NodeName) -> Reading<Option<&Lease>> {
        let read =
            |client| async move { api::get(&Api::namespaced(client, LEASES), name.as_str()).await };
        self.once(&self.lease, "its lease", read).await.map(Option::as_ref)
    }

    /// The leases of all kubelets.
    pub(super) async fn leases(&self) -> Reading<&[Lease]> {
        let read = |client| async move {
            api::list(&Api::namespaced(client, LEASES), ListParams::default(), Some).await
        };
        self.once(&self.leases, "the leases of kubelets", read).await.map(Vec::as_slice)
    }

    /// The leases of all API servers.
    pub(super) async fn api_server_leases(&self) -> Reading<&[Lease]> {
        let params = ListParams::default().labels(API_SERVERS);
        let read =
            |client| async move { api::list(&Api::namespaced(client, SYSTEM), params, Some).await };
        self.once(&self.api_server_leases, "the leases of API servers", read)
            .await
            .map(Vec::as_slice)
    }

    /// The pods that are bound to the node, finished ones too.
    pub(super) async fn pods(&self, name: &NodeName) -> Reading<&[Pod]> {
        let on_node = ListParams::default().fields(&format!("spec.nodeName={name}"));
        self.all(&self.pods, "its pods", on_node).await
    }

    /// The pods of the whole cluster that are pending.
    pub(super) async fn pending(&self) -> Reading<&[Pending]> {
        let params = ListParams::default().fields("status.phase=Pending");
        self.kept(&self.pending, "pending pods", params, cluster::pending).await
    }

    /// What the preflight finds if the node were drained, alone and together with `others`; `None`
    /// if one of them does not exist. The snapshot of the cluster that it is made from is not kept.
    pub(super) async fn reports(
        &self,
        name: &NodeName,
        others: &[&str],
    ) -> Reading<Option<&Reports>> {
        let read = |client| async move {
            let model = objects::model(&client).await?;
            let alone = model.examine(&[name.as_str()]);
            let together = match others {
                [] => Some(None),
                others => model.examine(&[others, &[name.as_str()]].concat()).map(Some),
            };
            Ok(alone.zip(together).map(|(alone, together)| Reports { alone, together }))
        };
        self.once(&self.reports, "what runs in the cluster", read).await.map(Option::as_ref)
    }

    /// All VolumeAttachments.
    pub(super) async fn attachments(&self) -> Reading<&[VolumeAttachment]> {
        self.all(&self.attachments, "VolumeAttachments", ListParams::default()).await
    }

    /// The DaemonSets of all namespaces.
    pub(super) async fn daemon_sets(&self) -> Reading<&[DaemonSet]> {
        self.all(&self.daemon_sets, "DaemonSets", ListParams::default()).await
    }

    /// The Deployments of the system.
    pub(super) async fn deployments(&self) -> Reading<&[Deployment]> {
        let read = |client| async move {
            api::list(&Api::namespaced(client, SYSTEM), ListParams::default(), Some).await
        };
        self.once(&self.deployments, "Deployments", read).await.map(Vec::as_slice)
    }

    /// All certificate requests.
    pub(super) async fn requests(&self) -> Reading<&[CertificateSigningRequest]> {
        self.all(&self.requests, "certificate requests", ListParams::default()).await
    }

    /// All disruption budgets.
    pub(super) async fn budgets(&self) -> Reading<&[PodDisruptionBudget]> {
        self.all(&self.budgets, "PodDisruptionBudgets", ListParams::default()).await
    }

    async fn all<'a, K>(
        &'a self,
        cell: &'a OnceCell<Reading<Vec<K>>>,
        what: &str,
        params: ListParams,
    ) -> Reading<&'a [K]>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        self.kept(cell, what, params, Some).await
    }

    async fn kept<'a, K, T>(
        &'a self,
        cell: &'a OnceCell<Reading<Vec<T>>>,
        what: &str,
        params: ListParams,
        keep: impl Fn(K) -> Option<T>,
    ) -> Reading<&'a [T]>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let read = |client| async move { api::list(&Api::<K>::all(client), params, keep).await };
        self.once(cell, what, read).await.map(Vec::as_slice)
    }

    async fn once<'a, T, F>(
        &'a self,
        cell: &'a OnceCell<Reading<T>>,
        what: &str,
        read: impl FnOnce(Client) -> F,
    ) -> Reading<&'a T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let reading = cell
            .get_or_init(|| async {
                let client = self.client()?.clone();
                let unknown =
                    |why: &Failure| Verdict::unknown(format!("cannot read {what}: {why}"));
                if let Some(why) = self.silent.get() {
                    return Err(unknown(why));
                }
                read(client).await.map_err(|failure| {
                    let unknown = unknown(&failure);
                    if matches!(failure, Failure::Silent(_)) {
                        _ = self.silent.set(failure); // only the first silence is kept
                    }
                    unknown
                })
            })
            .await;
        reading.as_ref().map_err(Clone::clone)
    }
}
