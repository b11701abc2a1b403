//! What the log needs of a disk: two places can serve it, sled and a plain file.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use super::Error;

/// Packs in a row, kept in the order in which they are put.
pub(super) trait Store: Send {
    /// Adds a pack at the end. It may be lost in a crash until [`Store::sync`] has returned; if it
    /// is there after a crash, so is everything before it.
    fn put(&mut self, pack: &[u8]) -> io::Result<()>;

    /// Returns when everything put so far survives a loss of power. After an error nobody knows
    /// what does: the kernel may have dropped the pages that it could not write.
    fn sync(&mut self) -> io::Result<()>;

    /// Tells `each` every pack, oldest first, or why the next one cannot be read
    /// ([`io::ErrorKind::InvalidData`] if it is damaged). Ends at the first error of `each`.
    fn scan(&self, each: Each<'_>) -> Result<(), Error>;

    /// The pack that holds the event of this number; `None` if there is none yet.
    fn holding(&self, seq: u64) -> io::Result<Option<Vec<u8>>>;

    /// The last two packs, oldest first; fewer if there are fewer.
    fn tail(&self) -> io::Result<Vec<Vec<u8>>>;
}

/// Is told packs.
pub(super) type Each<'a> = &'a mut dyn FnMut(io::Result<&[u8]>) -> Result<(), Error>;

/// The process that has locked `file`, as the kernel lists it.
pub(super) fn holder(file: &Path) -> String {
    let Ok(inode) = fs::metadata(file).map(|file| format!(":{}", file.ino())) else {
        return "another process".to_owned();
    };
    // 1: FLOCK  ADVISORY  WRITE 708 08:01:393219 0 EOF
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let lock = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(1) == Some(&"FLOCK") && words.get(5)?.ends_with(&inode))
            .then(|| words[4].to_owned())
    };
    let Some(pid) = locks.lines().find_map(lock) else { return "another process".to_owned() };
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid} ({})", name.trim()),
        Err(_) => format!("process {pid}"),
    }
}
