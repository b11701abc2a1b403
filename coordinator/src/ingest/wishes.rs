//! What operators wish, as the rules take it.

use std::collections::{BTreeMap, BTreeSet};

use rehull_proto::v1::intent::{Approve, Disapprove, ProveBackup, Wish};
use rehull_shared::{
    ids::{ClusterName, NodeName},
    text::{SEEN_BYTES_MAX, bounded},
    time::Span,
};
use tonic::Status;

use super::{
    Desk,
    operators::{life, parsed, unknown},
};
use crate::{
    domain::{
        approval::{Item, is_id},
        command::Request as Rule,
        state::{BackupProof, Subject},
    },
    items,
};

/// Validity of an approval for which none was asked.
const APPROVAL_LIFE: Span = Span::from_secs(86_400);

/// Longest validity of an approval.
const APPROVAL_LIFE_MAX: Span = Span::from_secs(30 * 86_400);

/// Items that one wish may name: more than anybody looks at one by one.
const ITEMS_MAX: usize = 100;

/// The command for a wish, and what is said to whoever has it once it is obeyed.
///
/// # Errors
/// A [`Status`] if it makes no sense, or names what is not there.
pub(super) async fn rule_of(
    desk: &Desk,
    cluster: &ClusterName,
    wish: Wish,
    by: String,
) -> Result<(Rule, String), Status> {
    Ok(match wish {
        Wish::Pause(_) => (
            Rule::Pause { by },
            format!("{cluster} is paused: what runs goes on to its next safe point"),
        ),
        Wish::Resume(_) => (Rule::Resume { by }, format!("{cluster} goes on")),
        Wish::Retry(retry) => {
            let subject = subject(&retry.node)?;
            let fleet = desk.handle.published().fleet;
            let migration = fleet.migrations.get(cluster);
            let track = migration.and_then(|migration| migration.track(&subject));
            let said = match track.is_some_and(|track| track.hold.is_some()) {
                true => format!("{subject} is not held after all"),
                false => format!("{subject} is looked at again"),
            };
            (Rule::Retry { subject, resubmit: retry.resubmit, by }, said)
        }
        Wish::Hold(hold) => {
            let (subject, why) = (subject(&hold.node)?, reason("a hold", &hold.why)?);
            let said = format!("{subject} will be held at its next safe point");
            (Rule::Hold { subject, why, by }, said)
        }
        Wish::Approve(wish) => approve(desk, cluster, wish, by).await?,
        Wish::ProveBackup(wish) => proved(desk, cluster, wish, by).await?,
        Wish::Disapprove(Disapprove { node, items }) => {
            let subject = subject(&node)?;
            let said = format!("{subject}: {} taken back", counted(items.len()));
            (Rule::Disapprove { subject, items, by }, said)
        }
        Wish::Abort(abort) => {
            let subject = subject(&abort.node)?;
            let said = match &subject {
                Subject::Cluster => {
                    format!("{cluster} is given up: nodes that were touched go back")
                }
                Subject::Node(node) => format!("{node} is given up: it goes back to what it was"),
            };
            (Rule::Abort { subject, by }, said)
        }
        Wish::DeleteNode(delete) => {
            let node: NodeName = parsed(&delete.node)?;
            let said = format!("the Node {node} is deleted as soon as its host is proved clean");
            (Rule::DeleteNode { node, by }, said)
        }
        Wish::RevokeAgent(revoke) => {
            let node: NodeName = parsed(&revoke.node)?;
            let said = format!(
                "the agent of {node} is revoked: its certificate opens nothing; it enrols again \
                 with the token of `rehull agent token {cluster} {node}`"
            );
            (Rule::RevokeAgent { node, by }, said)
        }
        Wish::RollBack(back) => {
            let (node, go_on): (NodeName, bool) = (parsed(&back.node)?, back.go_on);
            let others = if go_on { "the others go on" } else { "no other node begins" };
            let said = format!("{node} joins again with the system that it has; {others}");
            (Rule::RollBack { node, go_on, by }, said)
        }
        Wish::ConfirmReinstalled(confirm) => {
            let node: NodeName = parsed(&confirm.node)?;
            let said = format!("noted: {node} is reinstalled; its enrolment will prove it");
            (Rule::ConfirmReinstalled { node, by }, said)
        }
    })
}

/// The cluster, or a node of it if one is named.
fn subject(node: &str) -> Result<Subject, Status> {
    if node.is_empty() { Ok(Subject::Cluster) } else { parsed(node).map(Subject::Node) }
}

