//! Inputs of operations: immutable copies of inventory and variables, one pair for each attempt.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions},
};
use rehull_shared::{
    evidence::Verdict,
    ids::{Attempt, NodeName},
    text::sha256_hex,
};

use super::{
    Pass, Requests,
    api::{self, Failure},
};
use crate::{
    clients::{Endpoint, Trouble},
    domain::{
        command::{Report, Request},
        operation,
        plan::Role,
        state::{Inputs, Kind},
    },
    inventory::{self, Inventory},
    kubean::{ClusterOperation, INVENTORY_KEY, VARS_KEY, annotation, stored},
};

impl Pass<'_> {
    /// Stores what the next operation of a node will read.
    pub(super) async fn prepare(
        &self,
        node: &NodeName,
        kind: Kind,
        attempt: Attempt,
    ) -> Result<Requests, Trouble> {
        let plan = &self.migration.plan;
        let client = self.management_client().await?;
        let found = stored(&client, &plan.namespace, &plan.cluster).await?;
        let left_out = self.absent_but(node);
        let inventory = inventory::without(&found.inventory, &left_out)
            .map_err(|fault| Trouble::new("the inventory of the Cluster", fault))?;
        let inventory = self.for_operation(node, inventory)?;
        let operation = operation::name(&plan.cluster, kind, node, attempt);
        let inputs = Inputs {
            inventory: format!("{operation}-hosts"),
            inventory_sha256: sha256_hex(inventory.as_bytes()),
            vars: format!("{operation}-vars"),
            vars_sha256: sha256_hex(found.vars.as_bytes()),
            ssh_secret: found.cluster.spec.ssh_auth_ref.map(|secret| secret.name),
            left_out,
        };
        let store = Store { pass: self, client: &client, operation: &operation };
        store.keep(&inputs.inventory, INVENTORY_KEY, inventory).await?;
        store.keep(&inputs.vars, VARS_KEY, found.vars).await?;
        Ok(vec![Request::Report(Report::Inputs { node: node.clone(), inputs })])
    }

    /// What an operation of a control plane reads: the first one comes last in it, whatever the order
    /// of the Cluster's own is, and playbooks ask neither it nor one that is away (invariants 8, 9).
    fn for_operation(&self, name: &NodeName, text: String) -> Result<String, Trouble> {
        let trouble =
            |why: &dyn std::fmt::Display| Trouble::new("the inventory of the Cluster", why);
        let text = match self.node(name)?.planned.role {
            Role::Worker => return Ok(text),
            Role::ControlPlane => text,
            Role::FirstControlPlane => {
                inventory::with_last(&text, name).map_err(|fault| trouble(&fault))?
            }
        };
        asks_another(&text, name).map_err(|why| trouble(&why))?;
        Ok(text)
    }

    /// Other nodes that no playbook would reach: one of them would end an operation for all (F66).
    pub(super) fn absent_but(&self, node: &NodeName) -> Vec<NodeName> {
        let absent = self.migration.nodes.iter().filter(|other| other.is_absent());
        absent.map(|other| other.planned.name.clone()).filter(|other| other != node).collect()
    }

    /// Deletes ConfigMaps whose operation is over or gone; the garbage collector has taken those of
    /// operations that are gone already, unless the operator never came to own them.
    pub(super) async fn clean_up(&self) -> Result<Requests, Trouble> {
        let client = self.management_client().await?;
        let maps = self.config_maps(&client);
        let operations: Api<ClusterOperation> = Api::all(client.clone());
        for map in self.left_behind(&maps).await? {
            let name = map.metadata.name.clone().unwrap_or_default();
            let marks = map.metadata.annotations.unwrap_or_default();
            if let Some(operation) = marks.get(annotation::OPERATION) {
                let found = api::get(&operations, operation).await;
                let found = found.map_err(|failure| failure.with(operation))?;
                if found.is_some_and(|operation| !operation.is_over()) {
                    continue; // it may still read them
                }
            }
            delete(&maps, &name, map.metadata.uid).await?;
        }
        Ok(Requests::new())
    }

    /// ConfigMaps that were made for this migration.
    pub(super) async fn left_behind(
        &self,
        maps: &Api<ConfigMap>,
    ) -> Result<Vec<ConfigMap>, Trouble> {
        let label = format!("{}={}", annotation::MIGRATION, self.migration.id);
        let list = api::list(maps, ListParams::default().labels(&label), Some).await;
        list.map_err(|failure| failure.with("ConfigMaps of this migration"))
    }

    /// Whether the stored inputs are those that were planned, and cannot change.
    pub(super) async fn inputs_stored(&self, client: &Client, inputs: &Inputs) -> Verdict {
        let maps = self.config_maps(client);
        for (name, key, sha256) in [
            (&inputs.inventory, INVENTORY_KEY, &inputs.inventory_sha256),
            (&inputs.vars, VARS_KEY, &inputs.vars_sha256),
        ] {
            let map = match api::get(&maps, name).await {
                Ok(Some(map)) => map,
                Ok(None) => return Verdict::fail(format!("ConfigMap {name} does not exist")),
                Err(failure) => return Verdict::unknown(format!("ConfigMap {name}: {failure}")),
            };
            if map.immutable != Some(true) {
                return Verdict::fail(format!("ConfigMap {name} is not immutable"));
            }
            if hash_of(&map, key).as_ref() != Some(sha256) {
                return Verdict::fail(format!("ConfigMap {name} holds another {key} than planned"));
            }
        }
        let out: Vec<&str> = inputs.left_out.iter().map(NodeName::as_str).collect();
        let out = if out.is_empty() { "nobody".to_owned() } else { out.join(", ") };
        let (inventory, vars) = (&inputs.inventory, &inputs.vars);
        Verdict::pass(format!("{inventory} and {vars} are as planned; left out: {out}"))
    }

    pub(super) fn config_maps(&self, client: &Client) -> Api<ConfigMap> {
        Api::namespaced(client.clone(), &self.migration.plan.namespace)
    }

    pub(super) async fn management_client(&self) -> Result<Client, Trouble> {
        self.context.clients.get(&self.migration.plan, Endpoint::Management).await
    }
}

