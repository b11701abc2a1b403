//! The order of the Cluster's inventory, changed so that the first control plane comes last.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use rehull_shared::{evidence::Verdict, ids::NodeName, text::sha256_hex};

use super::{
    Pass, Requests, Trouble,
    api::{self, Failure},
};
use crate::{
    domain::command::{Report, Request},
    inventory::{self, Inventory},
    kubean::{INVENTORY_KEY, annotation, stored},
};

impl Pass<'_> {
    /// Puts a node last in the inventory, by an edit that is proved to change nothing but the order.
    /// The text before it is kept in a ConfigMap beside it, and the edit is written only onto the very
    /// text that it was made from.
    pub(super) async fn reorder_inventory(&self, node: &NodeName) -> Result<Requests, Trouble> {
        let plan = &self.migration.plan;
        let client = self.management_client().await?;
        let found = stored(&client, &plan.namespace, &plan.cluster).await?;
        let at = &found.cluster.spec.hosts_conf_ref;
        let what = format!("ConfigMap {}/{}", at.namespace, at.name);
        let maps = self.config_maps(&client);
        let map = api::get(&maps, &at.name).await.map_err(|failure| failure.with(&what))?;
        let map = map.ok_or_else(|| Trouble::new(&what, "it does not exist"))?;
        let text = map.data.as_ref().and_then(|data| data.get(INVENTORY_KEY));
        let text = text.ok_or_else(|| Trouble::new(&what, format!("it has no {INVENTORY_KEY}")))?;
        let edited =
            inventory::with_last(text, node).map_err(|fault| Trouble::new(&what, fault))?;
        if edited == *text {
            return Ok(Requests::new());
        }
        let before_sha256 = sha256_hex(text.as_bytes());
        let kept = format!("{}-before-{}", at.name, &before_sha256[..8]);
        let change = format!("{node} is to come last in it; the text before is kept as {kept}");
        if let Some(first) = self.intent_of_change(node, &what, &map, change) {
            return Ok(vec![first]);
        }
        keep_before(&maps, &kept, text, self.migration.id).await?;
        api::write_key(&maps, &map, INVENTORY_KEY, &edited)
            .await
            .map_err(|failure| failure.with(&what))?;
        let (node, after_sha256) = (node.clone(), sha256_hex(edited.as_bytes()));
        Ok(vec![Request::Report(Report::Reordered { node, before_sha256, after_sha256 })])
    }

    /// Whether the node is the last of the control planes, and not the first of etcd, in the inventory
    /// of the Cluster as it is now.
    pub(super) async fn inventory_reordered(&self, node: &NodeName) -> Result<Verdict, Trouble> {
        let plan = &self.migration.plan;
        let client = self.management_client().await?;
        let found = stored(&client, &plan.namespace, &plan.cluster).await?;
        let inventory = Inventory::parse(&found.inventory)
            .map_err(|fault| Trouble::new("the inventory of the Cluster", fault))?;
        Ok(match stands_last(&inventory, node) {
            Ok(first) => Verdict::pass(format!("{first} is the first, and {node} the last")),
            Err(why) => Verdict::fail(why),
        })
    }
}

/// Whether a control plane stands behind all others. Gives the one that playbooks would ask.
///
/// # Errors
/// Why it does not, in words.
fn stands_last(inventory: &Inventory, node: &NodeName) -> Result<NodeName, String> {
    for (group, hosts) in inventory.groups() {
        if hosts.len() > 1 && hosts.first() == Some(node) {
            return Err(format!("{node} is the first of {group}: playbooks would ask it"));
        }
    }
    let planes = &inventory.control_planes;
    match (planes.first(), planes.last()) {
        (Some(first), Some(last)) if last == node => Ok(first.clone()),
        (_, last) => Err(format!(
            "{} is the last of kube_control_plane, not {node}",
            last.map_or("nobody", NodeName::as_str)
        )),
    }
}

/// Keeps the text as it was, once.
async fn keep_before(
    maps: &Api<ConfigMap>,
    name: &str,
    text: &str,
    migration: uuid::Uuid,
) -> Result<(), Trouble> {
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some(BTreeMap::from([(
                annotation::MIGRATION.to_owned(),
                migration.to_string(),
            )])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(INVENTORY_KEY.to_owned(), text.to_owned())])),
        immutable: Some(true),
        ..ConfigMap::default()
    };
    match api::call(maps.create(&PostParams::default(), &map)).await {
        Ok(_) => Ok(()),
        // Its name says what it holds.
        Err(Failure::Refused(status)) if status.code == 409 => Ok(()),
        Err(failure) => Err(failure.with(format!("ConfigMap {name}"))),
    }
}

#[cfg(test)]
mod tests;
