//! `rehull inventory`: what rehull understands of an inventory, and the edit of its order, for an
//! operator to see before a migration makes it.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::ExitCode,
};

use rehull_shared::{ids::NodeName, text::sha256_hex};
use serde::Serialize;
use similar::TextDiff;
use tempfile::NamedTempFile;

use super::{
    Failure, Reach,
    ask::{display, read},
    output::{self, few},
};
use crate::{
    document::stacked,
    inventory::{self, Inventory, Secrets, passwords},
};

/// What becomes of comments.
const COMMENTS: &str = "note: a comment behind a host of a list of one host a line goes with it; all \
                        others stay where they are\n";

/// What rehull understands of an inventory.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Understood {
    /// The file.
    file: String,
    /// How many hosts it has.
    hosts: usize,
    /// The groups whose order counts.
    groups: Vec<Group>,
    /// Hosts that are in none of them: no operation touches them.
    outside: Vec<String>,
    /// Paths and lines of passwords that stand in it as they are: nodes are not migrated before
    /// somebody accepts that (F67).
    passwords: Vec<String>,
    /// Which control plane goes last, or why they are not migrated.
    control_planes: String,
    /// What is allowed, but worth a look.
    notes: Vec<String>,
}

/// A group, in its order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: &'static str,
    first: String,
    hosts: Vec<String>,
}

/// An edit of the order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Edit {
    /// The file.
    file: String,
    /// Whether the order changes.
    changes: bool,
    /// Unified, secrets left out.
    diff: String,
    /// Where what the file was is kept; `None` if it was not written.
    before: Option<PathBuf>,
}

/// Says what is understood, or why it is not.
pub(super) fn check(reach: &Reach, file: &Path) -> Result<ExitCode, Failure> {
    let text = read(file)?;
    let understood = understood(&text).map_err(|why| why.of(display(file)))?;
    let understood = Understood { file: display(file), ..understood };
    output::print(reach.output, &understood, words)
}

fn understood(text: &str) -> Result<Understood, Failure> {
    let inventory = Inventory::parse(text).map_err(Failure::new)?;
    let found = passwords(text).map_err(Failure::new)?;
    let names = |hosts: &[NodeName]| hosts.iter().map(NodeName::to_string).collect::<Vec<_>>();
    let groups = inventory.groups().map(|(name, hosts)| {
        let hosts = names(hosts);
        Group { name, first: hosts.first().cloned().unwrap_or_default(), hosts }
    });
    let inside: std::collections::BTreeSet<&NodeName> =
        inventory.groups().into_iter().flat_map(|(_, hosts)| hosts).collect();
    let outside = inventory.hosts.iter().filter(|host| !inside.contains(&host.name));
    Ok(Understood {
        file: String::new(),
        hosts: inventory.hosts.len(),
        outside: outside.map(|host| host.name.to_string()).collect(),
        passwords: found.into_iter().map(|password| password.place).collect(),
        control_planes: control_planes(&inventory, text),
        notes: notes(&inventory),
        groups: groups.into(),
    })
}

/// What a plan with `controlPlanes: Include` would say.
fn control_planes(inventory: &Inventory, text: &str) -> String {
    let first = match stacked(inventory) {
        Ok((first, _)) => first,
        Err(fault) => return format!("not migrated: {}", fault.why),
    };
    match inventory::with_last(text, first) {
        Ok(_) => format!("can be migrated, {first} last"),
        Err(fault) => format!("not migrated: {fault}"),
    }
}

fn notes(inventory: &Inventory) -> Vec<String> {
    let mut notes = Vec::new();
    let (masters, etcd) = (&inventory.control_planes, &inventory.etcd);
    let members = etcd.len();
    if members % 2 == 0 {
        notes.push(format!(
            "etcd has {members} members: it bears the loss of no more than {} would",
            members - 1
        ));
    }
    let apart: Vec<&str> =
        etcd.iter().filter(|name| !masters.contains(name)).map(NodeName::as_str).collect();
    if !apart.is_empty() {
        notes.push(format!("etcd on hosts that are no control planes: {}", apart.join(", ")));
    }
    notes
}

fn words(understood: &Understood) -> String {
    let Understood { file, hosts, groups, outside, passwords, control_planes, notes } = understood;
    let mut out = format!("{file} is understood: {hosts} hosts\n");
    for Group { name, hosts, .. } in groups {
        let first = " (first)";
        let hosts = few(hosts).replacen(", ", &format!("{first}, "), 1);
        let hosts = if hosts.contains(first) { hosts } else { hosts + first };
        out += &format!("  {name:<18}  {hosts}\n");
    }
    let rows = [("in none of these", outside), ("passwords", passwords), ("note", notes)];
    for (name, lines) in rows {
        match name {
            "note" => lines.iter().for_each(|line| out += &format!("  {name:<18}  {line}\n")),
            _ if lines.is_empty() => (),
            _ => out += &format!("  {name:<18}  {}\n", few(lines)),
        }
    }
    out + &format!("  {:<18}  {control_planes}\n", "control planes")
}

