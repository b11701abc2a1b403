//! What the coordinator's own log and store of snapshots say.

use rehull_shared::{
    evidence::{Check, Verdict},
    time::{Span, Timestamp},
};

use super::super::api::few;
use crate::{
    backups::Backups,
    blobs::Blobs,
    domain::state::{Migration, Node, Switch},
};

/// What the coordinator keeps beside its log.
#[derive(Clone, Copy)]
pub(super) struct Kept<'a> {
    pub(super) blobs: &'a Blobs,
    pub(super) backups: Option<&'a Backups>,
}

/// Judges one check of the coordinator's records, about the cluster or one of its nodes.
pub(super) fn appraise(
    check: Check,
    migration: &Migration,
    node: Option<&Node>,
    kept: Kept<'_>,
    now: Timestamp,
) -> Verdict {
    let blobs = kept.blobs;
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
        Check::BackupFresh => backup_fresh(node, kept.backups, now),
        Check::IdentityRecorded => match &migration.identity {
            Some(identity) => Verdict::pass(format!(
                "etcd is {}, and {} authorities are known",
                identity.etcd_cluster,
                identity.authorities.len()
            )),
            None => Verdict::fail("it is not recorded yet"),
        },
        Check::ProtectionOff => protection(migration, false),
        Check::ProtectionOn => protection(migration, true),
        Check::ApprovalsHold => match node {
            Some(node) => approvals(node, now),
            None => Verdict::unknown("approvals of data are those of a node"),
        },
        other => Verdict::unknown(format!("the coordinator's records do not speak of {other}")),
    }
}

/// How old a backup may be before a control plane goes (domain reference 5.3, G2).
const BACKUP_AGE_MAX: Span = Span::from_mins(30);

fn backup_fresh(node: Option<&Node>, backups: Option<&Backups>, now: Timestamp) -> Verdict {
    let Some((backup, at)) = node.and_then(|node| node.backup.as_ref()) else {
        return Verdict::fail("no backup was taken yet for this removal");
    };
    let (name, bytes) = (&backup.name, backup.snapshot_bytes);
    let Some(backups) = backups else {
        return Verdict::unknown(format!("{name} was taken, but backup is not set any more"));
    };
    if let Err(why) = backups.lies_there(name) {
        return Verdict::fail(format!("{name} is not whole any more: {why}"));
    }
    let words = format!("{name}, of {at}, has {bytes} bytes of etcd");
    Verdict::when(*at + BACKUP_AGE_MAX >= now, words)
}

/// What came of the last switching of the deletion protection: nobody else can see it.
fn protection(migration: &Migration, on: bool) -> Verdict {
    match &migration.protection.switch {
        Some(Switch { on: to, answer: Some((done, seen)), .. }) if *to == on => {
            Verdict::when(*done, seen)
        }
        Some(Switch { on: to, answer: None, .. }) if *to == on => {
            Verdict::unknown("the program that switches it has not answered yet")
        }
        _ => Verdict::unknown("it was not switched yet"),
    }
}

