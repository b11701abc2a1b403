//! Leaves hosts out of an inventory: whole lines go, every other byte stays as it was.

use rehull_shared::ids::NodeName;

use super::{Inventory, Understood, understood};
use crate::yaml::{Entry, Fault, Tree};

/// The inventory without some hosts, for an operation while they are out. Every line that is not
/// theirs is kept as it is, and the result is read again to prove that nothing else has changed.
///
/// # Errors
/// A [`Fault`] with the line, if a host cannot be taken out by taking out lines (flow style, an
/// anchor that others use), or if the inventory is not understood before or after.
pub fn without(text: &str, out: &[NodeName]) -> Result<String, Fault> {
    let Understood { tree, .. } = understood(text)?;
    if out.is_empty() {
        return Ok(text.to_owned());
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut dropped = vec![false; lines.len()];
    let mut meant = tree;
    let mut faults = Vec::new();
    each_host_list(&mut meant, &mut |hosts| {
        hosts.retain(|entry| {
            let goes = out.iter().any(|name| entry.key == name.as_str());
            if goes && let Err(fault) = drop_block(&lines, entry, &mut dropped) {
                faults.push(fault);
            }
            !goes
        });
    });
    if let Some(fault) = faults.into_iter().next() {
        return Err(fault);
    }
    let kept = lines.iter().zip(&dropped).filter(|(_, dropped)| !**dropped);
    let edited: String = kept.map(|(line, _)| *line).collect();
    let mut found = Tree::parse(&edited).map_err(|fault| after(&fault.why))?;
    each_host_list(&mut found, &mut |_| ());
    if found != meant {
        return Err(after("other things than the hosts would change"));
    }
    Inventory::of(&found).map_err(|fault| after(&fault.to_string()))?;
    Ok(edited)
}

fn after(why: &str) -> Fault {
    let why = format!("hosts that are out cannot be left out of it: {why}");
    Fault::of("", why)
}

/// Calls `edit` with every list of hosts, of `all` and of every group below it. A list that is
/// empty afterwards is nothing, as it is when its lines are gone.
fn each_host_list<'t>(tree: &mut Tree<'t>, edit: &mut impl FnMut(&mut Vec<Entry<'t>>)) {
    let Tree::Map(groups) = tree else { return };
    for group in groups {
        let Tree::Map(parts) = &mut group.value else { continue };
        for part in parts {
            match part.key.as_ref() {
                "hosts" => {
                    if let Tree::Map(hosts) = &mut part.value {
                        edit(hosts);
                        if hosts.is_empty() {
                            part.value = Tree::Null;
                        }
                    }
                }
                "children" => each_host_list(&mut part.value, edit),
                _ => (),
            }
        }
    }
}

/// Marks the lines of an entry: its key's, and all that are indented more deeply below it.
fn drop_block(lines: &[&str], entry: &Entry<'_>, dropped: &mut [bool]) -> Result<(), Fault> {
    let first = entry.line.wrapping_sub(1);
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let own_line = lines.get(first).is_some_and(|line| {
        let key = line.trim_start_matches([' ', '"', '\'']);
        indent(line) + 1 == entry.column && key.starts_with(entry.key.as_ref())
    });
    if !own_line {
        return Err(Fault {
            line: entry.line,
            column: entry.column,
            path: entry.key.clone().into_owned(),
            why: "the host is out and must be left out, but does not stand on a line of its own: \
                  write one host a line"
                .to_owned(),
        });
    }
    let mut end = first + 1;
    for (number, line) in lines.iter().enumerate().skip(first + 1) {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue; // belongs to the host only if something of the host follows
        }
        if indent(line) < entry.column {
            break;
        }
        end = number + 1;
    }
    dropped[first..end].fill(true);
    Ok(())
}
