//! The event log: the only stored truth, and nobody sees an event of it before it is on disk.
//!
//! ```text
//!  append(events) ─ codec ─▶ bytes ─ pack ─▶ packs of at most 8 KiB ─ Store ─▶ disk, flushed
//!  replay() ◀────── codec ── bytes ◀─ pack ── checksum, place, link of each ◀─┘
//! ```
//!
//! * Events are numbered from 1 without a gap. Events appended together are *packed*: one value
//!   holds as many as fit into 8 KiB, compressed with lz4, and carries the SHA-256 of itself and
//!   of the pack before it, so that the last hash stands for the whole log.
//! * An append is durable when it returns. After a crash, any prefix of the packs of an append
//!   that did not return may be there: every state that a prefix gives is one to go on from.
//! * [`Log::open`] checks the last pack, and that no acknowledged event is missing after it,
//!   [`Log::replay`] the checksum and the place of every pack, and [`verify`] every hash. Nothing is
//!   repaired or cut in silence but what an append that never returned has left behind.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::domain::event::Recorded;

mod codec;
mod file;
mod mark;
mod pack;
mod store;
mod tree;

pub use codec::{decode, encode};
use mark::Mark;
pub use pack::Hash;
use store::Store;

/// Largest encoded event in bytes: the longest list of blockers or processes stays far below it.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;

/// Events after which [`Log::read`] stops: others wait for the log while it reads.
const READ_EVENTS: usize = 512;

/// The log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk or the store failed. What the last append has left is unknown: the process must
    /// end, and find out by opening the log again.
    #[error("the log in {dir} failed: {source}")]
    Io {
        /// Directory of the log.
        dir: PathBuf,
        /// What the store said.
        source: io::Error,
    },
    /// Another process has the log open.
    #[error("the log in {dir} is open in {holder}: stop it first, or ask it instead")]
    Locked {
        /// Directory of the log.
        dir: PathBuf,
        /// Process id and name, where the kernel tells.
        holder: String,
    },
    /// There is no log here, or it is not one of ours.
    #[error("{dir} holds no log of rehull: {what}")]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// What is there instead.
        what: String,
    },
    /// What is stored is not what was written.
    #[error(
        "the log is damaged at event {seq}: {what}; the events before it are whole. \
         Restore the directory from a backup, and keep this one for the postmortem"
    )]
    Damaged {
        /// Number of the first event that cannot be trusted.
        seq: u64,
        /// What is wrong with it.
        what: String,
    },
    /// What is stored is whole, but this program cannot read it.
    #[error("event {seq} was written by a newer rehull: {what}; run that version or a later one")]
    Newer {
        /// Number of the first event that cannot be read.
        seq: u64,
        /// What is not understood.
        what: String,
    },
    /// An event is larger than any event may be; nothing of the append was written.
    #[error("an event of {bytes} bytes is larger than the log takes ({EVENT_BYTES_MAX})")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
    },
}

/// The end of the log: what a witness has to note to prove later that nothing was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Number of the last event; 0 for an empty log.
    pub seq: u64,
    /// Hash of the last pack, which covers everything before it.
    pub hash: Hash,
}

impl Head {
    fn ends_before(self, last: u64) -> Error {
        let what = format!("the log ends before it, but event {last} was acknowledged");
        Error::Damaged { seq: self.seq + 1, what }
    }
}

/// An open log: the only writer, and the only reader of this process.
pub struct Log {
    dir: PathBuf,
    store: Box<dyn Store>,
    head: Head,
    mark: Mark,
    /// Set while an append is under way: after one that failed nothing may follow.
    unsettled: bool,
}

impl Log {
    /// Opens the log in `dir`, or begins one, and tells `each` every event with its number, oldest
    /// first. Every pack is checked but for its hash, which is [`verify`]'s.
    ///
    /// # Errors
    /// All but [`Error::TooLarge`].
    pub fn open(dir: &Path, each: impl FnMut(u64, Recorded)) -> Result<Self, Error> {
        let log = Self::attach(dir)?;
        log.replay(each)?;
        Ok(log)
    }

