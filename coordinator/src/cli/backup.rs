//! `rehull backup`: taken through the coordinator; listed, verified and restored from their files,
//! also where no coordinator is left.

use std::{fs, io::IsTerminal, path::Path, process::ExitCode};

use age::x25519::Identity;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rehull_proto::v1::{
    BackupProgress, BackupRequest,
    intent::{ProveBackup, Wish},
};
use rehull_shared::ids::{ClusterName, NodeName};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{
    Backup, Failure, Reach, ask,
    client::connect,
    output::{self, few},
};
use crate::{
    backups::{self, Manifest, Proof},
    config::Config,
};

/// How a key of age begins.
const KEY: &str = "AGE-SECRET-KEY-1";

/// A backup in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    directory: String,
    #[serde(flatten)]
    manifest: Manifest,
}

pub(super) async fn run(reach: &Reach, command: Backup) -> Result<ExitCode, Failure> {
    match command {
        Backup::Take { cluster, node } => take(reach, cluster, node).await,
        Backup::List { cluster } => list(reach, cluster.as_ref()),
        Backup::Verify { backup, identity } => {
            let key = identity.as_deref().map(key).transpose()?;
            let manifest = backups::verify(&backup, key.as_ref()).map_err(Failure::new)?;
            let opened = if key.is_some() { " and opens" } else { "" };
            output::print(reach.output, &manifest, |manifest| {
                let words = words(manifest);
                format!("{} is what it was{opened}: {words}\n", backup.display())
            })
        }
        Backup::Prove { backup, identity, programs, record } => {
            let stop = stopped_by_signals()?;
            let proof = backups::prove(&backup, &key(&identity)?, &programs, &stop).await;
            let proof = proof.map_err(|why| Failure::new(why).of(backup.display()))?;
            if record {
                return tokio::select! {
                    answer = recorded(reach, &backup, &proof) => answer,
                    () = stop.cancelled() => Err(Failure::new(
                        "stopped by a signal: it is proved, but maybe not recorded",
                    )),
                };
            }
            output::print(reach.output, &proof, |Proof { keys, nodes }| {
                let (count, some) = (nodes.len(), few(nodes));
                format!(
                    "{} is proved: an etcd that was made of it holds {keys} objects and {count} \
                     Nodes: {some}\n",
                    backup.display()
                )
            })
        }
        Backup::Restore { backup, identity, out } => {
            let stop = stopped_by_signals()?;
            let manifest = backups::restore(&backup, &key(&identity)?, &out, &stop);
            let manifest = manifest.map_err(Failure::new)?;
            output::print(reach.output, &manifest, |manifest| {
                format!("{} holds {}\n", out.display(), words(manifest))
            })
        }
    }
}

/// Cancelled by Ctrl-C or TERM, by another thread than the one that decrypts: who has decrypted secrets
/// takes them away before it ends.
fn stopped_by_signals() -> Result<CancellationToken, Failure> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupted.recv() => (),
            _ = terminated.recv() => (),
        }
        stopped.cancel();
    });
    Ok(stop)
}

/// Tells the coordinator what was proved.
async fn recorded(reach: &Reach, backup: &Path, proof: &Proof) -> Result<ExitCode, Failure> {
    let Manifest { cluster, files, .. } = backups::read_manifest(backup).map_err(Failure::new)?;
    let snapshot = files.into_iter().find(|file| file.path == backups::SNAPSHOT);
    let wish = Wish::ProveBackup(ProveBackup {
        snapshot_sha256: snapshot.map(|file| file.sha256).unwrap_or_default(),
        objects: proof.keys as u64,
        nodes: u32::try_from(proof.nodes.len()).unwrap_or(u32::MAX),
    });
    ask::submit(reach, cluster, wish).await
}

async fn take(
    reach: &Reach,
    cluster: ClusterName,
    node: Option<NodeName>,
) -> Result<ExitCode, Failure> {
    let node = node.map(Into::into).unwrap_or_default();
    let request = BackupRequest { cluster: cluster.into(), node };
    let mut news = connect(reach).await?.take_backup(request).await?.into_inner();
    let bar = bar();
    let mut last = BackupProgress::default();
    while let Some(progress) = news.message().await? {
        bar.set_message(progress.node.clone());
        bar.set_position(progress.bytes);
        last = progress;
    }
    bar.finish_and_clear();
    if last.name.is_empty() {
        return Err(Failure::new("the coordinator has stopped: nothing was kept of the backup"));
    }
    output::print(reach.output, &last, |last| {
        let BackupProgress { node, bytes, name, files, deleted } = last;
        let mut out = format!("{name}: {files} files of {node}, {bytes} bytes\n");
        deleted.iter().for_each(|old| out += &format!("{old} was deleted: more are not kept\n"));
        out
    })
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} {bytes} {bytes_per_sec}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

fn list(reach: &Reach, cluster: Option<&ClusterName>) -> Result<ExitCode, Failure> {
    let config = Config::read(&reach.dir).map_err(Failure::new)?;
    let Some(backup) = config.backup else {
        let file = reach.dir.join("config.yaml");
        let why = "backup is not set: there are none (deploy/backup.md)";
        return Err(Failure::new(why).of(file.display()));
    };
    let found = backups::list(&backup.directory, cluster).map_err(Failure::new)?;
    let mut rows = Vec::new();
    let mut damaged = Vec::new();
    for (name, manifest) in found {
        let directory = backup.directory.join(name).display().to_string();
        match manifest {
            Ok(manifest) => rows.push(Row { directory, manifest }),
            Err(why) => damaged.push(Failure::new(why)),
        }
    }
    let listed = output::print(reach.output, &rows, |rows| {
        if rows.is_empty() && damaged.is_empty() {
            return "There are none. `rehull backup take CLUSTER` takes one.\n".to_owned();
        }
        let cells: Vec<_> = rows
            .iter()
            .map(|Row { directory, manifest }| {
                [
                    manifest.cluster.to_string(),
                    manifest.node.to_string(),
                    manifest.taken_at.to_string(),
                    manifest.by.clone(),
                    size(manifest).to_string(),
                    directory.clone(),
                ]
            })
            .collect();
        output::table(["CLUSTER", "NODE", "TAKEN AT", "BY", "BYTES", "DIRECTORY"], &cells)
    })?;
    // Beside the list, which is good as far as it goes; the code says that it does not go all the way.
    damaged.iter().for_each(Failure::tell);
    Ok(damaged.first().map_or(listed, Failure::code))
}

fn words(manifest: &Manifest) -> String {
    let Manifest { cluster, node, taken_at, files, .. } = manifest;
    let bytes = size(manifest);
    format!("{} files of {node} of {cluster}, {bytes} bytes, of {taken_at}", files.len())
}

fn size(manifest: &Manifest) -> u64 {
    manifest.files.iter().map(|file| file.bytes).sum()
}

/// The key in a file, as `age-keygen` writes it.
fn key(file: &Path) -> Result<Identity, Failure> {
    let fail = |why: &str| Failure::new(why).of(file.display());
    let text = fs::read_to_string(file).map_err(|error| fail(&error.to_string()))?;
    let line = text.lines().map(str::trim).find(|line| line.starts_with(KEY));
    let line = line.ok_or_else(|| fail("holds no key of age, a line AGE-SECRET-KEY-1..."))?;
    // Not a word of the key, whatever is wrong with it.
    line.parse().map_err(|_| fail("holds a key of age that is damaged"))
}
