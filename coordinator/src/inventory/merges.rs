//! Refuses what Ansible reads in one order or another, by the version of PyYAML below it: several
//! mappings in one merge key (`<<: [*a, *b]`), where groups and hosts are listed. Until 6.0.2 the last
//! one came first, since then the first does. Source: `SafeConstructor.flatten_mapping` of both.

use crate::yaml::{
    Fault,
    layout::{Layout, Number},
};

/// Refuses lists of merged mappings among groups and hosts.
pub(super) fn check(layout: &Layout<'_>) -> Result<(), Fault> {
    groups(layout, layout.root())
}

fn groups(layout: &Layout<'_>, part: Number) -> Result<(), Fault> {
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

fn values<'a>(layout: &'a Layout<'_>, part: Number) -> impl Iterator<Item = (&'a str, Number)> {
    let pairs = layout.map(part).map_or(&[][..], |(_, pairs)| pairs);
    pairs.iter().map(|pair| (pair.key.text.as_ref(), pair.value))
}

fn no_list(layout: &Layout<'_>, part: Number) -> Result<(), Fault> {
    let pairs = layout.map(part).map_or(&[][..], |(_, pairs)| pairs);
    match pairs.iter().find(|pair| pair.key.merges) {
        Some(merge) if layout.is_list(merge.value) => Err(Fault {
            line: merge.key.line,
            column: merge.key.column,
            path: "<<".to_owned(),
            why: "the order of several merged mappings depends on the version of PyYAML below \
                  Ansible: write the hosts out"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}
