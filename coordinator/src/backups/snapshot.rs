//! The hash that etcd puts behind its snapshot.

use sha2::{Digest, Sha256};

/// Length of the hash that etcd puts behind its snapshot, and of the pages in front of it.
const HASH_BYTES: usize = 32;
const PAGE_BYTES: u64 = 512;

/// Checks the hash that etcd puts behind its snapshot. Source: etcd's `snapshot.v3`: a store is whole
/// pages, and what is over is the SHA-256 of all before it.
#[derive(Default)]
pub(super) struct Snapshot {
    bytes: u64,
    before: Sha256,
    last: Vec<u8>,
}

impl Snapshot {
    pub(super) fn update(&mut self, content: &[u8]) {
        self.bytes += content.len() as u64;
        self.last.extend_from_slice(content);
        let sure = self.last.len().saturating_sub(HASH_BYTES);
        self.before.update(&self.last[..sure]);
        self.last.drain(..sure);
    }

    pub(super) fn check(self) -> Result<(), String> {
        if self.bytes % PAGE_BYTES != HASH_BYTES as u64 {
            return Err(format!("etcd's snapshot was cut off: it has {} bytes", self.bytes));
        }
        match self.before.finalize().as_slice() == self.last {
            true => Ok(()),
            false => Err("etcd's snapshot is not what its own hash says".to_owned()),
        }
    }
}
