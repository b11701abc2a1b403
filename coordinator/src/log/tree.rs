//! The log in sled: one tree, one writer, and nothing of sled outside this file.
//!
//! What is known of sled 0.34.7, and why this is as it is:
//!
//! * `flush_async` stops for ever with several callers: it is never called.
//! * `flush` ends in `sync_file_range`, which is no fsync: after it we call `fdatasync` on the same
//!   file ourselves, and see its error. The background flusher would hide it: there is none.
//! * A page holds up to 17 values, and becomes a file of its own, never synced, when it is larger
//!   than a quarter of a segment. So a value has at most [`VALUE_BYTES_MAX`]; a larger pack is
//!   kept in parts, the first one written last, so that a pack that is there is there as a whole.
//! * Its snapshot is only an index, made again from the data if it is missing. One damaged by a
//!   crash keeps sled from opening: it is moved aside, once.
//! * It takes damage at its end, or a file that was cut, for an append that a crash has torn, and
//!   opens without what lay behind it: only the [mark](super::mark) tells.
//! * A closed database keeps its lock for some 100 ms: opening tries again.
//! * It panics over other damage when it opens: that is caught, and told as damage.

use std::{
    any::Any,
    fs,
    io::{self, ErrorKind},
    panic::{self, AssertUnwindSafe},
    path::Path,
    thread::sleep,
    time::Duration,
};

use super::{
    Error, pack,
    store::{Each, Store, holder},
};

/// sled's file of data.
pub(super) const DATA: &str = "db";

/// Largest value: 17 of them and their keys fit into a quarter of a segment.
const VALUE_BYTES_MAX: usize = 7 * 1024;

const SEGMENT_BYTES: usize = 512 * 1024;

/// The log is written at its end and read once: a large cache has nothing to keep.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of the number in a key.
const KEY_BYTES: usize = 8;

const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// An open tree of packs. Keys: number of the first event; for further parts of a pack, one more
/// byte that counts them.
pub(super) struct Tree {
    tree: sled::Tree,
    db: sled::Db,
    /// The same file as sled's own, for `fdatasync`.
    data: fs::File,
}

impl Tree {
    /// Opens or begins the log in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        refuse_foreign(dir)?;
        let failed = |source| Error::Io { dir: dir.to_owned(), source };
        let db = match open_patiently(dir) {
            Err(sled::Error::Corruption { .. } | sled::Error::ReportableBug(_))
                if set_snapshots_aside(dir).map_err(failed)? =>
            {
                open_patiently(dir)
            }
            other => other,
        };
        let db = db.map_err(|error| match error {
            error if is_lock(&error) => {
                Error::Locked { dir: dir.to_owned(), holder: holder(&dir.join(DATA)) }
            }
            error => match plain(error) {
                error if error.kind() == ErrorKind::InvalidData => {
                    Error::Damaged { seq: 1, what: format!("nothing can be read: {error}") }
                }
                error => failed(error),
            },
        })?;
        Self::within(dir, db).map_err(failed)
    }

    fn within(dir: &Path, db: sled::Db) -> io::Result<Self> {
        let tree = db.open_tree("log").map_err(plain)?;
        let data = fs::OpenOptions::new().read(true).write(true).open(dir.join(DATA))?;
        let mut this = Self { tree, db, data };
        match this.drop_unfinished() {
            // Where it lies is for a walk from the beginning to say.
            Err(error) if error.kind() == ErrorKind::InvalidData => (),
            other => other?,
        }
        this.sync()?;
        fs::File::open(dir)?.sync_all()?;
        Ok(this)
    }

    /// Removes parts at the end whose first one was never written.
    fn drop_unfinished(&self) -> io::Result<()> {
        while let Some((key, _)) = self.tree.last().map_err(plain)?
            && key.len() > KEY_BYTES
            && !self.tree.contains_key(&key[..KEY_BYTES]).map_err(plain)?
        {
            self.tree.remove(key).map_err(plain)?;
        }
        Ok(())
    }
}

