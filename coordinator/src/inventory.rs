//! Kubean's inventory: understood in a strict form, or refused with the place that is not.
//!
//! The order of hosts is data (the first control plane is special), so nothing here goes through a
//! sorted map. Passwords in it are found by their path; their values go nowhere.

use std::collections::BTreeMap;

use rehull_shared::ids::NodeName;

use crate::yaml::{Entry, Fault, Tree, layout::Layout};

mod edit;
mod etcd;
mod merges;
mod reorder;
mod secrets;

pub use edit::without;
pub use etcd::member_names_in;
pub use reorder::with_last;
pub use secrets::{Password, Secrets, passwords};

/// The groups that an inventory must have.
const GROUPS: [&str; 3] = ["kube_control_plane", "kube_node", "etcd"];

/// Other groups that kubespray knows.
const OTHER_GROUPS: [&str; 4] = ["all", "k8s_cluster", "calico_rr", "bastion"];

/// An inventory as far as a migration needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Every host, in the order of `all.hosts`.
    pub hosts: Vec<Host>,
    /// Where each host is in them: there may be thousands, and every group names them again.
    places: BTreeMap<NodeName, usize>,
    /// `kube_control_plane`, in order: the first one is special.
    pub control_planes: Vec<NodeName>,
    /// `kube_node`, in order.
    pub nodes: Vec<NodeName>,
    /// `etcd`, in order: the first one is special.
    pub etcd: Vec<NodeName>,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name, which is also the name of its Node.
    pub name: NodeName,
    /// The address to which Kubernetes binds.
    pub ip: Option<String>,
    /// The address by which other hosts reach it.
    pub access_ip: Option<String>,
    /// The address by which Ansible reaches it.
    pub ansible_host: Option<String>,
}

impl Host {
    /// The address of its Node: what Kubernetes binds to, else where Ansible goes.
    pub fn address(&self) -> Option<&str> {
        self.ip.as_deref().or(self.ansible_host.as_deref())
    }
}

impl Inventory {
    /// Understands an inventory.
    ///
    /// # Errors
    /// A [`Fault`] for whatever could mean something else to Ansible than it seems to: unknown
    /// keys, groups that look like a misspelt one (E4), patterns in place of names (F15), names of
    /// etcd members that would come to be given twice (F62).
    pub fn parse(text: &str) -> Result<Self, Fault> {
        understood(text).map(|understood| understood.inventory)
    }

    fn of(tree: &Tree<'_>) -> Result<Self, Fault> {
        let [all] = tree.entries() else {
            return Err(Fault::of("", "an inventory has the one top-level key \"all\""));
        };
        if all.key != "all" {
            return Err(at(all, &all.key, "an inventory has the one top-level key \"all\""));
        }
        let mut inventory = Self {
            hosts: Vec::new(),
            places: BTreeMap::new(),
            control_planes: Vec::new(),
            nodes: Vec::new(),
            etcd: Vec::new(),
        };
        for entry in hosts_of(&all.value) {
            let host = host(entry)?;
            inventory.places.insert(host.name.clone(), inventory.hosts.len());
            inventory.hosts.push(host);
        }
        inventory.group("all", all, &mut Vec::new())?;
        for (group, hosts) in inventory.groups() {
            if hosts.is_empty() {
                let why = "the group has no hosts, or its name is misspelt";
                return Err(Fault::of(format!("all.children.{group}"), why));
            }
        }
        etcd::check(all, &inventory.etcd)?;
        Ok(inventory)
    }

    /// The groups whose order counts, each with its hosts in order.
    pub fn groups(&self) -> [(&'static str, &[NodeName]); 3] {
        let [masters, nodes, etcd] = GROUPS;
        [(masters, &self.control_planes), (nodes, &self.nodes), (etcd, &self.etcd)]
    }

    /// The host of this name.
    pub fn host(&self, name: &NodeName) -> Option<&Host> {
        self.places.get(name).map(|place| &self.hosts[*place])
    }

    /// Hosts that are nodes and nothing else, in the order of `kube_node`.
    pub fn workers(&self) -> impl Iterator<Item = &NodeName> {
        let special =
            |name: &NodeName| self.control_planes.contains(name) || self.etcd.contains(name);
        self.nodes.iter().filter(move |name| !special(name))
    }

    /// Takes one group in, and the groups below it. `filled` are the groups that had hosts.
    fn group(
        &mut self,
        path: &str,
        group: &Entry<'_>,
        filled: &mut Vec<String>,
    ) -> Result<(), Fault> {
        check_name(path, group)?;
        if group.key.parse().is_ok_and(|name| self.host(&name).is_some()) {
            let why = "a host has the same name: Ansible would take the group for it (F15)";
            return Err(at(group, path, why));
        }
        must_be_mapping(group, path)?;
        for part in group.value.entries() {
            let path = format!("{path}.{}", part.key);
            must_be_mapping(part, &path)?;
            match part.key.as_ref() {
                "vars" => (),
                "hosts" if path == "all.hosts" => (),
                "hosts" => self.members(&path, group, part, filled)?,
                "children" => {
                    if GROUPS.contains(&group.key.as_ref()) && !part.value.is_empty() {
                        return Err(at(part, &path, "this group must name its hosts itself"));
                    }
                    for child in part.value.entries() {
                        self.group(&format!("{path}.{}", child.key), child, filled)?;
                    }
                }
                _ => {
                    let why = "a group has hosts, children and vars, and nothing else";
                    return Err(at(part, &path, why));
                }
            }
        }
        Ok(())
    }

    fn members(
        &mut self,
        path: &str,
        group: &Entry<'_>,
        hosts: &Entry<'_>,
        filled: &mut Vec<String>,
    ) -> Result<(), Fault> {
        let mut names = Vec::new();
        for entry in hosts.value.entries() {
            let path = format!("{path}.{}", entry.key);
            let name = name(entry, &path)?;
            if self.host(&name).is_none() {
                return Err(at(entry, &path, "the host is not one of all.hosts"));
            }
            if !entry.value.is_empty() {
                let why = "variables of a host belong under all.hosts, not under a group";
                return Err(at(entry, &path, why));
            }
            names.push(name);
        }
        if names.is_empty() {
            return Ok(());
        }
        if filled.iter().any(|other| *other == group.key) {
            return Err(at(hosts, path, "the group has its hosts in two places"));
        }
        filled.push(group.key.clone().into_owned());
        match group.key.as_ref() {
            "kube_control_plane" => self.control_planes = names,
            "kube_node" => self.nodes = names,
            "etcd" => self.etcd = names,
            _ => (),
        }
        Ok(())
    }
}

/// How an inventory is written, what it means, and what it is.
struct Understood<'t> {
    layout: Layout<'t>,
    tree: Tree<'t>,
    inventory: Inventory,
}

