//! The log as one plain file: each pack behind its length.
//!
//! ```text
//!  length u32 | CRC-32 of the length | pack
//! ```
//!
//! The length has a checksum of its own: a damaged one in the middle must not make the rest look
//! like an unfinished end, which is cut.

use std::{
    fs::{self, OpenOptions, TryLockError},
    io::{self, BufReader, ErrorKind, Read, Seek},
    os::unix::fs::FileExt,
    path::Path,
};

use super::{
    Error, pack,
    store::{Each, Store, holder},
};

const NAME: &str = "events.log";

/// Bytes before a pack.
const PREFIX: usize = 8;

/// Bytes read ahead.
const READ_AHEAD: usize = 1 << 20;

/// An open file of packs.
pub(super) struct File {
    file: fs::File,
    /// Where the last two packs begin, oldest first.
    tail: Vec<u64>,
    /// Where the next one will.
    end: u64,
    /// One pack with its prefix: it is written in one call.
    buffer: Vec<u8>,
}

impl File {
    /// Opens or begins the file in `dir`, and cuts off a last pack that was never written to its
    /// end.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Io { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(dir.join(NAME)).map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                Error::Locked { dir: dir.to_owned(), holder: holder(&dir.join(NAME)) }
            }
            TryLockError::Error(source) => failed(source),
        })?;
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        let mut this = Self { file, tail: Vec::new(), end: 0, buffer: Vec::new() };
        this.find_end().map_err(failed)?;
        // What a process that is dead has written may be in memory only: nobody may see it yet.
        this.sync().map_err(failed)?;
        Ok(this)
    }

    /// Hops from length to length, and cuts what can only be an unfinished write: too few bytes,
    /// bytes that were never filled, or a last pack with a wrong checksum.
    fn find_end(&mut self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        let mut prefix = [0; PREFIX];
        while self.end + PREFIX as u64 <= len {
            self.file.read_exact_at(&mut prefix, self.end)?;
            let Some(length) = length(prefix) else { break };
            let next = self.end + PREFIX as u64 + u64::from(length);
            if next > len {
                return self.cut();
            }
            self.note(next);
        }
        if len - self.end < PREFIX as u64 || self.is_blank_from(self.end)? {
            self.cut()?;
        }
        if let [.., at] = self.tail[..]
            && !pack::is_whole(&self.read(at)?)
        {
            self.tail.pop();
            self.end = at;
            self.cut()?;
        }
        Ok(())
    }

    /// A pack lies between the end so far and `next`.
    fn note(&mut self, next: u64) {
        if self.tail.len() == 2 {
            self.tail.remove(0);
        }
        self.tail.push(self.end);
        self.end = next;
    }

    fn cut(&self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.sync_all()
    }

    fn is_blank_from(&self, at: u64) -> io::Result<bool> {
        let mut reader = self.reader(at)?;
        loop {
            match io::BufRead::fill_buf(&mut reader)? {
                [] => return Ok(true),
                bytes if bytes.iter().any(|byte| *byte != 0) => return Ok(false),
                bytes => {
                    let read = bytes.len();
                    io::BufRead::consume(&mut reader, read);
                }
            }
        }
    }

    fn reader(&self, at: u64) -> io::Result<BufReader<&fs::File>> {
        let mut file = &self.file;
        file.seek(io::SeekFrom::Start(at))?;
        Ok(BufReader::with_capacity(READ_AHEAD, file))
    }

    fn read(&self, at: u64) -> io::Result<Vec<u8>> {
        let mut pack = Vec::new();
        next(&mut self.reader(at)?, &mut pack)?;
        Ok(pack)
    }
}

impl Store for File {
    fn put(&mut self, pack: &[u8]) -> io::Result<()> {
        let length = u32::try_from(pack.len()).map_err(io::Error::other)?.to_le_bytes();
        self.buffer.clear();
        self.buffer.extend_from_slice(&length);
        self.buffer.extend_from_slice(&crc32fast::hash(&length).to_le_bytes());
        self.buffer.extend_from_slice(pack);
        self.file.write_all_at(&self.buffer, self.end)?;
        self.note(self.end + self.buffer.len() as u64);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn scan(&self, each: Each<'_>) -> Result<(), Error> {
        let mut pack = Vec::new();
        let mut reader = match self.reader(0) {
            Ok(reader) => reader,
            Err(error) => return each(Err(error)),
        };
        loop {
            match next(&mut reader, &mut pack) {
                Ok(true) => each(Ok(&pack))?,
                Ok(false) => return Ok(()),
                Err(error) => return each(Err(error)),
            }
        }
    }

    fn holding(&self, seq: u64) -> io::Result<Option<Vec<u8>>> {
        let mut reader = self.reader(0)?;
        let (mut pack, mut found) = (Vec::new(), None);
        while next(&mut reader, &mut pack)? {
            if !pack::is_whole(&pack) || pack::first(&pack) > seq {
                break;
            }
            found = Some(pack.clone());
        }
        Ok(found)
    }

    fn tail(&self) -> io::Result<Vec<Vec<u8>>> {
        if self.file.metadata()?.len() > self.end {
            return Err(damaged());
        }
        self.tail.iter().map(|at| self.read(*at)).collect()
    }
}

/// Reads the next pack; false at the end.
fn next(reader: &mut BufReader<&fs::File>, pack: &mut Vec<u8>) -> io::Result<bool> {
    if io::BufRead::fill_buf(reader)?.is_empty() {
        return Ok(false);
    }
    let mut prefix = [0; PREFIX];
    reader.read_exact(&mut prefix)?;
    pack.resize(length(prefix).ok_or_else(damaged)? as usize, 0);
    reader.read_exact(pack)?;
    Ok(true)
}

/// The length in a prefix; `None` if it is damaged.
fn length(prefix: [u8; PREFIX]) -> Option<u32> {
    let [a, b, c, d, crc @ ..] = prefix;
    let length = [a, b, c, d];
    (u32::from_le_bytes(crc) == crc32fast::hash(&length)).then(|| u32::from_le_bytes(length))
}

fn damaged() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the length of its pack is damaged")
}