    /// Opens the log in `dir`, or begins one, and checks its last pack: for those who need no
    /// state.
    ///
    /// # Errors
    /// All but [`Error::TooLarge`].
    pub fn attach(dir: &Path) -> Result<Self, Error> {
        Self::over(dir, Box::new(tree::Tree::open(dir)?))
    }

    /// [`Log::attach`], with the log kept in one plain file: tests and benchmarks hold the other
    /// one against it.
    ///
    /// # Errors
    /// All but [`Error::TooLarge`].
    pub fn attach_file(dir: &Path) -> Result<Self, Error> {
        Self::over(dir, Box::new(file::File::open(dir)?))
    }

    fn over(dir: &Path, store: Box<dyn Store>) -> Result<Self, Error> {
        let failed = |source| Error::Io { dir: dir.to_owned(), source };
        let (mark, acknowledged) = Mark::open(dir).map_err(failed)?;
        let (head, dir) = (Head::default(), dir.to_owned());
        let mut log = Self { dir, store, head, mark, unsettled: false };
        log.head = match log.store.tail() {
            Ok(tail) => pack::check_tail(&tail)?,
            Err(source) if source.kind() == io::ErrorKind::InvalidData => {
                // Only a walk from the beginning knows at which event the damage lies.
                log.replay(|_, _| ())?;
                return Err(Error::Io { dir: log.dir, source });
            }
            Err(source) => return Err(Error::Io { dir: log.dir, source }),
        };
        if log.head.seq < acknowledged.seq {
            return Err(log.head.ends_before(acknowledged.seq));
        }
        if log.head.seq == acknowledged.seq && log.head.hash != acknowledged.hash {
            let what = "it is not the event that was acknowledged".to_owned();
            return Err(Error::Damaged { seq: log.head.seq, what });
        }
        Ok(log)
    }

    /// [`Log::attach`] for a log that is there already; never begins one.
    ///
    /// # Errors
    /// [`Error::Foreign`] if there is none, and those of [`Log::attach`].
    pub fn existing(dir: &Path) -> Result<Self, Error> {
        let data = dir.join(tree::DATA);
        if !data.is_file() {
            let what = format!("there is no {}", data.display());
            return Err(Error::Foreign { dir: dir.to_owned(), what });
        }
        Self::attach(dir)
    }

    /// The end of the log.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Appends events that were decided together, and returns the number of the last one when all
    /// of them are on disk.
    ///
    /// # Errors
    /// [`Error::TooLarge`]: nothing was written. [`Error::Io`]: the process must end.
    pub fn append(&mut self, events: &[Recorded]) -> Result<u64, Error> {
        let (packs, head) = pack::pack(self.head, events)?;
        if packs.is_empty() {
            return Ok(self.head.seq);
        }
        self.store(&packs, head).map_err(|source| Error::Io { dir: self.dir.clone(), source })?;
        self.head = head;
        Ok(head.seq)
    }

    fn store(&mut self, packs: &[Vec<u8>], head: Head) -> io::Result<()> {
        if self.unsettled {
            return Err(io::Error::other("an earlier append failed: what it left is unknown"));
        }
        self.unsettled = true;
        packs.iter().try_for_each(|pack| self.store.put(pack))?;
        self.store.sync()?;
        self.mark.note(head)?;
        self.unsettled = false;
        Ok(())
    }

    /// Tells `each` every event with its number, oldest first. Checks checksum, place and link of
    /// each pack.
    ///
    /// # Errors
    /// The first fault, with the number of the event at which it lies.
    pub fn replay(&self, mut each: impl FnMut(u64, Recorded)) -> Result<(), Error> {
        let mut raw = Vec::new();
        self.walk(false, |before, pack| pack::events(before, pack, &mut raw, &mut each))
    }

