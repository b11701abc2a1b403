//! Backups that lie there: listed, verified and restored. Needs no coordinator.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use age::x25519::Identity;
use rehull_shared::ids::ClusterName;
use tokio_util::sync::CancellationToken;

use super::{
    Error, Listed, MANIFEST, Manifest, SNAPSHOT, below,
    file::{Hashing, hex, open, place},
    into_place, io_at, private,
};

/// What a file system puts into its root, and nobody but root may look into.
const LOST: &str = "lost+found";

/// Every backup below a directory, the oldest first, by name; of one whose manifest is damaged, why. What
/// has no manifest is no backup.
///
/// # Errors
/// If a directory cannot be read.
pub fn list(dir: &Path, cluster: Option<&ClusterName>) -> Result<Vec<Listed>, Error> {
    let clusters = match cluster {
        Some(cluster) => vec![cluster.to_string()],
        None => names(dir)?,
    };
    let mut found = Vec::new();
    for cluster in clusters {
        for name in names(&dir.join(&cluster))? {
            match read_manifest(&dir.join(&cluster).join(&name)) {
                Err(Error::Io { source, .. }) if is_absence(&source) => (),
                manifest => found.push((format!("{cluster}/{name}"), manifest)),
            }
        }
    }
    Ok(found)
}

/// What may be a backup, or the directory of a cluster, in a directory.
fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        Err(error) => return Err(io_at(dir)(error)),
    };
    let names =
        entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<Result<_, _>>().map_err(io_at(dir))?;
    names.retain(|name| !name.starts_with('.') && name != LOST);
    names.sort();
    Ok(names)
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The manifest of the backup in a directory.
///
/// # Errors
/// If there is none, or it is not one.
pub fn read_manifest(dir: &Path) -> Result<Manifest, Error> {
    let path = dir.join(MANIFEST);
    let text = fs::read(&path).map_err(io_at(&path))?;
    serde_json::from_slice(&text)
        .map_err(|why| Error::Damaged { path, why: format!("it is no manifest: {why}") })
}

/// Checks that every file of a backup is what it was when it was stored; with an identity, that it
/// can be decrypted, too, and that etcd's own hash holds.
///
/// # Errors
/// An [`Error`] with the first file that is not.
pub fn verify(dir: &Path, identity: Option<&Identity>) -> Result<Manifest, Error> {
    let manifest = read_manifest(dir)?;
    for file in &manifest.files {
        let path = place(dir, file)?;
        let mut hash = Hashing::new(io::sink());
        let mut from = fs::File::open(&path).map_err(io_at(&path))?;
        io::copy(&mut from, &mut hash).map_err(io_at(&path))?;
        if hex(hash.sha256) != file.stored_sha256 {
            return Err(Error::Damaged { path, why: "its hash is another one".to_owned() });
        }
        if let Some(identity) = identity {
            open(dir, file, identity, io::sink(), &CancellationToken::new())?;
        }
    }
    Ok(manifest)
}

/// Decrypts a backup into a new directory, every file where it lay on the host.
///
/// # Errors
/// If the directory exists, a file is damaged or cannot be decrypted, or somebody wants it to stop: then
/// nothing is left behind.
pub fn restore(
    dir: &Path,
    identity: &Identity,
    out: &Path,
    stop: &CancellationToken,
) -> Result<Manifest, Error> {
    let manifest = read_manifest(dir)?;
    if out.exists() {
        return Err(io_at(out)(io::ErrorKind::AlreadyExists.into()));
    }
    let parent = out.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let fresh = tempfile::Builder::new().prefix(".rehull-restore-").tempdir_in(parent);
    let fresh = fresh.map_err(io_at(parent))?;
    for file in &manifest.files {
        let bad = || Error::Damaged { path: dir.join(MANIFEST), why: format!("{:?}", file.path) };
        let place = match file.path.as_str() {
            SNAPSHOT => fresh.path().join(SNAPSHOT),
            path => below(fresh.path(), path).ok_or_else(bad)?,
        };
        if let Some(around) = place.parent() {
            fs::create_dir_all(around).map_err(io_at(around))?;
        }
        let to = private(&place)?;
        open(dir, file, identity, &to, stop)?;
        to.set_permissions(fs::Permissions::from_mode(file.mode & 0o777)).map_err(io_at(&place))?;
        to.sync_all().map_err(io_at(&place))?;
    }
    into_place(fresh, out)?;
    Ok(manifest)
}
