//! One stored value: some events in a row, and the proof of what lay before them.
//!
//! ```text
//!  byte 0       1     5      37     38      42      50     58
//!  version u8 | crc | hash | codec | count | first | link | payload: (length, event)*
//! ```
//!
//! Numbers are little-endian. `crc` (CRC-32) covers all that follows it; `hash` is the SHA-256 of
//! the previous hash, the version, and all that follows it; `link` is the first 8 bytes of the
//! previous hash, so that a reader sees a missing or foreign neighbour for the price of a
//! comparison, and only `verify` needs to compute hashes.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{EVENT_BYTES_MAX, Error, Head, codec};
use crate::domain::event::Recorded;

/// Raw bytes of events in one pack, unless a single one is larger. Chosen for sled, which keeps 16
/// values in a page and makes a file of its own of every page over 128 KiB.
const PACK_BYTES_MAX: usize = 8 * 1024;

/// The format that this module writes.
const VERSION: u8 = 1;

const PLAIN: u8 = 0;
const LZ4: u8 = 1;

const CRC: usize = 1;
const HASH: usize = 5;
const CODEC: usize = 37;
const COUNT: usize = 38;
const FIRST: usize = 42;
const LINK: usize = 50;
const PAYLOAD: usize = 58;

/// A SHA-256; all zeros stand before the first pack.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rehull_shared::text::hex(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Packs `events` to follow `head`; returns the packs and the head after them.
pub(super) fn pack(mut head: Head, events: &[Recorded]) -> Result<(Vec<Vec<u8>>, Head), Error> {
    let mut packs = Vec::new();
    let (mut raw, mut count) = (Vec::with_capacity(PACK_BYTES_MAX), 0);
    let mut event = Vec::new();
    for recorded in events {
        event.clear();
        codec::encode(recorded, &mut event);
        if event.len() > EVENT_BYTES_MAX {
            return Err(Error::TooLarge { bytes: event.len() });
        }
        if count > 0 && raw.len() + event.len() + codec::LENGTH_BYTES_MAX > PACK_BYTES_MAX {
            packs.push(seal(&mut head, count, &raw));
            (count, raw) = (0, {
                raw.clear();
                raw
            });
        }
        codec::put_length(event.len(), &mut raw);
        raw.extend_from_slice(&event);
        count += 1;
    }
    if count > 0 {
        packs.push(seal(&mut head, count, &raw));
    }
    Ok((packs, head))
}

/// One pack after `head`, which moves on to it.
pub(super) fn seal(head: &mut Head, count: u32, raw: &[u8]) -> Vec<u8> {
    let mut pack = vec![0; PAYLOAD + lz4_flex::block::get_maximum_output_size(raw.len())];
    let packed = lz4_flex::block::compress_into(raw, &mut pack[PAYLOAD..])
        .expect("the buffer is as large as lz4 may ask for");
    let codec = if packed < raw.len() { LZ4 } else { PLAIN };
    pack.truncate(PAYLOAD + packed);
    if codec == PLAIN {
        pack.truncate(PAYLOAD);
        pack.extend_from_slice(raw);
    }
    pack[0] = VERSION;
    pack[CODEC] = codec;
    pack[COUNT..FIRST].copy_from_slice(&count.to_le_bytes());
    pack[FIRST..LINK].copy_from_slice(&(head.seq + 1).to_le_bytes());
    pack[LINK..PAYLOAD].copy_from_slice(&head.hash.0[..PAYLOAD - LINK]);
    let hash = hash(head.hash, &pack);
    pack[HASH..CODEC].copy_from_slice(&hash.0);
    let crc = crc32fast::hash(&pack[HASH..]);
    pack[CRC..HASH].copy_from_slice(&crc.to_le_bytes());
    *head = Head { seq: head.seq + u64::from(count), hash };
    pack
}

fn hash(previous: Hash, pack: &[u8]) -> Hash {
    let chain = Sha256::new().chain_update(previous.0);
    Hash(chain.chain_update([pack[0]]).chain_update(&pack[CODEC..]).finalize().into())
}

/// Number of the first event of a pack that was made here or checked.
pub(super) fn first(pack: &[u8]) -> u64 {
    u64::from_le_bytes(array(pack, FIRST))
}

