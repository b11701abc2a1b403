//! Refuses what Ansible reads in one order or another, by the version of PyYAML below it: several
//! mappings in one merge key (`<<: [*a, *b]`), where groups and hosts are listed. Until 6.0.2 the last
//! one came first, since then the first does. Source: `SafeConstructor.flatten_mapping` of both.

use crate::yaml::{
    Fault,
    layout::{Layout, Number},
};

/// Refuses lists of merged mappings among groups and hosts.
pub(super) fn check(layout: &Layout) -> Result<(), Fault> {
    groups(layout, layout.root())
}

fn groups(layout: &Layout, part: Number) -> Result<(), Fault> {
    no_list(layout, part)?;
    for (_, group) in values(layout, part) {
        no_list(layout, group)?;
        for (key, below) in values(layout, group) {
            match key {
                "children" => groups(layout, below)?,
                "hosts" => no_list(layout, below)?,
                _ => (),
            }
        }
    }
    Ok(())
}

fn values(layout: &Layout, part: Number) -> impl Iterator<Item = (&str, Number)> {
    let pairs = layout.map(part).map_or(&[][..], |(_, pairs)| pairs);
    pairs.iter().map(|pair| (pair.key.as_str(), pair.value))
}

fn no_list(layout: &Layout, part: Number) -> Result<(), Fault> {
    match layout.get(part, "<<") {
        Some(merge) if layout.is_list(merge.value) => Err(Fault {
            line: merge.line,
            column: 1,
            path: "<<".to_owned(),
            why: "the order of several merged mappings depends on the version of PyYAML below \
                  Ansible: write the hosts out"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}
