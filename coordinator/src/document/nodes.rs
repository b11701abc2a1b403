//! Which nodes a document selects, and in which order they go.

use std::net::IpAddr;

use rehull_shared::ids::NodeName;

use super::{Fault, Nodes};
use crate::{domain::plan::PlannedNode, inventory::Inventory};

/// The workers that are migrated, the canary first.
pub(super) fn selected(nodes: &Nodes, inventory: &Inventory) -> Result<Vec<PlannedNode>, Fault> {
    if !nodes.include.is_empty() && !nodes.exclude.is_empty() {
        return Err(Fault::of("spec.nodes", "give include or exclude, not both"));
    }
    let canary: Vec<NodeName> = nodes.canary.iter().cloned().collect();
    for (path, names) in [
        ("spec.nodes.include", &nodes.include),
        ("spec.nodes.exclude", &nodes.exclude),
        ("spec.nodes.order", &nodes.order),
        ("spec.nodes.canary", &canary),
    ] {
        known(path, names, inventory)?;
    }
    let chosen = |name: &&NodeName| {
        let wanted = nodes.include.is_empty() || nodes.include.contains(name);
        wanted && !nodes.exclude.contains(name)
    };
    let mut names: Vec<&NodeName> = inventory.workers().filter(chosen).collect();
    for (path, wanted) in [("spec.nodes.order", &nodes.order), ("spec.nodes.canary", &canary)] {
        if let Some(name) = wanted.iter().find(|name| !names.contains(name)) {
            return Err(Fault::of(path, format!("{name} is not selected by include or exclude")));
        }
    }
    // A stable sort: whoever is not named keeps the order of the inventory.
    let place = |name: &NodeName| nodes.order.iter().position(|other| other == name);
    names.sort_by_key(|name| place(name).unwrap_or(usize::MAX));
    names.sort_by_key(|name| nodes.canary.as_ref() != Some(name));
    if names.is_empty() {
        return Err(Fault::of("spec.nodes", "selects no worker"));
    }
    let planned = names.into_iter().enumerate();
    planned.map(|(number, name)| planned_node(name, number == 0, inventory)).collect()
}

/// Every name is a worker, and is given once.
fn known(path: &str, names: &[NodeName], inventory: &Inventory) -> Result<(), Fault> {
    for (number, name) in names.iter().enumerate() {
        if names[..number].contains(name) {
            return Err(Fault::of(path, format!("{name} is given twice")));
        }
        if inventory.host(name).is_none() {
            return Err(Fault::of(path, format!("{name} is not a host of the inventory")));
        }
        if inventory.control_planes.contains(name) || inventory.etcd.contains(name) {
            let why = format!("{name} is a control plane or a member of etcd, not a worker");
            return Err(Fault::of(path, why));
        }
        if !inventory.nodes.contains(name) {
            return Err(Fault::of(path, format!("{name} is not in the group kube_node")));
        }
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
        let why = "needs its IP address in the inventory, as ip or ansible_host: it must be the \
                   same after the reinstall";
        return Err(Fault::of(format!("inventory: all.hosts.{name}"), why));
    }
    Ok(PlannedNode { name: name.clone(), address: address.to_owned(), canary })
}