impl Store for Tree {
    fn put(&mut self, pack: &[u8]) -> io::Result<()> {
        let key = pack::first(pack).to_be_bytes();
        for (part, value) in pack.chunks(VALUE_BYTES_MAX).enumerate().rev() {
            match u8::try_from(part).map_err(io::Error::other)? {
                0 => self.tree.insert(key, value),
                part => self.tree.insert([&key[..], &[part]].concat(), value),
            }
            .map_err(plain)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.db.flush().map_err(plain)?;
        self.data.sync_data()
    }

    fn scan(&self, each: Each<'_>) -> Result<(), Error> {
        let mut held: Option<sled::IVec> = None;
        let mut joined = Vec::new();
        for item in &self.tree {
            let (key, value) = match item {
                Ok(item) => item,
                Err(error) => return each(Err(plain(error))),
            };
            if key.len() > KEY_BYTES {
                joined.extend_from_slice(&value);
            } else if let Some(first) = held.replace(value) {
                tell(&first, &mut joined, each)?;
            }
        }
        held.map_or(Ok(()), |first| tell(&first, &mut joined, each))
    }

    fn holding(&self, seq: u64) -> io::Result<Option<Vec<u8>>> {
        // The last key up to this number is its pack's own, or that of a further part of it.
        let Some((key, _)) = self.tree.get_lt(seq.saturating_add(1).to_be_bytes())? else {
            return Ok(None);
        };
        let key = &key[..KEY_BYTES];
        let parts = self.tree.scan_prefix(key).values();
        parts
            .map(|part| Ok(part?.to_vec()))
            .collect::<io::Result<Vec<_>>>()
            .map(|parts| Some(parts.concat()))
    }

    fn tail(&self) -> io::Result<Vec<Vec<u8>>> {
        let (mut packs, mut parts) = (Vec::new(), Vec::<sled::IVec>::new());
        for item in self.tree.iter().rev() {
            let (key, value) = item.map_err(plain)?;
            parts.push(value);
            if key.len() == KEY_BYTES {
                packs.push(parts.drain(..).rev().flat_map(|part| part.to_vec()).collect());
            }
            if packs.len() == 2 {
                break;
            }
        }
        packs.reverse();
        Ok(packs)
    }
}

/// Tells a pack, joined from its first part and the others, which are `rest`.
fn tell(first: &[u8], rest: &mut Vec<u8>, each: Each<'_>) -> Result<(), Error> {
    if rest.is_empty() {
        return each(Ok(first));
    }
    rest.splice(0..0, first.iter().copied());
    let told = each(Ok(rest));
    rest.clear();
    told
}

/// A directory with other things in it is no place to begin a log in.
fn refuse_foreign(dir: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|source| Error::Io { dir: dir.to_owned(), source })?,
    };
    let names: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.file_name()).collect();
    // sled makes `blobs` first and `conf` second: a crash may have left the first alone.
    match names.iter().find(|name| *name != "blobs") {
        Some(other) if !names.iter().any(|name| name == "conf") => {
            let what = format!("it has {} and no conf", other.display());
            Err(Error::Foreign { dir: dir.to_owned(), what })
        }
        _ => Ok(()),
    }
}

fn open_patiently(dir: &Path) -> sled::Result<sled::Db> {
    let mut waited = Duration::ZERO;
    loop {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .segment_size(SEGMENT_BYTES)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None);
        let opened = panic::catch_unwind(AssertUnwindSafe(|| config.open()));
        match opened.unwrap_or_else(|panic| Err(sled::Error::ReportableBug(words(&*panic)))) {
            Err(error) if is_lock(&error) && waited < LOCK_PATIENCE => {
                sleep(LOCK_RETRY);
                waited += LOCK_RETRY;
            }
            other => return other,
        }
    }
}

/// What a panic has said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// sled's error in words for operators.
fn plain(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        sled::Error::Corruption { .. } => {
            io::Error::new(ErrorKind::InvalidData, "sled found a damaged page")
        }
        sled::Error::ReportableBug(words) => {
            io::Error::new(ErrorKind::InvalidData, format!("sled failed with {words:?}"))
        }
        other => other.into(),
    }
}

fn is_lock(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("acquire lock"))
}

/// Moves sled's snapshots away; true if there were any.
fn set_snapshots_aside(dir: &Path) -> io::Result<bool> {
    let mut any = false;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if name.as_encoded_bytes().starts_with(b"snap.") {
            let aside = format!("damaged-{}", name.display());
            fs::rename(dir.join(&name), dir.join(aside))?;
            any = true;
        }
    }
    Ok(any)
}
