//! Secrets are planted wherever rehull reads, and looked for wherever it writes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

mod api;
mod copied;
mod rehearsed;
mod served;

/// Fails if one of the secrets is in a text, as it is or in base64.
#[track_caller]
fn scan(what: &str, text: &[u8], secrets: &[&str]) {
    let text = String::from_utf8_lossy(text);
    for secret in secrets {
        // Base64 has three alignments; the inner part of each is the same wherever it stands.
        let coded = (0..3).map(|shift| {
            let coded = BASE64.encode(["x".repeat(shift).as_bytes(), secret.as_bytes()].concat());
            coded[4..coded.len() - 4].to_owned()
        });
        for form in coded.chain([(*secret).to_owned()]) {
            if let Some((before, _)) = text.split_once(&form) {
                let around =
                    &before[before.floor_char_boundary(before.len().saturating_sub(300))..];
                panic!("{what} tells the secret {secret:?} behind …{around}");
            }
        }
    }
}

/// Every file below a directory but those of these names, with its bytes.
fn files(dir: &Path, but: &[&str]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if but.iter().any(|name| entry.file_name() == *name) {
            continue;
        } else if kind.is_dir() {
            found.extend(files(&path, but));
        } else if kind.is_file() {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found
}
