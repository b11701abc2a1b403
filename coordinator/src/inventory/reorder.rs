//! Puts a host last in the groups whose order is data, by moving as little text as can be.
//!
//! Serialisers sort or rewrite (E13), so nothing is serialised: in a list of one host a line, the
//! host's line moves below the last one; in braces, the names change places. Comments on lines of
//! their own stay where they are. Then what was edited is read again: if anything but the order of
//! these groups has changed, it is refused.

use std::{collections::BTreeSet, ops::Range};

use rehull_shared::ids::NodeName;

use super::{GROUPS, Inventory, Understood, understood};
use crate::yaml::{
    Fault, Tree,
    layout::{Layout, Number, Pair, Style},
};

/// A piece of text, and what comes in its place.
type Edit = (Range<usize>, String);

/// The inventory with a control plane last in `kube_control_plane`, `kube_node` and `etcd`, as far as
/// it is in them, so that another one is the first.
///
/// # Errors
/// A [`Fault`] with the line, if the inventory is not understood, the host is no control plane, or
/// the text cannot be edited so that nothing else changes: a host that comes by a merge key, a list
/// that other groups share by an anchor, an anchor that would come to stand behind its alias.
pub fn with_last(text: &str, last: &NodeName) -> Result<String, Fault> {
    let Understood { layout, tree: mut meant, inventory } = understood(text)?;
    if !inventory.control_planes.contains(last) {
        let known: Vec<&str> = inventory.control_planes.iter().map(NodeName::as_str).collect();
        let why = format!("{last} is not in it: it has {}", known.join(", "));
        return Err(Fault::of("kube_control_plane", why));
    }
    let mut edits: Vec<Edit> = Vec::new();
    let mut first = None;
    let mut shared = BTreeSet::new();
    for group in GROUPS {
        if !put_last(&mut meant, group, last) {
            continue; // it is last already, or not in it
        }
        let list = find(&layout, layout.root(), group);
        let list = list.ok_or_else(|| refused(0, group, "it comes by a merge key (<<)"))?;
        let _ = first.get_or_insert((list.key.line, group));
        // Groups may share a list by an anchor: it is edited once.
        if shared.insert(list.value) {
            let edit = moved(text, &layout, list, last);
            edits.extend(edit.map_err(|(line, why)| refused(line, group, why))?);
        }
    }
    // Names of members of etcd may be those of the old positions (F62).
    Inventory::of(&meant).map_err(|fault| {
        let why = format!("with {last} last, this {}; take the variable out", fault.why);
        Fault { why, ..fault }
    })?;
    edits.sort_by_key(|(bytes, _)| (bytes.start, bytes.end));
    let mut edited = text.to_owned();
    for (bytes, with) in edits.iter().rev() {
        edited.replace_range(bytes.clone(), with);
    }
    let why = "other things would change with it: give each group a list of its own, one host a \
               line, without anchors";
    let (line, group) = first.unwrap_or_default();
    match means(&edited, &meant, text, &layout) {
        true => Ok(edited),
        false => Err(refused(line, group, why)),
    }
}

/// Whether an edited text means what is meant. The lines of `all.children` are read by themselves if
/// they can be: thousands of hosts need not be read again whose bytes are the same.
fn means(edited: &str, meant: &Tree<'_>, text: &str, layout: &Layout<'_>) -> bool {
    let Some(lines) = children_alone(text, layout) else {
        return Tree::parse(edited).is_ok_and(|found| found == *meant);
    };
    let end = edited.len() - (text.len() - lines.end);
    let same = edited[..lines.start] == text[..lines.start] && edited[end..] == text[lines.end..];
    let children = meant.get("all").and_then(|all| all.get("children"));
    let found = Tree::parse(&edited[lines.start..end]);
    same && found.is_ok_and(|found| found.entries().len() == 1 && found.get("children") == children)
}