/// A proof counts only of a backup of this cluster that is kept, by the hash of its snapshot.
async fn proved(
    desk: &Desk,
    cluster: &ClusterName,
    ProveBackup { snapshot_sha256, objects, nodes }: ProveBackup,
    by: String,
) -> Result<(Rule, String), Status> {
    let backups = desk.context.backups.clone().ok_or_else(|| {
        Status::failed_precondition("backup is not set in the coordinator's config.yaml")
    })?;
    let (of, hash) = (cluster.clone(), snapshot_sha256.clone());
    let found = tokio::task::spawn_blocking(move || backups.with_snapshot(&of, &hash)).await;
    let found = found.map_err(|why| Status::internal(why.to_string()))?;
    let backup = found.map_err(|why| Status::unavailable(why.to_string()))?.ok_or_else(|| {
        Status::not_found(format!(
            "no backup of {cluster} is kept whose snapshot is {snapshot_sha256}: `rehull backup list \
             {cluster}` shows those that are"
        ))
    })?;
    if objects == 0 || nodes == 0 {
        return Err(Status::invalid_argument("an etcd without objects and Nodes proves nothing"));
    }
    let said = format!(
        "{backup} is proved, and that is recorded: an etcd that was made of it held {objects} objects \
         and {nodes} Nodes"
    );
    let proof = BackupProof { backup, snapshot_sha256, objects, nodes };
    Ok((Rule::ProveBackup { proof, by }, said))
}

/// Items are accepted by what they are: each number must be that of something that is there now, or
/// that was accepted before.
async fn approve(
    desk: &Desk,
    cluster: &ClusterName,
    wish: Approve,
    by: String,
) -> Result<(Rule, String), Status> {
    let (subject, why) = (subject(&wish.node)?, reason("an approval", &wish.why)?);
    let life =
        life(wish.valid_seconds, (APPROVAL_LIFE, APPROVAL_LIFE_MAX), "an approval may hold")?;
    let items = named(desk, cluster, &subject, &wish.items).await?;
    let until = (desk.context.clock)() + life;
    let said = format!(
        "{subject}: {} accepted until {until}; what is held goes on with `rehull migrate retry`",
        counted(items.len())
    );
    Ok((Rule::Approve { subject, items, why, until, by, typed: wish.typed }, said))
}

async fn named(
    desk: &Desk,
    cluster: &ClusterName,
    subject: &Subject,
    ids: &[String],
) -> Result<Vec<Item>, Status> {
    if ids.is_empty() || ids.len() > ITEMS_MAX {
        let why = format!("name 1 to {ITEMS_MAX} items, not {}", ids.len());
        return Err(Status::invalid_argument(why));
    }
    if let Some(bad) = ids.iter().find(|id| !is_id(id)) {
        let why = format!("{bad:?} is no number of an item: `rehull explain` shows them");
        return Err(Status::invalid_argument(why));
    }
    let fleet = desk.handle.published().fleet;
    let absent = || unknown(cluster, subject.node());
    let migration = fleet.migrations.get(cluster).ok_or_else(absent)?;
    let track = migration.track(subject).ok_or_else(absent)?;
    let accepted = track.approvals.iter();
    let mut known: BTreeMap<String, Item> =
        accepted.map(|(id, approval)| (id.clone(), approval.item.clone())).collect();
    if !ids.iter().all(|id| known.contains_key(id)) {
        let found = items::of(migration, subject, &desk.context).await;
        let found = found.map_err(|trouble| Status::unavailable(trouble.to_string()))?;
        known.extend(found.into_iter().map(|item| (item.id(), item)));
    }
    let wanted: BTreeSet<&String> = ids.iter().collect();
    let item = |id: &String| {
        known.remove(id).ok_or_else(|| {
            Status::not_found(format!(
                "nothing of {subject} that could be accepted has the number {id} now: \
                 `rehull explain {cluster}` and `rehull plan` show what is there"
            ))
        })
    };
    wanted.into_iter().map(item).collect()
}

fn counted(items: usize) -> String {
    if items == 1 { "1 item is".to_owned() } else { format!("{items} items are") }
}

/// A reason that somebody has given.
fn reason(what: &str, why: &str) -> Result<String, Status> {
    match why.trim() {
        "" => Err(Status::invalid_argument(format!("{what} needs a reason: give --why"))),
        why => Ok(bounded(why, SEEN_BYTES_MAX)),
    }
}
