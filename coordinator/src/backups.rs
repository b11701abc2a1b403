//! Backups of control planes: encrypted for people while they come in, so that nobody can read them
//! here, the coordinator included. `deploy/backup.md` says how they are restored.
//!
//! A backup is a directory, `CLUSTER/TIME-NODE`: one age file for each file of the host and one for
//! etcd's snapshot, and `manifest.json`, which names them and holds the hashes of both forms.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use age::x25519::Recipient;
use rehull_shared::{
    ids::{ClusterName, NodeName},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::agents::Whom;

mod file;
mod order;
mod prove;
mod restore;
mod snapshot;

use file::Writing;
pub use order::{BACKUP_MAX, Ordered, order};
pub use prove::{Proof, prove};
pub use restore::{list, read_manifest, restore, verify};

/// The name of etcd's snapshot among the files.
pub const SNAPSHOT: &str = "etcd.db";

/// How the name of a backup begins that is not whole.
const PARTIAL: &str = ".partial-";

/// The manifest of a backup.
const MANIFEST: &str = "manifest.json";

/// Files of one backup, and bytes: an etcd of 8 GiB is the largest that its makers bear.
const FILES_MAX: usize = 300;
const BYTES_MAX: u64 = 16 << 30;

/// Something went wrong with a backup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// What an agent sends is no backup.
    #[error("the backup is not usable: {0}")]
    Unusable(String),
    /// It is not what it was.
    #[error("{path} is damaged: {why}; use another backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How that shows.
        why: String,
    },
    /// The key does not open it.
    #[error("{path} cannot be decrypted: {why}")]
    Closed {
        /// The file.
        path: PathBuf,
        /// What age says.
        why: String,
    },
    /// Somebody has asked to stop.
    #[error("stopped by a signal: nothing that was decrypted is left here")]
    Stopped,
    /// Secrets are left on this machine.
    #[error(
        "{path} holds secrets of the cluster and cannot be deleted ({source}): delete it by hand"
    )]
    Left {
        /// The directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The cluster.
    pub cluster: ClusterName,
    /// The control plane that has sent it.
    pub node: NodeName,
    /// When it was whole.
    pub taken_at: Timestamp,
    /// Who has asked for it.
    pub by: String,
    /// Who can read it: public keys.
    pub recipients: Vec<String>,
    /// Its files.
    pub files: Vec<Stored>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// Where it lies on the host; [`SNAPSHOT`] for that of etcd, and below `/kubean` what Kubean keeps.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: String,
    /// The file of the backup that holds it, encrypted.
    pub stored: String,
    /// The hash of that one.
    pub stored_sha256: String,
}

/// A backup in a list: its name, `CLUSTER/TIME-NODE`, and what it holds, or why that cannot be said.
pub type Listed = (String, Result<Manifest, Error>);

/// Where backups are kept, and which are awaited; cheap to clone.
#[derive(Clone)]
pub struct Backups {
    dir: PathBuf,
    recipients: Vec<Recipient>,
    keep: usize,
    awaited: Arc<Mutex<BTreeMap<String, Awaited>>>,
}

/// A backup that was ordered.
struct Awaited {
    whom: Whom,
    by: String,
    beside: Vec<Beside>,
    bytes: Arc<AtomicU64>,
    done: oneshot::Sender<Result<Taken, String>>,
}

/// A backup that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// `CLUSTER/TIME-NODE`.
    pub name: String,
    /// What it holds.
    pub manifest: Manifest,
    /// Older ones that were deleted for it.
    pub deleted: Vec<String>,
}