/// Shows the edit, and writes it if that is asked for.
pub(super) fn reorder(
    reach: &Reach,
    file: &Path,
    last: &NodeName,
    write: bool,
) -> Result<ExitCode, Failure> {
    if write && file == Path::new("-") {
        return Err(Failure::usage("--write needs a file: standard input cannot be written"));
    }
    let text = read(file)?;
    let edited = inventory::with_last(&text, last);
    let edited = edited.map_err(|fault| Failure::new(fault).of(display(file)))?;
    let changes = edited != text;
    let before = match write && changes {
        true => Some(replace(file, &text, &edited).map_err(|why| why.of(display(file)))?),
        false => None,
    };
    let mut secrets = Secrets::default();
    secrets.learn(&text);
    let name = display(file);
    let diff = TextDiff::from_lines(&text, &edited);
    let diff = diff.unified_diff().header(&name, &format!("{name} with {last} last")).to_string();
    let comments = match text.contains('#') {
        true => COMMENTS,
        false => "",
    };
    let edit = Edit { file: name, changes, diff: secrets.redact(&diff), before };
    output::print(reach.output, &edit, |edit| match &edit.before {
        _ if !edit.changes => format!("{}: {last} is the last one already\n", edit.file),
        None => edit.diff.clone() + comments,
        Some(before) => {
            let before = before.display();
            format!("{}{comments}{} is written; what it was is in {before}\n", edit.diff, edit.file)
        }
    })
}

/// Writes a file anew, whole or not at all, if it still is what was read. What it was is kept beside
/// it, under a name with its hash.
fn replace(file: &Path, text: &str, edited: &str) -> Result<PathBuf, Failure> {
    let file = fs::canonicalize(file)?; // what a link points to is the file
    let mut kept = file.clone().into_os_string();
    kept.push(format!(".before-{}", &sha256_hex(text.as_bytes())[..12]));
    let kept = PathBuf::from(kept);
    beside(&file, text)?.persist(&kept).map_err(|error| error.error)?;
    let fresh = beside(&file, edited)?;
    if fs::read_to_string(&file)? != text {
        let why = "it has changed since it was read: nothing was written, look at it and try again";
        return Err(Failure::new(why));
    }
    fresh.persist(&file).map_err(|error| error.error)?;
    Ok(kept)
}

/// A new file with the owner and the rights of another one, in its directory.
fn beside(file: &Path, content: &str) -> io::Result<NamedTempFile> {
    let meant = fs::metadata(file)?;
    let mut fresh = NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
    fresh.write_all(content.as_bytes())?;
    let is = fresh.as_file().metadata()?;
    if (is.uid(), is.gid()) != (meant.uid(), meant.gid()) {
        chown(fresh.path(), Some(meant.uid()), Some(meant.gid()))?;
    }
    fresh.as_file().set_permissions(meant.permissions())?;
    fresh.as_file().sync_all()?;
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TEXT: &str = "all:\n  hosts:\n    m1: {ansible_password: hunter2}\n    m2:\n    b1:\n  \
                        children:\n    kube_control_plane:\n      hosts:\n        m1:\n        \
                        m2:\n    kube_node: {hosts: {m1: , m2: }}\n    etcd: {hosts: {m2: , m1: }}\n";

    #[test]
    fn what_is_understood_is_said_in_order_and_without_secrets() {
        let mut found = understood(TEXT).unwrap();
        found.file = "hosts.yml".into();
        assert_eq!(
            words(&found),
            "hosts.yml is understood: 3 hosts\n  \
             kube_control_plane  m1 (first), m2\n  \
             kube_node           m1 (first), m2\n  \
             etcd                m2 (first), m1\n  \
             in none of these    b1\n  \
             passwords           all.hosts.m1.ansible_password (line 3)\n  \
             note                etcd has 2 members: it bears the loss of no more than 1 would\n  \
             control planes      not migrated: there are 2: with less than three, or an even number, \
             etcd does not bear that one goes; use Exclude\n"
        );
        assert!(understood("all: {hosts: {m1: }}").is_err());
    }

    #[test]
    fn a_file_is_written_with_its_rights_and_what_it_was_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("hosts.yml"), dir.path().join("link.yml"));
        fs::write(&file, TEXT).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let edited = inventory::with_last(TEXT, &"m1".parse().unwrap()).unwrap();
        let kept = replace(&link, TEXT, &edited).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), edited);
        assert_eq!(fs::read_to_string(&kept).unwrap(), TEXT);
        for path in [&file, &kept] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        }
        assert!(link.is_symlink());
        assert!(replace(&file, TEXT, "other").is_err(), "it is another one since");
        assert_eq!(fs::read_to_string(&file).unwrap(), edited);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing else is left behind");
    }
}
