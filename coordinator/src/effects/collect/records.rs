//! What the coordinator's own log and store of snapshots say.

use rehull_shared::evidence::{Check, Verdict};

use crate::{
    blobs::Blobs,
    domain::state::{Migration, Node},
};

/// Judges one check of the coordinator's records, about the cluster or one of its nodes.
pub(super) fn appraise(
    check: Check,
    migration: &Migration,
    node: Option<&Node>,
    blobs: &Blobs,
) -> Verdict {
    let snapshot = node.and_then(|node| node.snapshot.as_ref());
    match check {
        Check::ObjectsExported => stored("the export", migration.export.as_deref(), blobs),
        Check::NodeRecorded => {
            stored("the Node's record", snapshot.map(|all| all.objects_sha256.as_str()), blobs)
        }
        Check::HostRecorded => {
            stored("the host's record", snapshot.map(|all| all.host_sha256.as_str()), blobs)
        }
        Check::FarewellSaid => match node.and_then(|node| node.farewell) {
            Some(generation) => {
                Verdict::pass(format!("the agent of generation {generation} has said farewell"))
            }
            None => Verdict::fail("the agent has not said farewell"),
        },
        other => Verdict::unknown(format!("the coordinator's records do not speak of {other}")),
    }
}

/// Whether a blob is there and is what its hash says.
fn stored(what: &str, hash: Option<&str>, blobs: &Blobs) -> Verdict {
    let Some(hash) = hash else { return Verdict::fail(format!("{what} is not stored yet")) };
    match blobs.get(hash) {
        Ok(content) => Verdict::pass(format!("{what} is stored ({} bytes, {hash})", content.len())),
        Err(error) => Verdict::unknown(format!("{what} cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use rehull_shared::ids::Generation;

    use super::*;
    use crate::effects::testing::{migration, says, snapshot};

    #[test]
    fn records_count_only_if_they_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let mut plan = migration();
        let judge = |check, plan: &Migration| appraise(check, plan, plan.nodes.first(), &blobs);
        says(&judge(Check::NodeRecorded, &plan), "fail", "is not stored yet");
        says(&judge(Check::ObjectsExported, &plan), "fail", "is not stored yet");
        let hash = blobs.put(b"{}").unwrap();
        plan.export = Some(hash.clone());
        let (objects_sha256, host_sha256) = (hash.clone(), "0".repeat(64));
        plan.nodes[0].snapshot =
            Some(crate::domain::state::Snapshot { objects_sha256, host_sha256, ..snapshot() });
        says(&judge(Check::ObjectsExported, &plan), "pass", &hash);
        says(&judge(Check::NodeRecorded, &plan), "pass", "2 bytes");
        says(&judge(Check::HostRecorded, &plan), "unknown", "cannot be read");
        std::fs::write(dir.path().join(&hash), "[]").unwrap();
        says(&judge(Check::NodeRecorded, &plan), "unknown", "damaged");
    }

    #[test]
    fn a_farewell_is_known_by_its_generation() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let mut plan = migration();
        let judge =
            |plan: &Migration| appraise(Check::FarewellSaid, plan, plan.nodes.first(), &blobs);
        says(&judge(&plan), "fail", "has not said farewell");
        plan.nodes[0].farewell = Some(Generation(3));
        says(&judge(&plan), "pass", "generation 3");
    }
}
