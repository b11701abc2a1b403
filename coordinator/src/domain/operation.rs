//! Names of operations: unique, short enough for the operator, and the same after a crash.

use rehull_shared::{
    ids::{Attempt, ClusterName, NodeName},
    text::sha256_hex,
};

use super::state::Kind;

/// Longest name of a `ClusterOperation`: its Job is called `kubean-<name>-job`, and the name of a
/// Job is also the value of a label, which may have 63 characters (`kubean-observed.md` 8.20).
pub const NAME_MAX: usize = 52;

/// `<cluster>-<rm|add>-<node>-a<attempt>`; if that is too long, the middle gives way to a hash.
pub fn name(cluster: &ClusterName, kind: Kind, node: &NodeName, attempt: Attempt) -> String {
    // A dot would be refused in the names of volumes that are made from names like this one.
    let whole = format!("{cluster}-{}-{node}-a{attempt}", kind.word()).replace('.', "-");
    if whole.len() <= NAME_MAX && !cluster.as_str().contains('.') && !node.as_str().contains('.') {
        return whole;
    }
    let hash = &sha256_hex(format!("{cluster}/{node}").as_bytes())[..12];
    let tail = format!("-{}-{hash}-a{attempt}", kind.word());
    let head: String = whole.chars().take(NAME_MAX - tail.len()).collect();
    format!("{}{tail}", head.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let cluster = |name: &str| name.parse::<ClusterName>().unwrap();
        let node = |name: &str| name.parse::<NodeName>().unwrap();
        let short = name(&cluster("prod"), Kind::Remove, &node("n1"), Attempt(1));
        assert_eq!(short, "prod-rm-n1-a1");
        let long = "x".repeat(60);
        let mut seen = std::collections::BTreeSet::new();
        for host in ["worker-1.rack-7.example", "worker-1-rack-7.example", &long] {
            for attempt in [1, 2, 4_000_000_000] {
                for kind in [Kind::Remove, Kind::Join] {
                    let name = name(&cluster("prod"), kind, &node(host), Attempt(attempt));
                    assert!(name.len() <= NAME_MAX && !name.contains('.'), "{name}");
                    assert!(seen.insert(name.clone()), "{name} names two operations");
                }
            }
        }
    }
}