/// Whether everything about data that was ever accepted of a node still is: it is lost with the disk.
fn approvals(node: &Node, now: Timestamp) -> Verdict {
    let of_data = node.track.approvals.values().filter(|it| it.item.check == Check::DataElsewhere);
    let (hold, ended): (Vec<_>, Vec<_>) = of_data.partition(|approval| approval.holds(now));
    match ended.is_empty() {
        true if hold.is_empty() => Verdict::pass("no data on the host was ever in question"),
        true => Verdict::pass(few(hold
            .iter()
            .map(|it| format!("{} accepts {}", it.by, it.item.words())))),
        false => Verdict::fail(few(ended
            .iter()
            .map(|it| format!("the approval of {} has ended: {}", it.by, it.item.words())))),
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
    use crate::domain::{
        approval::{Approval, Item},
        state::BackupTaken,
    };
    use crate::effects::testing::{NOW, migration, says, snapshot};

    fn of(blobs: &Blobs) -> Kept<'_> {
        Kept { blobs, backups: None }
    }

    #[test]
    fn a_backup_counts_while_it_is_young_and_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path().join("blobs")).unwrap();
        let backups = Backups::new(dir.path().join("backups"), Vec::new(), 3);
        let mut plan = migration();
        let judge = |plan: &Migration, backups, now| {
            let kept = Kept { blobs: &blobs, backups };
            appraise(Check::BackupFresh, plan, plan.nodes.first(), kept, now)
        };
        says(&judge(&plan, Some(&backups), NOW), "fail", "no backup was taken yet");
        let name = "prod/T-m2".to_owned();
        let taken = BackupTaken { name, snapshot_sha256: String::new(), snapshot_bytes: 7 };
        plan.nodes[0].backup = Some((taken, NOW));
        says(&judge(&plan, Some(&backups), NOW), "fail", "prod/T-m2 is not whole any more");
        let place = dir.path().join("backups/prod/T-m2");
        std::fs::create_dir_all(&place).unwrap();
        let manifest = serde_json::json!({"cluster": "prod", "node": "m2", "takenAt": NOW,
            "by": "ann", "recipients": [], "files": [{"path": "etcd.db", "mode": 384, "bytes": 7,
                "sha256": "a", "stored": "000.age", "storedSha256": "b"}]});
        std::fs::write(place.join("manifest.json"), manifest.to_string()).unwrap();
        says(&judge(&plan, Some(&backups), NOW), "fail", "000.age: No such file");
        std::fs::write(place.join("000.age"), "").unwrap();
        says(&judge(&plan, Some(&backups), NOW), "fail", "it is empty");
        std::fs::write(place.join("000.age"), "age").unwrap();
        says(&judge(&plan, Some(&backups), NOW), "pass", "has 7 bytes of etcd");
        says(&judge(&plan, Some(&backups), NOW + Span::from_mins(31)), "fail", "has 7 bytes");
        says(&judge(&plan, None, NOW), "unknown", "backup is not set any more");
    }

    #[test]
    fn records_count_only_if_they_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let mut plan = migration();
        let judge =
            |check, plan: &Migration| appraise(check, plan, plan.nodes.first(), of(&blobs), NOW);
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
    fn data_is_given_up_only_while_whoever_accepted_that_still_does() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let mut plan = migration();
        let judge = |plan: &Migration| {
            appraise(Check::ApprovalsHold, plan, plan.nodes.first(), of(&blobs), NOW)
        };
        says(&judge(&plan), "pass", "no data on the host was ever in question");
        let mut approve = |check, until, ended| {
            let [identity, what, by, why] =
                ["hostPath /d of shop", "/d", "ann", "cache"].map(str::to_owned);
            let approval = Approval { item: Item { check, identity, what }, by, why, until, ended };
            plan.nodes[0].track.approvals = [(approval.item.id(), approval)].into();
            judge(&plan)
        };
        let later = NOW + Span::from_secs(1);
        says(&approve(Check::DataElsewhere, later, false), "pass", "ann accepts /d");
        says(&approve(Check::DataElsewhere, NOW, false), "fail", "the approval of ann has ended");
        says(&approve(Check::DataElsewhere, later, true), "fail", "the approval of ann has ended");
        says(&approve(Check::DisruptionsAllowed, NOW, true), "pass", "");
    }

    #[test]
    fn a_farewell_is_known_by_its_generation() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let mut plan = migration();
        let judge = |plan: &Migration| {
            appraise(Check::FarewellSaid, plan, plan.nodes.first(), of(&blobs), NOW)
        };
        says(&judge(&plan), "fail", "has not said farewell");
        plan.nodes[0].farewell = Some(Generation(3));
        says(&judge(&plan), "pass", "generation 3");
    }
}
