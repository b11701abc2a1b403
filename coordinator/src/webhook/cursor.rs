//! How far the receiver has been told, on disk: a small file, replaced as a whole.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Name of the file in the coordinator's directory.
const FILE: &str = "webhook.cursor";

/// Events of which nobody is told, after which the place is written all the same: a start need not
/// read them again.
const PASSED_MAX: u64 = 10_000;

/// The number of the last event that is done with.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    sequence: u64,
    written: u64,
}

impl Cursor {
    /// The cursor in `dir`, of a log whose last event is `last`. Where there is none, the receiver
    /// is told of what happens from now on; where the log is older than the cursor, it was
    /// restored from a backup, and what it brings is new again.
    ///
    /// # Errors
    /// If it cannot be read or written, or is no number.
    pub fn open(dir: &Path, last: u64) -> io::Result<Self> {
        let path = dir.join(FILE);
        let found = match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim().parse().map_err(|_| {
                let why = "it holds no number; delete it to be told of what happens from now on";
                io::Error::new(ErrorKind::InvalidData, why)
            })?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let sequence = last.min(found.unwrap_or(last));
        let cursor = Self { path, sequence, written: sequence };
        if found != Some(sequence) {
            cursor.write()?;
        }
        Ok(cursor)
    }

    /// The last event that is done with.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// An event was told. If that cannot be kept it may be told again, which is better than to
    /// stop telling.
    pub(super) fn move_to(&mut self, sequence: u64) {
        self.sequence = sequence;
        match self.write() {
            Ok(()) => self.written = sequence,
            Err(error) => tracing::error!(path = %self.path.display(), %error,
                "how far the webhook's receiver is cannot be kept: it may hear things twice"),
        }
    }

    /// An event was none that is told.
    pub(super) fn pass(&mut self, sequence: u64) {
        self.sequence = sequence;
        if sequence - self.written >= PASSED_MAX {
            self.move_to(sequence);
        }
    }

    fn write(&self) -> io::Result<()> {
        let aside = self.path.with_extension("cursor.new");
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&aside)?;
        file.write_all(format!("{}\n", self.sequence).as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)?;
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        fs::File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_begins_at_the_end_is_found_again_and_never_lies_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut cursor = Cursor::open(dir.path(), 41).unwrap();
        assert_eq!(cursor.sequence(), 41);
        cursor.pass(42);
        assert_eq!(Cursor::open(dir.path(), 60).unwrap().sequence(), 41, "it is not worth a write");
        cursor.move_to(43);
        assert_eq!(Cursor::open(dir.path(), 60).unwrap().sequence(), 43);
        cursor.pass(43 + PASSED_MAX);
        assert_eq!(Cursor::open(dir.path(), 99_999).unwrap().sequence(), 43 + PASSED_MAX);
        assert_eq!(Cursor::open(dir.path(), 20).unwrap().sequence(), 20, "a restored log");
        assert_eq!(Cursor::open(dir.path(), 60).unwrap().sequence(), 20);
        fs::write(dir.path().join(FILE), "soon").unwrap();
        let error = Cursor::open(dir.path(), 60).unwrap_err().to_string();
        assert!(error.contains("delete it"), "{error}");
    }
}
