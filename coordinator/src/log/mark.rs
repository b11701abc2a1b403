//! How far the log was acknowledged, noted beside the store: a store alone cannot tell an end that
//! was lost from one that was never written.
//!
//! ```text
//!  two slots in sectors of their own, written in turn:  seq u64 | hash | CRC-32 of both
//! ```
//!
//! A note is written when its events are on disk, and not flushed: after a loss of power it may be
//! older than the log, never newer. A crash tears one slot at most, and the other one is there.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use super::{Hash, Head};

const NAME: &str = "acknowledged";

/// Bytes from slot to slot: a sector, which a disk writes as a whole.
const SECTOR: usize = 512;

const HASH: usize = 8;
const CRC: usize = 40;
const SLOT: usize = 44;

/// The notes of an open log.
pub(super) struct Mark {
    file: fs::File,
    /// The slot with the newest note: the next one goes into the other.
    newest: usize,
}

impl Mark {
    /// Opens or begins the notes in `dir`, and gives the newest; the beginning of a log if there
    /// is none.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Head)> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(dir.join(NAME))?;
        let mut sectors = [0; 2 * SECTOR];
        if file.metadata()?.len() < sectors.len() as u64 {
            // Filled now, so that a note never needs room on a full disk.
            file.write_all_at(&sectors, 0)?;
            file.sync_all()?;
            fs::File::open(dir)?.sync_all()?;
        }
        file.read_exact_at(&mut sectors, 0)?;
        let notes = [0, 1].map(|slot| read(&sectors[slot * SECTOR..][..SLOT]).unwrap_or_default());
        let newest = usize::from(notes[1].seq > notes[0].seq);
        Ok((Self { file, newest }, notes[newest]))
    }

    /// Everything up to `head` is on disk.
    pub(super) fn note(&mut self, head: Head) -> io::Result<()> {
        let mut slot = [0; SLOT];
        slot[..HASH].copy_from_slice(&head.seq.to_le_bytes());
        slot[HASH..CRC].copy_from_slice(&head.hash.0);
        let crc = crc32fast::hash(&slot[..CRC]);
        slot[CRC..].copy_from_slice(&crc.to_le_bytes());
        let next = 1 - self.newest;
        self.file.write_all_at(&slot, (next * SECTOR) as u64)?;
        self.newest = next;
        Ok(())
    }
}

/// The note in a slot; `None` if it is torn or was never written.
fn read(slot: &[u8]) -> Option<Head> {
    let (noted, crc) = slot.split_at(CRC);
    let (seq, hash) = noted.split_at(HASH);
    let is_whole = crc == crc32fast::hash(noted).to_le_bytes();
    is_whole.then_some(Head {
        seq: u64::from_le_bytes(seq.try_into().ok()?),
        hash: Hash(hash.try_into().ok()?),
    })
}
