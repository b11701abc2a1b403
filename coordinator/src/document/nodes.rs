//! Which nodes a document selects, and in which order they go.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use rehull_shared::ids::NodeName;

use super::{Fault, Nodes};
use crate::{domain::plan::PlannedNode, inventory::Inventory};

/// The workers that are migrated, the canary first.
pub(super) fn selected(nodes: &Nodes, inventory: &Inventory) -> Result<Vec<PlannedNode>, Fault> {
    if !nodes.include.is_empty() && !nodes.exclude.is_empty() {
        return Err(Fault::of("spec.nodes", "give include or exclude, not both"));
    }
    let canary: Vec<NodeName> = nodes.canary.iter().cloned().collect();
    let workers: BTreeSet<&NodeName> = inventory.workers().collect();
    for (path, names) in [
        ("spec.nodes.include", &nodes.include),
        ("spec.nodes.exclude", &nodes.exclude),
        ("spec.nodes.order", &nodes.order),
        ("spec.nodes.canary", &canary),
    ] {
        known(path, names, &workers, inventory)?;
    }
    let (include, exclude) = (set(&nodes.include), set(&nodes.exclude));
    let chosen = |name: &&NodeName| {
        let wanted = include.is_empty() || include.contains(name);
        wanted && !exclude.contains(name)
    };
    let mut names: Vec<&NodeName> = inventory.workers().filter(chosen).collect();
    for (path, wanted) in [("spec.nodes.order", &nodes.order), ("spec.nodes.canary", &canary)] {
        if let Some(name) = wanted.iter().find(|name| !chosen(name)) {
            return Err(Fault::of(path, format!("{name} is not selected by include or exclude")));
        }
    }
    // A stable sort: whoever is not named keeps the order of the inventory.
    let places: BTreeMap<&NodeName, usize> = nodes.order.iter().zip(0..).collect();
    names.sort_by_key(|name| places.get(name).copied().unwrap_or(usize::MAX));
    names.sort_by_key(|name| nodes.canary.as_ref() != Some(name));
    if names.is_empty() {
        return Err(Fault::of("spec.nodes", "selects no worker"));
    }
    let planned = names.into_iter().enumerate();
    planned.map(|(number, name)| planned_node(name, number == 0, inventory)).collect()
}

fn set(names: &[NodeName]) -> BTreeSet<&NodeName> {
    names.iter().collect()
}

/// Every name is a worker, and is given once.
fn known(
    path: &str,
    names: &[NodeName],
    workers: &BTreeSet<&NodeName>,
    inventory: &Inventory,
) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Fault::of(path, format!("{name} is given twice")));
        }
        if workers.contains(name) {
            continue;
        }
        if inventory.host(name).is_none() {
            return Err(Fault::of(path, format!("{name} is not a host of the inventory")));
        }
        if inventory.control_planes.contains(name) || inventory.etcd.contains(name) {
            let why = format!("{name} is a control plane or a member of etcd, not a worker");
            return Err(Fault::of(path, why));
        }
        return Err(Fault::of(path, format!("{name} is not in the group kube_node")));
    }
    Ok(())
}

fn planned_node(
    name: &NodeName,
    canary: bool,
    inventory: &Inventory,
) -> Result<PlannedNode, Fault> {
    let address = inventory.host(name).and_then(|host| host.address()).unwrap_or_default();
    if address.parse::<IpAddr>().is_err() {
        let why = format!(
            "{name} needs its IP address in the inventory, as ip or ansible_host: it must be the \
             same after the reinstall"
        );
        return Err(Fault::of("spec.nodes", why));
    }
    Ok(PlannedNode { name: name.clone(), address: address.to_owned(), canary })
}
