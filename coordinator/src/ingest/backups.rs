//! Backups: ordered for an operator, and taken in from the agent that was ordered to send one.

use std::{sync::atomic::Ordering, time::Duration};

use rehull_proto::v1::{BackupPart, BackupProgress, BackupReceived, backup_part};
use rehull_shared::ids::{ClusterName, NodeName};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{
    Desk,
    operators::{etcd_of, new_id},
};
use crate::{
    agents::Whom,
    backups::{self, Backups, Incoming, Ordered, Part, Taken},
};

/// How long an agent may take to say which backup it sends.
const FIRST_MAX: Duration = Duration::from_secs(10);

/// How long the next part may take.
const PART_MAX: Duration = Duration::from_secs(120);

/// How often it is told how far a backup is.
const PROGRESS: Duration = Duration::from_secs(1);

/// Parts that wait for the disk.
const PARTS_MAX: usize = 16;

/// Has a control plane send a backup, and tells how far it is.
pub(super) async fn take(
    desk: Desk,
    cluster: ClusterName,
    node: Option<NodeName>,
    by: String,
    told: mpsc::Sender<Result<BackupProgress, Status>>,
) {
    let end = taken(&desk, cluster, node, by, &told).await;
    _ = told.send(end).await; // the asker may have gone
}

async fn taken(
    desk: &Desk,
    cluster: ClusterName,
    node: Option<NodeName>,
    by: String,
    told: &mpsc::Sender<Result<BackupProgress, Status>>,
) -> Result<BackupProgress, Status> {
    let Some(backups) = &desk.context.backups else {
        let why = "backup is not set in the coordinator's config.yaml (deploy/backup.md)";
        return Err(Status::failed_precondition(why));
    };
    let node = match node {
        Some(node) => node,
        None => follower(desk, &cluster).await?,
    };
    let fleet = desk.handle.published().fleet;
    let whom = (cluster, node.clone());
    let (whose, agents) = ((new_id().to_string(), by), &desk.context.agents);
    let ordered = backups::order(backups, agents, &fleet, &whom, whose, Vec::new());
    let Ordered { bytes, mut outcome } = ordered.map_err(Status::failed_precondition)?;
    let mut beat = tokio::time::interval(PROGRESS);
    let Taken { name, manifest, deleted } = loop {
        tokio::select! {
            taken = &mut outcome => break taken.map_err(Status::aborted)?,
            _ = beat.tick() => {
                let (node, bytes) = (node.to_string(), bytes.load(Ordering::Relaxed));
                let progress = BackupProgress { node, bytes, ..Default::default() };
                if told.send(Ok(progress)).await.is_err() {
                    // The agent is refused, or goes on: what it sends is whole.
                    return Err(Status::cancelled("nobody waits for it any more"));
                }
            }
        }
    };
    Ok(BackupProgress {
        node: node.to_string(),
        bytes: bytes.load(Ordering::Relaxed),
        name,
        files: u32::try_from(manifest.files.len()).unwrap_or(u32::MAX),
        deleted,
    })
}

/// A member that does not lead: a snapshot is work, and the leader has enough of it.
async fn follower(desk: &Desk, cluster: &ClusterName) -> Result<NodeName, Status> {
    let etcd = etcd_of(desk, cluster).await?;
    let role = |role: &str| etcd.members.iter().find(|member| member.role == role);
    let member = role("follower").or_else(|| role("leader")).ok_or_else(|| {
        Status::failed_precondition(format!("no member of etcd: {}", etcd.problems.join("; ")))
    })?;
    member.node.parse().map_err(|bad| Status::internal(format!("{bad}")))
}

/// Which of the awaited backups an agent sends, by its first part.
pub(super) async fn announced(
    backups: Option<&Backups>,
    whom: &Whom,
    parts: &mut Streaming<BackupPart>,
) -> Result<Incoming, Status> {
    let first = tokio::time::timeout(FIRST_MAX, parts.message()).await;
    let first =
        first.map_err(|_| Status::deadline_exceeded("which backup it is, was not said"))??;
    let Some(BackupPart { part: Some(backup_part::Part::Id(id)) }) = first else {
        return Err(Status::invalid_argument("the first part must be the id of the order"));
    };
    let incoming = backups.and_then(|backups| backups.accept(&id, whom));
    incoming.ok_or_else(|| Status::permission_denied("nobody has ordered this backup"))
}

/// Takes a backup in to its end.
pub(super) async fn receive(
    desk: Desk,
    incoming: Incoming,
    mut parts: Streaming<BackupPart>,
) -> Result<BackupReceived, Status> {
    let (sender, mut queue) = mpsc::channel(PARTS_MAX);
    let clock = desk.context.clock.clone();
    let store = tokio::task::spawn_blocking(move || {
        incoming.store(std::iter::from_fn(|| queue.blocking_recv()), || clock())
    });
    // When this ends early, so does the queue, and what was stored is thrown away.
    while let Ok(Ok(Some(part))) = tokio::time::timeout(PART_MAX, parts.message()).await {
        let part = match part.part {
            Some(backup_part::Part::File(file)) => Part::File { path: file.path, mode: file.mode },
            Some(backup_part::Part::Content(content)) => Part::Content(content),
            Some(backup_part::Part::End(true)) => Part::End,
            _ => break,
        };
        if sender.send(part).await.is_err() {
            break; // the store has refused it, or is done
        }
    }
    drop(sender);
    let stored = store.await.map_err(|panic| Status::internal(panic.to_string()))?;
    let manifest = stored.map_err(Status::aborted)?;
    Ok(BackupReceived {
        files: u32::try_from(manifest.files.len()).unwrap_or(u32::MAX),
        bytes: manifest.files.iter().map(|file| file.bytes).sum(),
    })
}

/// The answer of a stream that has one.
pub(super) fn one<T: Send + 'static>(
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> tokio_stream::wrappers::ReceiverStream<Result<T, Status>> {
    let (sender, answers) = mpsc::channel(1);
    tokio::spawn(async move {
        let answer = work.await;
        _ = sender.send(answer).await; // who waits for it may have gone
    });
    tokio_stream::wrappers::ReceiverStream::new(answers)
}
