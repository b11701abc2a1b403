//! Events as bytes.

use crate::domain::event::Recorded;

/// A length takes at most these many bytes.
pub(super) const LENGTH_BYTES_MAX: usize = 10;

/// Adds an event, as it is stored, to `out`: [MessagePack](https://msgpack.org), structs as arrays
/// of their fields, variants by name.
pub fn encode(recorded: &Recorded, out: &mut Vec<u8>) {
    rmp_serde::encode::write(out, recorded).expect("memory takes every event");
}

/// An event from its stored bytes. Fields that its array lacks at the end have their defaults.
///
/// # Errors
/// What in it this program does not know.
pub fn decode(bytes: &[u8]) -> Result<Recorded, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}

/// Adds a length: 7 bits a byte, least first, the high bit set on all but the last.
pub(super) fn put_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// Takes a length and as many bytes off the front; `None` if they are not there.
pub(super) fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}