fn understood(text: &str) -> Result<Understood<'_>, Fault> {
    let layout = Layout::parse(text)?;
    let tree = layout.meaning()?;
    merges::check(&layout)?;
    let inventory = Inventory::of(&tree)?;
    Ok(Understood { layout, tree, inventory })
}

fn at(entry: &Entry<'_>, path: &str, why: impl Into<String>) -> Fault {
    let path = rehull_shared::text::bounded(path, 300);
    Fault { line: entry.line, column: entry.column, path, why: why.into() }
}

fn must_be_mapping(entry: &Entry<'_>, path: &str) -> Result<(), Fault> {
    match &entry.value {
        Tree::Null | Tree::Map(_) => Ok(()),
        _ => {
            Err(at(entry, path, "needs a mapping here: each name on a line of its own, with \":\""))
        }
    }
}

fn hosts_of<'a, 't>(group: &'a Tree<'t>) -> &'a [Entry<'t>] {
    group.get("hosts").map_or(&[], Tree::entries)
}

/// The name of a host. No pattern of Ansible is one, and nothing that it reads as another kind of
/// value: it skips such hosts.
fn name(entry: &Entry<'_>, path: &str) -> Result<NodeName, Fault> {
    if is_no_text(&entry.key) {
        let why = "Ansible reads this as a number, a date or a truth value, not as a name: quotes \
                   would help it, but not the next reader, so rename the host";
        return Err(at(entry, path, why));
    }
    entry.key.parse().map_err(|_| {
        let why = "a host needs one literal name of lower case letters, digits, '-' and '.': \
                   ranges and patterns could mean several hosts";
        at(entry, path, why)
    })
}

/// Whether PyYAML may read a word as something else than text. Source: its `resolver.py`.
fn is_no_text(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let date = |text: &str| {
        let parts: Vec<&str> = text.split('-').collect();
        parts.len() == 3 && parts[0].len() == 4 && parts.into_iter().all(digits)
    };
    let of_base = |prefix: &str, base: u32| {
        word.strip_prefix(prefix).is_some_and(|rest| rest.chars().all(|c| c.is_digit(base)))
    };
    matches!(word, "null" | "yes" | "no" | "true" | "false" | "on" | "off" | "y" | "n")
        || digits(word)
        || word.split_once('.').is_some_and(|(whole, rest)| digits(whole) && digits(rest))
        || of_base("0x", 16)
        || of_base("0b", 2)
        || date(word)
}

fn host(entry: &Entry<'_>) -> Result<Host, Fault> {
    let path = format!("all.hosts.{}", entry.key);
    if entry.key == "ungrouped" {
        return Err(at(entry, &path, "Ansible gives this name to a group of its own (F15)"));
    }
    must_be_mapping(entry, &path)?;
    let text = |key: &str| entry.value.get(key).and_then(Tree::text).map(str::to_owned);
    Ok(Host {
        name: name(entry, &path)?,
        ip: text("ip"),
        access_ip: text("access_ip"),
        ansible_host: text("ansible_host"),
    })
}

/// Refuses a group whose name is nearly that of a group that means something (E4): Ansible would
/// take it for another group, and the real one would be empty. `kube-master` is an old name of one
/// (kubespray, `playbooks/legacy_groups.yml`).
fn check_name(path: &str, group: &Entry<'_>) -> Result<(), Fault> {
    if group.key == "kube-master" {
        let why = "playbooks of kubespray take its hosts for control planes, beside those of \
                   kube_control_plane: put them there, and remove this group";
        return Err(at(group, path, why));
    }
    let mut known = GROUPS.iter().chain(&OTHER_GROUPS);
    if known.any(|known| *known == group.key) {
        return Ok(());
    }
    let plain = group.key.to_lowercase().replace(['-', '.'], "_");
    let meant = GROUPS
        .iter()
        .chain(&OTHER_GROUPS[1..])
        .find(|known| plain.ends_with(*known) || (plain.len() > 5 && distance(&plain, known) <= 2));
    match meant {
        None => Ok(()),
        Some(meant) => {
            Err(at(group, path, format!("is the group {meant} meant? rename it to go on")))
        }
    }
}

/// How many letters must be put in, taken out or changed to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
