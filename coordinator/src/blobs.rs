//! Snapshots and exports, stored by the hash of their content; the log holds only the hashes.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use rehull_shared::text::sha256_hex;

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
}
