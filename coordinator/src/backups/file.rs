//! One file of a backup: encrypted while it comes in, and opened again.

use std::{
    fs,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use age::{
    Decryptor, Encryptor,
    stream::StreamWriter,
    x25519::{Identity, Recipient},
};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{Error, MANIFEST, SNAPSHOT, Stored, io_at, private, snapshot::Snapshot};

/// A file that is being stored.
pub(super) struct Writing {
    stored: Stored,
    path: PathBuf,
    plain: Sha256,
    snapshot: Option<Snapshot>,
    to: StreamWriter<Hashing<BufWriter<fs::File>>>,
}

impl Writing {
    pub(super) fn begin(
        dir: &Path,
        name: String,
        path: String,
        mode: u32,
        recipients: &[Recipient],
    ) -> Result<Self, Error> {
        let place = dir.join(&name);
        let file = private(&place)?;
        let encryptor = Encryptor::with_recipients(recipients.iter().map(|one| one as _))
            .map_err(|why| Error::Unusable(why.to_string()))?;
        let to = encryptor.wrap_output(Hashing::new(BufWriter::new(file)));
        let to = to.map_err(io_at(&place))?;
        let snapshot = (path == SNAPSHOT).then(Snapshot::default);
        let (sha256, stored_sha256) = (String::new(), String::new());
        let stored = Stored { path, mode, bytes: 0, sha256, stored: name, stored_sha256 };
        Ok(Self { stored, path: place, plain: Sha256::new(), snapshot, to })
    }

    pub(super) fn write(&mut self, content: &[u8]) -> Result<(), Error> {
        self.stored.bytes += content.len() as u64;
        self.plain.update(content);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.update(content);
        }
        self.to.write_all(content).map_err(io_at(&self.path))
    }

    pub(super) fn finish(self) -> Result<Stored, Error> {
        let Self { mut stored, path, plain, snapshot, to } = self;
        if let Some(snapshot) = snapshot {
            snapshot.check().map_err(Error::Unusable)?;
        }
        let Hashing { to, sha256 } = to.finish().map_err(io_at(&path))?;
        let file = to.into_inner().map_err(|error| io_at(&path)(error.into_error()))?;
        file.sync_all().map_err(io_at(&path))?;
        stored.sha256 = hex(plain);
        stored.stored_sha256 = hex(sha256);
        Ok(stored)
    }
}

/// Hashes what it passes on.
pub(super) struct Hashing<W> {
    to: W,
    pub(super) sha256: Sha256,
}

impl<W> Hashing<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, sha256: Sha256::new() }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let written = self.to.write(content)?;
        self.sha256.update(&content[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Where a file of a backup lies; a manifest could name anything.
pub(super) fn place(dir: &Path, file: &Stored) -> Result<PathBuf, Error> {
    let plain = file.stored.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    match plain && !file.stored.starts_with('.') {
        true => Ok(dir.join(&file.stored)),
        false => {
            let why = format!("{:?} is no file of a backup", file.stored);
            Err(Error::Damaged { path: dir.join(MANIFEST), why })
        }
    }
}

/// Decrypts one file, and checks that it is what was sent. Blocks, so it looks at each piece whether it is
/// to stop.
pub(super) fn open(
    dir: &Path,
    file: &Stored,
    identity: &Identity,
    to: impl Write,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let path = place(dir, file)?;
    let closed =
        |why: age::DecryptError| Error::Closed { path: path.clone(), why: why.to_string() };
    let from = fs::File::open(&path).map_err(io_at(&path))?;
    let decryptor = Decryptor::new_buffered(io::BufReader::new(from)).map_err(closed)?;
    let mut plain = decryptor.decrypt(std::iter::once(identity as _)).map_err(closed)?;
    let damaged = |why: String| Error::Damaged { path: path.clone(), why };
    let mut hash = Hashing::new(to);
    let mut snapshot = (file.path == SNAPSHOT).then(Snapshot::default);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        let read = plain.read(&mut buffer).map_err(|why| damaged(why.to_string()))?;
        if read == 0 {
            break;
        }
        if let Some(snapshot) = &mut snapshot {
            snapshot.update(&buffer[..read]);
        }
        hash.write_all(&buffer[..read]).map_err(io_at(&path))?;
    }
    if let Some(snapshot) = snapshot {
        snapshot.check().map_err(damaged)?;
    }
    match hex(hash.sha256) == file.sha256 {
        true => Ok(()),
        false => Err(damaged("what it holds has another hash".to_owned())),
    }
}

pub(super) fn hex(hash: Sha256) -> String {
    rehull_shared::text::hex(&hash.finalize())
}