/// Whether playbooks would ask another control plane and another member of etcd than this node.
fn asks_another(text: &str, node: &NodeName) -> Result<(), String> {
    let inventory = Inventory::parse(text).map_err(|fault| fault.to_string())?;
    let firsts = [("kube_control_plane", &inventory.control_planes), ("etcd", &inventory.etcd)];
    match firsts.into_iter().find(|(_, hosts)| hosts.first() == Some(node)) {
        Some((group, _)) => Err(format!("{node} is the first of {group}: playbooks would ask it")),
        None => Ok(()),
    }
}

fn hash_of(map: &ConfigMap, key: &str) -> Option<String> {
    Some(sha256_hex(map.data.as_ref()?.get(key)?.as_bytes()))
}

/// Deletes the very object that was seen.
async fn delete(maps: &Api<ConfigMap>, name: &str, uid: Option<String>) -> Result<(), Trouble> {
    let preconditions = Preconditions { uid, resource_version: None };
    let how = DeleteParams::background().preconditions(preconditions);
    match api::call(maps.delete(name, &how)).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_absence() => Ok(()),
        Err(failure) => Err(failure.with(format!("ConfigMap {name}"))),
    }
}

/// Where the inputs of one operation are kept.
struct Store<'a> {
    pass: &'a Pass<'a>,
    client: &'a Client,
    operation: &'a str,
}

impl Store<'_> {
    async fn keep(&self, name: &str, key: &str, text: String) -> Result<(), Trouble> {
        let maps = self.pass.config_maps(self.client);
        let migration = self.pass.migration.id.to_string();
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(BTreeMap::from([(annotation::MIGRATION.to_owned(), migration)])),
                annotations: Some(BTreeMap::from([(
                    annotation::OPERATION.to_owned(),
                    self.operation.to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(key.to_owned(), text)])),
            immutable: Some(true),
            ..ConfigMap::default()
        };
        match api::call(maps.create(&PostParams::default(), &map)).await {
            Ok(_) => Ok(()),
            Err(Failure::Refused(status)) if status.code == 409 => {
                self.compare(&maps, name, key, &map).await
            }
            Err(failure) => Err(failure.with(format!("ConfigMap {name}"))),
        }
    }

    /// What is there already is ours from before a crash, or an obstacle.
    async fn compare(
        &self,
        maps: &Api<ConfigMap>,
        name: &str,
        key: &str,
        wanted: &ConfigMap,
    ) -> Result<(), Trouble> {
        let what = format!("ConfigMap {name}");
        let found = api::get(maps, name).await.map_err(|failure| failure.with(&what))?;
        let Some(found) = found else {
            return Err(Trouble::new(what, "it has just been deleted"));
        };
        if found.immutable == Some(true) && hash_of(&found, key) == hash_of(wanted, key) {
            return Ok(());
        }
        let label =
            |map: &ConfigMap| map.metadata.labels.as_ref()?.get(annotation::MIGRATION).cloned();
        if label(&found) != label(wanted) {
            let why = "it exists with another content and was not made for this migration: \
                       delete it";
            return Err(Trouble::new(what, why));
        }
        // Ours, of an inventory that has changed since. No operation has been intended with it, or
        // its attempt would be another one; so nobody reads it.
        let operations: Api<ClusterOperation> = Api::all(self.client.clone());
        let reader = api::get(&operations, self.operation).await;
        if reader.map_err(|failure| failure.with(self.operation))?.is_some() {
            let why = "it has another content, and the operation that reads it exists";
            return Err(Trouble::new(what, why));
        }
        delete(maps, name, found.metadata.uid).await?;
        Err(Trouble::new(what, "it was of an older inventory, and is made anew"))
    }
}

#[cfg(test)]
mod tests;