/// The head that a pack says it follows, as far as it says: the number, and the link.
pub(super) fn before(pack: &[u8]) -> Head {
    let mut hash = Hash::default();
    hash.0[..PAYLOAD - LINK].copy_from_slice(&pack[LINK..PAYLOAD]);
    Head { seq: first(pack).wrapping_sub(1), hash }
}

/// Whether the bytes of a pack are those that were sealed, whatever stands before it.
pub(super) fn is_whole(pack: &[u8]) -> bool {
    pack.len() > PAYLOAD && u32::from_le_bytes(array(pack, CRC)) == crc32fast::hash(&pack[HASH..])
}

/// The head after `pack` if it is whole and follows `head`. Its own hash is computed only if
/// `fully`; without, it is covered by the checksum, which no accident passes.
pub(super) fn check(head: Head, pack: &[u8], fully: bool) -> Result<Head, Error> {
    let seq = head.seq + 1;
    let damaged = |what: String| Error::Damaged { seq, what };
    if pack.first().is_some_and(|version| *version > VERSION) && pack.len() > PAYLOAD {
        return Err(Error::Newer { seq, what: format!("its pack has version {}", pack[0]) });
    }
    if !is_whole(pack) || pack[0] != VERSION {
        return Err(damaged("the checksum of its pack is wrong".to_owned()));
    }
    if first(pack) != seq {
        return Err(damaged(format!("event {} stands in its place", first(pack))));
    }
    if pack[LINK..PAYLOAD] != head.hash.0[..PAYLOAD - LINK] {
        return Err(damaged("its pack was written after other events than these".to_owned()));
    }
    let sealed = Hash(array(pack, HASH));
    if fully && hash(head.hash, pack) != sealed {
        return Err(damaged("the hash of its pack is wrong: it was altered".to_owned()));
    }
    let count = u32::from_le_bytes(array(pack, COUNT));
    Ok(Head { seq: head.seq + u64::from(count), hash: sealed })
}

/// The head after the last pack, which must be whole, and follow the one before it.
pub(super) fn check_tail(tail: &[Vec<u8>]) -> Result<Head, Error> {
    match tail {
        [] => Ok(Head::default()),
        [only] => check(Head::default(), only, true),
        [.., before, last] => {
            if !is_whole(before) {
                let what = "the pack before the last one is not whole".to_owned();
                return Err(Error::Damaged { seq: first(before), what });
            }
            let count = u32::from_le_bytes(array(before, COUNT));
            let seq = first(before) - 1 + u64::from(count);
            check(Head { seq, hash: Hash(array(before, HASH)) }, last, true)
        }
    }
}

/// Tells `each` the events of a pack that was checked and stands after `before`. `raw` is room for
/// them, kept from pack to pack.
pub(super) fn events(
    before: Head,
    pack: &[u8],
    raw: &mut Vec<u8>,
    mut each: impl FnMut(u64, Recorded),
) -> Result<(), Error> {
    let newer = |seq, what| Error::Newer { seq, what };
    let mut rest = unpack(&pack[CODEC..], raw).map_err(|what| newer(before.seq + 1, what))?;
    let count = u64::from(u32::from_le_bytes(array(pack, COUNT)));
    for seq in before.seq + 1..=before.seq + count {
        let event = codec::take(&mut rest).ok_or_else(|| newer(seq, "it is cut short".into()))?;
        each(seq, codec::decode(event).map_err(|what| newer(seq, what))?);
    }
    match rest {
        [] => Ok(()),
        _ => Err(newer(before.seq + count, "its pack holds more than events".into())),
    }
}

fn unpack<'a>(pack: &'a [u8], raw: &'a mut Vec<u8>) -> Result<&'a [u8], String> {
    let payload = &pack[PAYLOAD - CODEC..];
    match pack[0] {
        PLAIN => Ok(payload),
        LZ4 => {
            raw.resize(EVENT_BYTES_MAX + PACK_BYTES_MAX, 0);
            let len = lz4_flex::block::decompress_into(payload, raw)
                .map_err(|error| format!("its pack does not decompress: {error}"))?;
            Ok(&raw[..len])
        }
        codec => Err(format!("its pack has the codec {codec}")),
    }
}

fn array<const N: usize>(pack: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| pack[at + i])
}