/// The lines of `all.children`, if they mean by themselves what they mean in their text: whole lines
/// of a block, without anchors and aliases.
fn children_alone(text: &str, layout: &Layout<'_>) -> Option<Range<usize>> {
    let all = layout.get(layout.root(), "all")?.value;
    let (Style::Block, _) = layout.map(all)? else { return None };
    let lines = lines(text, layout.get(all, "children")?).ok()?;
    (!text[lines.clone()].contains(['&', '*'])).then_some(lines)
}

fn refused(line: usize, group: &str, why: &str) -> Fault {
    let why = format!("the order cannot be changed by moving text: {why}");
    Fault { line, column: line.min(1), path: format!("{group}.hosts"), why }
}

/// Puts a host last in a group. Says whether that has changed anything.
fn put_last(groups: &mut Tree<'_>, group: &str, last: &NodeName) -> bool {
    let Tree::Map(groups) = groups else { return false };
    let mut changed = false;
    for entry in groups {
        let Tree::Map(parts) = &mut entry.value else { continue };
        for part in parts {
            match (part.key.as_ref(), &mut part.value) {
                ("children", below) => changed |= put_last(below, group, last),
                ("hosts", Tree::Map(hosts)) if entry.key == group => {
                    let place = hosts.iter().position(|host| host.key == last.as_str());
                    if let Some(place) = place.filter(|place| place + 1 < hosts.len()) {
                        hosts[place..].rotate_left(1);
                        changed = true;
                    }
                }
                _ => (),
            }
        }
    }
    changed
}

/// Where the hosts of a group are written.
fn find<'a, 't>(layout: &'a Layout<'t>, groups: Number, group: &str) -> Option<&'a Pair<'t>> {
    layout.map(groups)?.1.iter().find_map(|pair| {
        let hosts = layout.get(pair.value, "hosts").filter(|_| pair.key.text == group);
        let hosts = hosts
            .filter(|hosts| layout.map(hosts.value).is_some_and(|(_, pairs)| !pairs.is_empty()));
        hosts.or_else(|| find(layout, layout.get(pair.value, "children")?.value, group))
    })
}

/// The edits that move a host to the end of a list; else a line and what is wrong there.
fn moved(
    text: &str,
    layout: &Layout<'_>,
    list: &Pair<'_>,
    last: &NodeName,
) -> Result<Vec<Edit>, (usize, &'static str)> {
    let Some((style, pairs)) = layout.map(list.value) else {
        return Err((list.key.line, "it is no list"));
    };
    let place = pairs.iter().position(|pair| pair.key.text == last.as_str());
    let place = place.ok_or((list.key.line, "the host comes by a merge key (<<)"))?;
    let [host, .., end] = &pairs[place..] else { return Ok(Vec::new()) };
    match style {
        Style::Flow => {
            let taken = |pair: &Pair<'_>| pair.key.at.start..flow_end(text, pair);
            let (slots, others) = (&pairs[place..], &pairs[place + 1..]);
            let rotated = others.iter().chain([host]);
            let edit = |(slot, pair): (&Pair<'_>, &Pair<'_>)| {
                let (slot, mut with) = (taken(slot), text[taken(pair)].to_owned());
                // What libyaml takes for a part of the name, or for an error: "name:,".
                if with.ends_with(':') && !text[slot.end..].starts_with(char::is_whitespace) {
                    with.push(' ');
                }
                (slot, with)
            };
            Ok(slots.iter().zip(rotated).map(edit).collect())
        }
        Style::Block => {
            let (from, below) = (lines(text, host)?, lines(text, end)?.end);
            let mut block = text[from.clone()].to_owned();
            if !text[..below].ends_with('\n') {
                // The last line of the text has no end: it gets that of the line that comes below.
                let kept = block.trim_end_matches(['\r', '\n']).len();
                let line_end = block.split_off(kept);
                block.insert_str(0, &line_end);
            }
            Ok(vec![(from, String::new()), (below..below, block)])
        }
    }
}

