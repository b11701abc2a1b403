//! Names of etcd members: kubespray counts them by position, and forgets it where they are given.
//!
//! Its role joins a member under the host's own `etcd_member_name`, and lists the others as
//! `etcd<position>` whatever theirs say: a name that is not its position's comes to be given twice,
//! and etcd refuses to start behind an added member (F62, domain reference 3.3).

use rehull_shared::ids::NodeName;

use super::at;
use crate::yaml::{Entry, Fault, Tree};

/// The variable.
const KEY: &str = "etcd_member_name";

/// Refuses member names that are not those of the positions in the group `etcd`.
pub(super) fn check(all: &Entry<'_>, members: &[NodeName]) -> Result<(), Fault> {
    for host in super::hosts_of(&all.value) {
        let mut given = host.value.entries().iter().filter(|variable| variable.key == KEY);
        let Some(variable) = given.next() else { continue };
        let position = members.iter().position(|member| host.key == member.as_str());
        let Some(position) = position else { continue }; // nobody asks it for a name
        let meant = format!("etcd{}", position + 1);
        if variable.value.text() != Some(meant.as_str()) {
            let path = format!("all.hosts.{}.{KEY}", host.key);
            let why = format!(
                "must be {meant}, after its position in the group etcd, or not be given: \
                 kubespray would give one name to two members"
            );
            return Err(at(variable, &path, why));
        }
    }
    in_group(all, "all")
}

/// Refuses a name that is given to a whole group.
fn in_group(group: &Entry<'_>, path: &str) -> Result<(), Fault> {
    for part in group.value.entries() {
        let path = format!("{path}.{}", part.key);
        match part.key.as_ref() {
            "vars" => for_all(&part.value, &path)?,
            "children" => {
                for child in part.value.entries() {
                    in_group(child, &format!("{path}.{}", child.key))?;
                }
            }
            _ => (),
        }
    }
    Ok(())
}

fn for_all(variables: &Tree<'_>, path: &str) -> Result<(), Fault> {
    match variables.entries().iter().find(|variable| variable.key == KEY) {
        None => Ok(()),
        Some(variable) => {
            let dot = if path.is_empty() { "" } else { "." };
            let why = "must not be given here: every member would have this name";
            Err(at(variable, &format!("{path}{dot}{KEY}"), why))
        }
    }
}

/// Refuses variables of a whole cluster (`group_vars.yml`) that name etcd members: they beat the
/// inventory's.
///
/// # Errors
/// A [`Fault`] with the place of the name, or if the text is not YAML.
pub fn member_names_in(variables: &str) -> Result<(), Fault> {
    for_all(&Tree::parse(variables)?, "")
}