impl Backups {
    /// Backups below a directory, encrypted for these recipients; so many are kept of each cluster.
    /// What a coordinator that died has left half done is deleted.
    pub fn new(dir: PathBuf, recipients: Vec<Recipient>, keep: usize) -> Self {
        let inside = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
        for cluster in inside(&dir) {
            for entry in inside(&cluster.path()) {
                if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                    _ = fs::remove_dir_all(entry.path()); // else it lies there, encrypted
                }
            }
        }
        Self { dir, recipients, keep, awaited: Arc::default() }
    }

    fn awaited(&self) -> MutexGuard<'_, BTreeMap<String, Awaited>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the backup of a cluster whose snapshot of etcd has this hash, if it is kept.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub fn with_snapshot(
        &self,
        cluster: &ClusterName,
        sha256: &str,
    ) -> Result<Option<String>, Error> {
        let all = list(&self.dir, Some(cluster))?;
        let is = |manifest: &Manifest| {
            let mut files = manifest.files.iter();
            files.any(|file| file.path == SNAPSHOT && file.sha256 == sha256)
        };
        let found = all.into_iter().find(|(_, manifest)| manifest.as_ref().is_ok_and(is));
        Ok(found.map(|(name, _)| name))
    }

    /// Whether a backup lies there with all its files. Their content is for [`verify`]: it may be large.
    ///
    /// # Errors
    /// If its manifest or one of its files is missing, empty or cannot be read.
    pub fn lies_there(&self, name: &str) -> Result<(), Error> {
        let dir = self.dir.join(name);
        for file in read_manifest(&dir)?.files {
            let path = file::place(&dir, &file)?;
            if fs::metadata(&path).map_err(io_at(&path))?.len() == 0 {
                return Err(Error::Damaged { path, why: "it is empty".to_owned() });
            }
        }
        Ok(())
    }

    /// Waits for a backup of this id from this agent: how many bytes have come, and what came of it. Some
    /// files are put beside what it sends.
    pub fn expect(
        &self,
        id: &str,
        whom: Whom,
        by: String,
        beside: Vec<Beside>,
    ) -> (Arc<AtomicU64>, oneshot::Receiver<Result<Taken, String>>) {
        let (done, outcome) = oneshot::channel();
        let bytes = Arc::<AtomicU64>::default();
        let awaited = Awaited { whom, by, beside, bytes: bytes.clone(), done };
        self.awaited().insert(id.to_owned(), awaited);
        (bytes, outcome)
    }

    /// Waits no longer.
    pub fn forget(&self, id: &str) {
        self.awaited().remove(id);
    }

    /// Takes a backup in, if it is awaited from this agent; each one once.
    pub fn accept(&self, id: &str, whom: &Whom) -> Option<Incoming> {
        let mut all = self.awaited();
        if all.get(id).is_none_or(|awaited| awaited.whom != *whom) {
            return None;
        }
        let awaited = all.remove(id)?;
        Some(Incoming { backups: self.clone(), awaited })
    }
}

/// A file that the coordinator puts into a backup beside those of the host. It may be a secret, so it cannot
/// be printed.
pub struct Beside {
    /// Its path in the backup, below a directory that no host has.
    pub path: String,
    /// What it holds.
    pub content: Vec<u8>,
}

/// A part of a backup, as it comes in.
pub enum Part {
    /// A file begins.
    File {
        /// Its path on the host.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// Content of the file that has begun last.
    Content(Vec<u8>),
    /// All of it was sent.
    End,
}

/// A backup that comes in.
pub struct Incoming {
    backups: Backups,
    awaited: Awaited,
}

impl Incoming {
    /// Stores all parts, and tells who waits for them. Blocks: parts are waited for and encrypted.
    pub fn store(
        self,
        parts: impl Iterator<Item = Part>,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Manifest, String> {
        let Self { backups, awaited: Awaited { whom, by, beside, bytes, done } } = self;
        let stored = backups.store(&whom, by, (parts, beside), &bytes, now);
        let stored = stored.map_err(|error| error.to_string());
        let answer = stored.as_ref().map(|taken| taken.manifest.clone()).map_err(Clone::clone);
        _ = done.send(stored); // who has asked may have gone
        answer
    }
}

impl Backups {
    fn store(
        &self,
        (cluster, node): &Whom,
        by: String,
        (parts, beside): (impl Iterator<Item = Part>, Vec<Beside>),
        bytes: &AtomicU64,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Taken, Error> {
        let of_cluster = self.dir.join(cluster.as_str());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&of_cluster)
            .map_err(io_at(&of_cluster))?;
        // Whatever ends this early leaves nothing behind: the directory goes with its guard.
        let fresh = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(&of_cluster);
        let fresh = fresh.map_err(io_at(&of_cluster))?;
        let mut files = self.write(fresh.path(), parts, bytes)?;
        for Beside { path, content } in beside {
            let mut file = self.begin(fresh.path(), &files, path, 0o600)?;
            file.write(&content)?;
            files.push(file.finish()?);
        }
        let taken_at = now();
        let manifest = Manifest {
            cluster: cluster.clone(),
            node: node.clone(),
            taken_at,
            by,
            recipients: self.recipients.iter().map(Recipient::to_string).collect(),
            files,
        };
        let path = fresh.path().join(MANIFEST);
        let text = serde_json::to_vec_pretty(&manifest).map_err(|why| io_at(&path)(why.into()))?;
        let mut file = private(&path)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(io_at(&path))?;
        let time: String =
            taken_at.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
        let last = format!("{time}-{node}");
        let place = of_cluster.join(&last);
        into_place(fresh, &place)?;
        synced(&of_cluster)?;
        let deleted = self.tidy(cluster);
        Ok(Taken { name: format!("{cluster}/{last}"), manifest, deleted })
    }

