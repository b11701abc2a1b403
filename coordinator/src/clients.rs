//! How API clients are had: a function, so that a rehearsal can bring its own clusters.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use kube::Client;

use crate::domain::plan::Plan;

pub mod calls;
pub mod objects;
mod real;

pub use real::{kept_server, real, server_of};

/// Which API is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// The management cluster, where Kubean's objects live.
    Management,
    /// The workload cluster, by the address of its kubeconfig (a load balancer, perhaps).
    Workload,
    /// One API server of the workload cluster, by its own address (`host:port`).
    ApiServer(String),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Management => f.write_str("the management cluster"),
            Endpoint::Workload => f.write_str("the workload cluster"),
            Endpoint::ApiServer(address) => write!(f, "API server {address}"),
        }
    }
}

/// What went wrong with the world, in words for an operator; the work is tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(pub String);

impl Trouble {
    /// `what` could not be done because of `why`.
    pub fn new(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

/// Makes a client for one endpoint of one plan.
pub type Connect =
    Arc<dyn Fn(Plan, Endpoint) -> BoxFuture<'static, Result<Client, Trouble>> + Send + Sync>;

/// Clients by cluster and endpoint, made when they are first asked for.
#[derive(Clone)]
pub struct Clients {
    connect: Connect,
    made: Arc<Mutex<BTreeMap<Key, Client>>>,
}

/// Cluster, how it is reached, and which API: another document may reach it in another way.
type Key = (String, String, Endpoint);

impl Clients {
    /// Clients that `connect` makes.
    pub fn new(connect: Connect) -> Self {
        Self { connect, made: Arc::default() }
    }

    /// The client for an endpoint.
    ///
    /// # Errors
    /// If the kubeconfig cannot be read or makes no client; nothing is connected yet.
    pub async fn get(&self, plan: &Plan, endpoint: Endpoint) -> Result<Client, Trouble> {
        let access = format!("{:?} {:?}", plan.management, plan.workload);
        let key = (plan.cluster.to_string(), access, endpoint.clone());
        let known = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(client) = known {
            return Ok(client);
        }
        let client = (self.connect)(plan.clone(), endpoint).await?;
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(key, client.clone());
        Ok(client)
    }

    /// Forgets the clients of a cluster, so that a replaced kubeconfig is read again.
    pub fn forget(&self, plan: &Plan) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|(cluster, _, _), _| cluster != plan.cluster.as_str());
    }
}