    /// Events from the number `from` on, oldest first: a few hundred of them, and none only if
    /// there is none yet. Checks checksum, place and link of each pack.
    ///
    /// # Errors
    /// The first fault, with the number of the event at which it lies.
    pub fn read(&self, from: u64) -> Result<Vec<(u64, Recorded)>, Error> {
        let (mut events, mut raw) = (Vec::new(), Vec::new());
        let (mut next, mut head) = (from.max(1), None);
        while next <= self.head.seq && events.len() < READ_EVENTS {
            let pack = self.store.holding(next);
            let pack = pack.map_err(|source| Error::Io { dir: self.dir.clone(), source })?;
            let pack = pack.filter(|pack| pack::is_whole(pack)).ok_or_else(|| Error::Damaged {
                seq: next,
                what: "its pack is missing or its checksum is wrong".to_owned(),
            })?;
            let before = head.unwrap_or_else(|| pack::before(&pack));
            let after = pack::check(before, &pack, false)?;
            (next, head) = (after.seq + 1, Some(after));
            pack::events(before, &pack, &mut raw, |seq, recorded| {
                if seq >= from {
                    events.push((seq, recorded));
                }
            })?;
        }
        Ok(events)
    }

    /// Reads everything, checks every hash, and returns the head. `progress` is told after each
    /// pack how many events were read, and how many there are.
    ///
    /// # Errors
    /// The first fault, with the number of the event at which it lies.
    pub fn verify(&self, mut progress: impl FnMut(u64, u64)) -> Result<Head, Error> {
        let mut raw = Vec::new();
        self.walk(true, |before, pack| {
            let mut last = before.seq;
            pack::events(before, pack, &mut raw, |seq, _| last = seq)?;
            progress(last, self.head.seq);
            Ok(())
        })?;
        Ok(self.head)
    }

    /// Writes every event as one line of JSON, with its number.
    ///
    /// # Errors
    /// Those of [`Log::replay`], and [`Error::Io`] if `out` fails.
    pub fn export(&self, mut out: impl Write) -> Result<(), Error> {
        let mut raw = Vec::new();
        let mut written = Ok(());
        self.walk(false, |before, pack| {
            pack::events(before, pack, &mut raw, |seq, recorded| {
                if written.is_ok() {
                    written = Line { seq, recorded: &recorded }.write(&mut out);
                }
            })
        })?;
        written
            .and_then(|()| out.flush())
            .map_err(|source| Error::Io { dir: self.dir.clone(), source })
    }

    /// Checks every pack, and tells `each` the head before it and its bytes.
    fn walk(
        &self,
        fully: bool,
        mut each: impl FnMut(Head, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut head = Head::default();
        self.store.scan(&mut |pack| {
            let pack = pack.map_err(|source| match source.kind() {
                io::ErrorKind::InvalidData => {
                    Error::Damaged { seq: head.seq + 1, what: source.to_string() }
                }
                _ => Error::Io { dir: self.dir.clone(), source },
            })?;
            let before = head;
            head = pack::check(head, pack, fully)?;
            each(before, pack)
        })?;
        match head == self.head {
            true => Ok(()),
            false => Err(head.ends_before(self.head.seq)),
        }
    }
}

/// [`Log::verify`] of the log in `dir`, which must be there.
///
/// # Errors
/// Those of [`Log::attach`] and [`Log::verify`].
pub fn verify(dir: &Path, progress: impl FnMut(u64, u64)) -> Result<Head, Error> {
    Log::existing(dir)?.verify(progress)
}

/// [`Log::export`] of the log in `dir`, which must be there.
///
/// # Errors
/// Those of [`Log::attach`] and [`Log::export`].
pub fn export(dir: &Path, out: impl Write) -> Result<(), Error> {
    Log::existing(dir)?.export(out)
}

/// One line of an export.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    #[serde(flatten)]
    recorded: &'a Recorded,
}

impl Line<'_> {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests;
