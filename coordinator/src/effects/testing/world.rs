//! A world for passes: a server in memory for each cluster, and an agent that answers by rote.

use std::sync::Arc;

use rehull_proto::v1::{FromAgent, OrderDone, Report, ToAgent, from_agent, order_done, to_agent};
use rehull_shared::ids::{Epoch, Generation};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{NOW, migration, worker1};
use crate::{
    agents::Agents,
    blobs::Blobs,
    clients::{Clients, Endpoint, Trouble},
    domain::{
        command::Request,
        effect::{Effect, Work},
        state::{Fleet, Host, HostIdentity, Migration},
    },
    effects::{Context, pass, run_program},
    rehearsal::api::{Api, Turn},
};

/// Everything that a pass may touch.
pub(in crate::effects) struct World {
    /// The management cluster.
    pub(in crate::effects) management: Api,
    /// The workload cluster, by each of its addresses.
    pub(in crate::effects) workload: Api,
    /// What the first and what the second API server answers, if not the same.
    pub(in crate::effects) second: Option<Api>,
    /// The migration that passes are for.
    pub(in crate::effects) migration: Migration,
    /// The generation whose agent has enrolled; 0 for none.
    pub(in crate::effects) generation: u64,
    agents: Agents,
    dir: TempDir,
}

impl World {
    /// Two empty clusters, no agent.
    pub(in crate::effects) fn new() -> Self {
        let clock = || Arc::new(|| NOW);
        Self {
            management: Api::new("management", clock()),
            workload: Api::new("workload", clock()),
            second: None,
            migration: migration(),
            generation: 0,
            agents: Agents::default(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Connects the agent of `worker1`: it answers every look with this report, and every other
    /// order with this outcome.
    pub(in crate::effects) fn connect(&mut self, report: Report, outcome: order_done::Outcome) {
        self.generation = 2;
        let (sender, mut orders) = mpsc::channel::<ToAgent>(8);
        let whom = (self.migration.plan.cluster.clone(), worker1());
        let agents = self.agents.clone();
        let connection = agents.attach(whom.clone(), Generation(2), "0".into(), sender);
        tokio::spawn(async move {
            while let Some(order) = orders.recv().await {
                let message = match order.order.unwrap() {
                    to_agent::Order::Collect(collect) => from_agent::Message::Report(Report {
                        nonce: collect.nonce,
                        ..report.clone()
                    }),
                    to_agent::Order::KillLeftovers(kill) => done(kill.id, outcome),
                    to_agent::Order::Farewell(farewell) => done(farewell.id, outcome),
                    to_agent::Order::BackUp(order) => done(order.id, outcome),
                    to_agent::Order::MoveLeader(order) => done(order.id, outcome),
                    to_agent::Order::RemoveMember(order) => done(order.id, outcome),
                    to_agent::Order::StopApiServer(order) => done(order.id, outcome),
                    to_agent::Order::StartApiServer(order) => done(order.id, outcome),
                };
                let message = FromAgent { message: Some(message) };
                agents.heard(&whom, connection, message, NOW);
            }
        });
    }

    /// Puts a pod into the workload cluster, and its controller if it is not there: without one the
    /// server would collect it as garbage.
    pub(in crate::effects) fn run(&self, pod: impl serde::Serialize) {
        let mut pod = stored("v1", "Pod", pod);
        let mut store = self.workload.store();
        if let Some(owner) = pod["metadata"]["ownerReferences"].get(0).cloned() {
            let text = |field: &str| owner[field].as_str().unwrap().to_owned();
            let plural = match text("kind").as_str() {
                "ReplicaSet" => "replicasets",
                "StatefulSet" => "statefulsets",
                _ => "daemonsets",
            };
            let (kind, name, namespace) = (text("kind"), text("name"), "default");
            if store.get(plural, namespace, &name).is_none() {
                let metadata = json!({"name": name, "namespace": namespace});
                let spec = json!({"replicas": 2, "selector": {}, "template": {}});
                store.put(stored("apps/v1", &kind, json!({"metadata": metadata, "spec": spec})));
            }
            let owner = store.get(plural, namespace, &name).unwrap();
            let uid = owner["metadata"]["uid"].clone();
            pod["metadata"]["ownerReferences"][0]["uid"] = uid;
        }
        store.put(pod);
    }

    /// Runs one pass.
    pub(in crate::effects) async fn pass(&self, work: Work) -> Result<Vec<Request>, Trouble> {
        let cluster = self.migration.plan.cluster.clone();
        let identity = Some(HostIdentity::default());
        let host = Host { generation: Generation(self.generation), identity, ..Host::default() };
        let fleet = Fleet {
            epoch: Epoch(3),
            migrations: [(cluster.clone(), Arc::new(self.migration.clone()))].into(),
            hosts: Arc::new([((cluster.clone(), worker1()), host)].into()),
            ..Fleet::default()
        };
        pass(&Effect { cluster, work }, &fleet, &self.context()).await
    }

    /// The stored content of this hash.
    pub(in crate::effects) fn blob(&self, hash: &str) -> String {
        String::from_utf8(self.context().blobs.get(hash).unwrap()).unwrap()
    }

    /// Cuts every API server off.
    pub(in crate::effects) fn cut_off(&self) {
        for api in [&self.management, &self.workload] {
            api.before(Arc::new(|_| Turn::Break("the cable is cut".into())));
        }
    }

    fn context(&self) -> Context {
        let (management, workload) = (self.management.clone(), self.workload.clone());
        let second = self.second.clone().unwrap_or_else(|| workload.clone());
        let last = self.migration.plan.api_servers.last().cloned();
        let clients = Clients::new(Arc::new(move |_, endpoint| {
            let api = match &endpoint {
                Endpoint::Management => &management,
                Endpoint::ApiServer(address) if Some(address) == last.as_ref() => &second,
                Endpoint::Workload | Endpoint::ApiServer(_) => &workload,
            };
            let client = api.client();
            Box::pin(async move { Ok(client) })
        }));
        Context {
            clients,
            agents: self.agents.clone(),
            readiness: Default::default(),
            etcd: Default::default(),
            blobs: Blobs::open(self.dir.path().join("blobs")).unwrap(),
            backups: None,
            run_program: run_program(),
            protection: None,
            installers: Vec::new(),
            clock: Arc::new(|| NOW),
            draw: Arc::new(|| [7; 32]),
            dir: self.dir.path().into(),
            advertised: "10.0.0.2:7443".into(),
            ca_sha256: String::new(),
        }
    }
}

/// An object with its kind, for a server's store.
pub(in crate::effects) fn stored(
    version: &str,
    kind: &str,
    object: impl serde::Serialize,
) -> Value {
    let mut object = serde_json::to_value(object).unwrap();
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object
}

fn done(id: String, outcome: order_done::Outcome) -> from_agent::Message {
    let seen = "as ordered".to_owned();
    let outcome = outcome.into();
    from_agent::Message::Done(OrderDone { id, epoch: 3, outcome, seen, survivors: Vec::new() })
}