    /// Writes every file, encrypted.
    fn write(
        &self,
        dir: &Path,
        parts: impl Iterator<Item = Part>,
        bytes: &AtomicU64,
    ) -> Result<Vec<Stored>, Error> {
        let unusable = |why: String| Err(Error::Unusable(why));
        let mut files = Vec::new();
        let mut open: Option<Writing> = None;
        let mut ended = false;
        for part in parts {
            match part {
                Part::File { path, mode } => {
                    files.extend(open.take().map(Writing::finish).transpose()?);
                    open = Some(self.begin(dir, &files, path, mode & 0o777)?);
                }
                Part::Content(content) => {
                    let Some(file) = &mut open else {
                        return unusable("content comes before its file".to_owned());
                    };
                    file.write(&content)?;
                    let all = bytes.fetch_add(content.len() as u64, Ordering::Relaxed);
                    if all > BYTES_MAX {
                        return unusable(format!("it is larger than {BYTES_MAX} bytes"));
                    }
                }
                Part::End => {
                    ended = true;
                    break;
                }
            }
        }
        if !ended {
            return unusable("it was cut off".to_owned());
        }
        files.extend(open.take().map(Writing::finish).transpose()?);
        match files.iter().filter(|file| file.path == SNAPSHOT).count() {
            1 => Ok(files),
            count => unusable(format!("it has {count} snapshots of etcd")),
        }
    }

    /// Begins the file behind those that are written.
    fn begin(
        &self,
        dir: &Path,
        files: &[Stored],
        path: String,
        mode: u32,
    ) -> Result<Writing, Error> {
        let unusable = |why: String| Err(Error::Unusable(why));
        if files.len() >= FILES_MAX {
            return unusable(format!("it has more than {FILES_MAX} files"));
        }
        if path != SNAPSHOT && below(Path::new("/"), &path).is_none() {
            return unusable(format!("{path:?} is no path of a file"));
        }
        if files.iter().any(|file| file.path == path) {
            return unusable(format!("it has {path} twice"));
        }
        Writing::begin(dir, format!("{:03}.age", files.len()), path, mode, &self.recipients)
    }

    /// Deletes the oldest ones beyond those that are kept. Trouble with that is told to people, and is none
    /// of the backup that is stored.
    fn tidy(&self, cluster: &ClusterName) -> Vec<String> {
        let all = list(&self.dir, Some(cluster)).unwrap_or_else(|error| {
            tracing::warn!(%error, "older backups are not deleted: see to it, or the disk fills");
            Vec::new()
        });
        let mut whole = Vec::new();
        for (name, manifest) in all {
            match manifest {
                Ok(_) => whole.push(name),
                Err(error) => tracing::warn!(
                    %error,
                    "backup {name} is neither counted nor deleted: look at it, and delete it by hand"
                ),
            }
        }
        let surplus = whole.len().saturating_sub(self.keep.max(1));
        whole.truncate(surplus);
        whole.retain(|name| {
            let deleted = self.delete(cluster, name);
            if let Err(error) = &deleted {
                tracing::warn!(%error, "backup {name} cannot be deleted: delete it by hand");
            }
            deleted.is_ok()
        });
        whole
    }

    /// Deletes a backup. Under its own name it is whole until the end: what is cut off is only a remainder,
    /// and the next coordinator deletes that.
    fn delete(&self, cluster: &ClusterName, name: &str) -> Result<(), Error> {
        let (of_cluster, place) = (self.dir.join(cluster.as_str()), self.dir.join(name));
        let last = place.file_name().unwrap_or_default().to_string_lossy();
        let remainder = of_cluster.join(format!("{PARTIAL}{last}"));
        fs::rename(&place, &remainder).map_err(io_at(&place))?;
        synced(&of_cluster)?;
        fs::remove_dir_all(&remainder).map_err(io_at(&remainder))
    }
}

/// Gives a directory that is whole its name; one that does not get it goes with its guard.
fn into_place(fresh: tempfile::TempDir, place: &Path) -> Result<(), Error> {
    fs::rename(fresh.path(), place).map_err(io_at(place))?;
    _ = fresh.keep(); // it is elsewhere
    Ok(())
}

/// Makes the names in a directory last.
fn synced(dir: &Path) -> Result<(), Error> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_at(dir))
}

fn private(path: &Path) -> Result<fs::File, Error> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path).map_err(io_at(path))
}

/// Where a file of a host comes to lie below a directory; `None` for what is no plain path.
fn below(dir: &Path, path: &str) -> Option<PathBuf> {
    let plain = Path::new(path).strip_prefix("/").ok()?;
    let usual = plain.components().all(|part| matches!(part, Component::Normal(_)));
    (usual && plain.file_name().is_some()).then(|| dir.join(plain))
}

#[cfg(test)]
mod tests;
