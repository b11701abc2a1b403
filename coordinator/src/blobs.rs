//! Snapshots and exports, stored by the hash of their content; the log holds only the hashes.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use rehull_shared::text::sha256_hex;

/// Where they are, below the directory of a coordinator.
pub const DIRECTORY: &str = "blobs";

/// A directory of files named by the SHA-256 of what is in them; mode 0600.
#[derive(Clone, Debug)]
pub struct Blobs {
    dir: PathBuf,
}

/// A blob could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The content is not what its name says.
    #[error("{path} is damaged: its content has the hash {found}; restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The hash of what is in it.
        found: String,
    },
    /// No hash begins so, or more than one does.
    #[error("{found} records begin with {prefix}: give the hash as `rehull history` shows it")]
    NotOne {
        /// How it was to begin.
        prefix: String,
        /// How many there are.
        found: usize,
    },
}

impl Blobs {
    /// The store in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(|source| Error::Io { path: dir.clone(), source })?;
        Ok(Self { dir })
    }

    /// Stores `content` and returns its hash; it is on disk when this returns.
    ///
    /// # Errors
    /// If it cannot be written; nothing half written is ever visible under the hash.
    pub fn put(&self, content: &[u8]) -> Result<String, Error> {
        let hash = sha256_hex(content);
        let path = self.dir.join(&hash);
        let fail = |source| Error::Io { path: path.clone(), source };
        if path.exists() && self.get(&hash).is_ok() {
            return Ok(hash);
        }
        let temporary = self.dir.join(format!(".{hash}"));
        let mut file = private(&temporary).map_err(fail)?;
        file.write_all(content).and_then(|()| file.sync_all()).map_err(fail)?;
        fs::rename(&temporary, &path).map_err(fail)?;
        fs::File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(fail)?;
        Ok(hash)
    }

    /// The only hash that begins so.
    ///
    /// # Errors
    /// If the directory cannot be read, or none or several begin so.
    pub fn find(&self, prefix: &str) -> Result<String, Error> {
        let fail = |source| Error::Io { path: self.dir.clone(), source };
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
            // Those that are being written begin with a dot.
            if name.starts_with(prefix) && !name.starts_with('.') {
                all.push(name);
            }
        }
        match all.len() {
            1 if !prefix.is_empty() => Ok(all.remove(0)),
            found => Err(Error::NotOne { prefix: prefix.to_owned(), found }),
        }
    }

    /// The content of this hash, checked.
    ///
    /// # Errors
    /// If it is not there, unreadable, or not what the hash says.
    pub fn get(&self, hash: &str) -> Result<Vec<u8>, Error> {
        let path = self.dir.join(hash);
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(source) => return Err(Error::Io { path, source }),
        };
        let found = sha256_hex(&content);
        if found == hash { Ok(content) } else { Err(Error::Damaged { path, found }) }
    }
}

fn private(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_back_or_the_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let hash = blobs.put(b"what the node was").unwrap();
        assert_eq!(blobs.get(&hash).unwrap(), b"what the node was");
        fs::write(dir.path().join(&hash), b"something else").unwrap();
        assert!(matches!(blobs.get(&hash), Err(Error::Damaged { .. })));
        assert_eq!(blobs.put(b"what the node was").unwrap(), hash);
        assert!(blobs.get(&hash).is_ok(), "storing it again repairs it");
    }

    #[test]
    fn a_hash_is_found_by_its_beginning_if_it_is_the_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let hash = blobs.put(b"one").unwrap();
        assert_eq!(blobs.find(&hash[..12]).unwrap(), hash);
        fs::write(dir.path().join(format!("{}x", &hash[..12])), b"").unwrap();
        for prefix in ["", "zz", "../", &hash[..12]] {
            assert!(matches!(blobs.find(prefix), Err(Error::NotOne { .. })), "{prefix}");
        }
    }
}