/// The whole lines of a pair.
fn lines(text: &str, pair: &Pair<'_>) -> Result<Range<usize>, (usize, &'static str)> {
    let start = text[..pair.key.at.start].rfind('\n').map_or(0, |at| at + 1);
    if !text[start..pair.key.at.start].chars().all(|c| c == ' ') {
        return Err((pair.key.line, "the host does not begin a line"));
    }
    let end = text[pair.end..].find('\n').map_or(text.len(), |at| pair.end + at + 1);
    Ok(start..end)
}

/// The end of a pair in braces, with its colon where nothing follows that.
fn flow_end(text: &str, pair: &Pair<'_>) -> usize {
    let rest = &text[pair.end..];
    let gap = rest.len() - rest.trim_start().len();
    match rest[gap..].starts_with(':') {
        true => pair.end + gap + 1,
        false => pair.end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reordered(text: &str, last: &str) -> Result<String, String> {
        with_last(text, &last.parse().unwrap()).map_err(|fault| fault.to_string())
    }

    /// An inventory of three control planes and a worker, its groups as given.
    fn with(groups: &str) -> String {
        let hosts = ["m1", "m2", "m3", "w1"].map(|name| format!("    {name}: {{ip: 10.0.0.1}}\n"));
        format!("all:\n  hosts:\n{}  children:\n{groups}", hosts.concat())
    }

    /// The lines of a text that are not in another, in order.
    fn only_in(one: &str, other: &str) -> usize {
        let other: Vec<&str> = other.split_inclusive('\n').collect();
        one.split_inclusive('\n').filter(|line| !other.contains(line)).count()
    }

    const BLOCK: &str = "    kube_control_plane:\n      hosts:\n        # the first one\n        m1: # old\n        m2: null\n        'm3': {}\n    kube_node:\n      hosts:\n        m2:\n        m1:\n        w1: # last\n    etcd:\n      hosts:\n        m1: ~\n        m2: ~\n        m3: ~";

    #[test]
    fn a_line_moves_and_every_other_byte_stays() {
        let text = with(BLOCK);
        let edited = reordered(&text, "m1").unwrap();
        let expected = text
            .replacen(
                "        m1: # old\n        m2: null\n        'm3': {}\n",
                "        m2: null\n        'm3': {}\n        m1: # old\n",
                1,
            )
            .replacen("        m1:\n        w1: # last\n", "        w1: # last\n        m1:\n", 1)
            .replacen(
                "        m1: ~\n        m2: ~\n        m3: ~",
                "        m2: ~\n        m3: ~\n        m1: ~",
                1,
            );
        assert_eq!(edited, expected);
        let again = reordered(&edited, "m1").unwrap();
        assert_eq!(again, edited, "what is in order is left alone");
        let inventory = Inventory::parse(&edited).unwrap();
        assert_eq!(inventory.control_planes[0].as_str(), "m2");
        assert_eq!(inventory.nodes[0].as_str(), "m2");
    }

    #[test]
    fn line_ends_of_other_systems_are_kept() {
        let text = with(BLOCK).replace('\n', "\r\n");
        let edited = reordered(&text, "m1").unwrap();
        assert_eq!(edited, reordered(&with(BLOCK), "m1").unwrap().replace('\n', "\r\n"));
    }

    #[test]
    fn in_braces_names_change_places() {
        let text = with(
            "    kube_control_plane: {hosts: {m1: , m2:, \"m3\" : {} }} # three\n    kube_node:\n      hosts: {m1: null, # one\n        m2: ~,\n        m3: , w1: }\n    etcd: {hosts: {m1, m2, m3}}\n",
        );
        let expected = text
            .replacen("{m1: , m2:, \"m3\" : {} }", "{m2: , \"m3\" : {}, m1: }", 1)
            .replacen(
                "{m1: null, # one\n        m2: ~,\n        m3: , w1: }",
                "{m2: ~, # one\n        m3: ,\n        w1: , m1: null }",
                1,
            )
            .replacen("{m1, m2, m3}", "{m2, m3, m1}", 1);
        assert_eq!(reordered(&text, "m1").unwrap(), expected);
        assert_eq!(only_in(&text, &expected), 5);
    }

    #[test]
    fn a_list_that_the_groups_share_is_edited_once() {
        let text = with(
            "    kube_control_plane: {hosts: &masters {m1: , m2: , m3: }}\n    kube_node: {hosts: *masters}\n    etcd: {hosts: *masters}\n",
        );
        let expected = text.replacen("{m1: , m2: , m3: }", "{m2: , m3: , m1: }", 1);
        assert_eq!(reordered(&text, "m1").unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_proved_is_refused_with_its_line() {
        let nodes = "    kube_node: {hosts: {m1: , m2: , m3: , w1: }}\n";
        let masters = "    kube_control_plane: {hosts: {m1: , m2: , m3: }}\n";
        for (groups, line, words) in [
            (
                format!(
                    "    kube_control_plane: {{hosts: &a {{m1: , m2: , m3: }}}}\n{nodes}    etcd: {{hosts: {{m1: }}}}\n  vars: {{again: *a}}\n"
                ),
                8,
                "other things would change",
            ),
            (
                format!(
                    "    kube_control_plane: {{hosts: &a {{m1: , m2: , m3: }}}}\n    other: {{hosts: *a}}\n{nodes}    etcd: {{hosts: {{m1: }}}}\n"
                ),
                8,
                "other things would change",
            ),
            (
                format!(
                    "    kube_control_plane:\n      hosts:\n        m1: &e {{}}\n        m2: *e\n{nodes}    etcd: {{hosts: {{m1: }}}}\n"
                ),
                9,
                "other things would change",
            ),
            (
                format!(
                    "    kube_control_plane:\n      hosts:\n        ? m1\n        m2:\n{nodes}    etcd: {{hosts: {{m1: }}}}\n"
                ),
                10,
                "does not begin a line",
            ),
            (
                format!("{masters}{nodes}    etcd:\n      hosts: {{<<: {{m1: }}, m2: , m3: }}\n"),
                11,
                "merge key",
            ),
        ] {
            let text = with(&groups);
            let why = reordered(&text, "m1").expect_err(&text);
            assert!(
                why.starts_with(&format!("line {line}, ")) && why.contains(words),
                "{text}{why}"
            );
        }
        let why =
            reordered(&with(&format!("{masters}{nodes}    etcd: {{hosts: {{m1: }}}}\n")), "w1");
        assert_eq!(why.unwrap_err(), "kube_control_plane: w1 is not in it: it has m1, m2, m3");
    }

    #[test]
    fn an_edit_is_proved_to_change_the_order_and_nothing_else() {
        let text = with(BLOCK);
        let layout = Layout::parse(&text).unwrap();
        let edited = reordered(&text, "m1").unwrap();
        let meant = Tree::parse(&edited).unwrap();
        assert!(children_alone(&text, &layout).is_some());
        assert!(means(&edited, &meant, &text, &layout));
        for (from, to) in [
            ("m2: null", "m4: null"),
            ("    etcd:\n", "  etcd:\n"),
            ("        w1: # last\n", ""),
            ("        w1: # last\n", "        w1: # last\n        w2:\n"),
            ("m1: {ip: 10.0.0.1}", "m1: {ip: 10.0.0.2}"),
            ("m3: ~\n        m1: ~", "m3: ~\n        m1: ~\n  more: {}"),
        ] {
            let wrong = edited.replacen(from, to, 1);
            assert_ne!(wrong, edited);
            assert!(!means(&wrong, &meant, &text, &layout), "{from:?} is now {to:?}");
        }
    }

    #[test]
    fn vaults_and_notes_are_left_alone() {
        let vault = "  vars:\n    ansible_password: !vault |\n      $ANSIBLE_VAULT;1.1;AES256\n      6162\n    # m1: a note\n    note: 'm1: {}'\n";
        let text = format!("---\n# ours\n{}\n{vault}", with(BLOCK));
        let edited = reordered(&text, "m1").unwrap();
        assert!(edited.ends_with(vault) && edited.starts_with("---\n# ours\n"));
        assert_eq!(only_in(&edited, &text), 0);
    }
}
