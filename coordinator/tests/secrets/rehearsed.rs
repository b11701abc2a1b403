//! A whole migration, rehearsed: operations are made and archived, nodes recorded, and every line
//! of the log is asked for.

use std::{
    io,
    sync::{Arc, Mutex},
};

use rehull::{
    log,
    rehearsal::{
        SECRETS,
        demo::{Options, rehearse},
    },
};
use rehull_shared::text::sha256_hex;

use crate::{files, scan};

/// Everything that is logged, with every field of every span.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsed_migration_tells_no_secret_of_its_clusters() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .init();
    let dir = tempfile::tempdir().unwrap();
    let options = Options { seed: 7, keep: Some(dir.path().join("kept")) };
    let outcome = rehearse(&options, &mut |_| ()).await.unwrap();
    assert!(outcome.is_good() && outcome.operations > 0, "{outcome:#?}");

    // Tokens of agents and installers follow from the seed; the log may hold only their hashes.
    let tokens: Vec<String> =
        (0..40).map(|n| sha256_hex(format!("7/secret/{n}").as_bytes())).collect();
    let planted = SECRETS.into_iter().chain(tokens.iter().map(String::as_str));
    let planted: Vec<&str> = planted.collect();
    let mut text = Vec::new();
    log::export(&outcome.dir.join("log"), &mut text).unwrap();
    let told = String::from_utf8_lossy(&text);
    assert!(told.contains("login at registry.example with ***"), "the operations' logs are kept");
    assert!(tokens.iter().any(|token| told.contains(&sha256_hex(token.as_bytes()))));
    scan("the log", &text, &planted);
    let kept = files(&outcome.dir, &[]);
    assert!(kept.iter().any(|(name, _)| name.contains("/blobs/")), "nodes were recorded");
    for (name, content) in kept {
        scan(&name, &content, &planted);
    }
    let lines = lines.0.lock().unwrap();
    assert!(lines.len() > 10_000, "{} bytes were logged", lines.len());
    scan("a trace", &lines, &planted);
}
