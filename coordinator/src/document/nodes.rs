//! Which nodes a document selects, and in which order they go.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use rehull_shared::ids::NodeName;

use super::{ControlPlanes, Fault, Nodes};
use crate::{
    domain::plan::{PlannedNode, Role},
    inventory::Inventory,
};

/// The nodes that are migrated: workers, the canary first, then all control planes if they are, those
/// that are not the first of the inventory before the one that is.
pub(super) fn selected(
    nodes: &Nodes,
    control_planes: ControlPlanes,
    inventory: &Inventory,
) -> Result<Vec<PlannedNode>, Fault> {
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
    let mut all: Vec<(&NodeName, Role)> =
        names.into_iter().map(|name| (name, Role::Worker)).collect();
    if control_planes == ControlPlanes::Include {
        let (first, others) = stacked(inventory)?;
        all.extend(others.iter().map(|name| (name, Role::ControlPlane)));
        all.push((first, Role::FirstControlPlane));
    }
    if all.is_empty() {
        return Err(Fault::of("spec.nodes", "selects no worker"));
    }
    let planned = all.into_iter().enumerate();
    planned.map(|(number, (name, role))| planned_node(name, number == 0, role, inventory)).collect()
}

/// The first control plane and the others, if each of them holds a member of etcd and nobody else does,
/// and there are enough of them that one can go.
///
/// # Errors
/// A [`Fault`] of `spec.controlPlanes`: why they cannot be migrated.
pub(crate) fn stacked(inventory: &Inventory) -> Result<(&NodeName, &[NodeName]), Fault> {
    let path = "spec.controlPlanes";
    let (planes, etcd) = (&inventory.control_planes, &inventory.etcd);
    let (Some((first, others)), Some(first_of_etcd)) = (planes.split_first(), etcd.first()) else {
        return Err(Fault::of(path, "the inventory has no control plane, or no etcd"));
    };
    if let Some(name) = etcd.iter().find(|name| !planes.contains(name)) {
        let why = format!(
            "{name} is a member of etcd and no control plane: etcd on hosts of its own is not \
             migrated; use Exclude"
        );
        return Err(Fault::of(path, why));
    }
    if let Some(name) = planes.iter().find(|name| !etcd.contains(name)) {
        let why = format!("{name} is a control plane without a member of etcd; use Exclude");
        return Err(Fault::of(path, why));
    }
    if planes.len() < 3 || planes.len() % 2 == 0 {
        let why = format!(
            "there are {}: with less than three, or an even number, etcd does not bear that one \
             goes; use Exclude",
            planes.len()
        );
        return Err(Fault::of(path, why));
    }
    if first != first_of_etcd {
        let why = format!(
            "{first} is the first of kube_control_plane, and {first_of_etcd} of etcd: put the same \
             one first in both, and apply that with cluster.yml"
        );
        return Err(Fault::of(path, why));
    }
    Ok((first, others))
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
    role: Role,
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
    Ok(PlannedNode { name: name.clone(), address: address.to_owned(), canary, role })
}
