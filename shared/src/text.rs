//! Bounded text: what comes from outside is cut before it is kept or shown.

/// Longest text kept of one observation, in bytes: an event must fit a pack of the log.
pub const SEEN_BYTES_MAX: usize = 1_000;

/// `text` on one line, without control characters, and no longer than `max` bytes.
pub fn bounded(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if out.len() + c.len_utf8() + '…'.len_utf8() > max {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}

/// An error with its causes, each once: the outermost alone may only say "transport error".
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}

/// SHA-256 of `bytes` as 64 hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex(&sha2::Sha256::digest(bytes))
}

/// `bytes` as hexadecimal digits, two of each.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_character_and_loses_control_characters() {
        assert_eq!(bounded("a\nb\u{1b}[31m", 100), "a b [31m");
        let cut = bounded(&"ä".repeat(100), 21);
        assert!(cut.len() <= 21 && cut.ends_with('…'), "{cut}");
    }
}
