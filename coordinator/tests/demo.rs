//! The demo: every fault is caught, and the same seed writes the same log, byte for byte.

use std::path::PathBuf;

use rehull::{
    log,
    rehearsal::demo::{Fault, Options, Outcome, rehearse},
};

/// Rehearses, and gives what became of it with the log as text.
async fn demo(seed: u64, keep: PathBuf) -> (Outcome, Vec<u8>) {
    let options = Options { seed, keep: Some(keep) };
    let outcome = rehearse(&options, &mut |_| ()).await.expect("a rehearsal ends");
    let mut text = Vec::new();
    log::export(&outcome.dir.join("log"), &mut text).expect("its log is read");
    (outcome, text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_caught_and_the_log_follows_from_the_seed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let ((one, text), (again, same), (other, different)) =
        tokio::join!(demo(7, at("one")), demo(7, at("again")), demo(8, at("other")));
    for outcome in [&one, &other] {
        assert!(outcome.is_good(), "{outcome:#?}");
        assert_eq!(outcome.faults.len(), Fault::ALL.len());
    }
    assert_eq!(one.head, again.head, "the same seed, the same log");
    assert!(text == same, "the same seed, the same export");
    assert_ne!(one.head, other.head, "another seed, another log");
    assert!(text != different);

    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.lines().count() as u64, one.head.seq);
    // Virtual time only, no address or path of this machine, no key, no secret.
    assert!(text.lines().all(|line| line.contains("\"at\":\"2025-03-03T")), "a real time");
    let here = dir.path().display().to_string();
    for word in [here.as_str(), "127.0.0.1", "BEGIN ", "rehull-hosts-"] {
        assert!(!text.contains(word), "the log names {word}");
    }
    assert!(!at("one").join("tokens").exists(), "secrets are left behind");
    // Of the second member that ails, people hear at once, and not only where a gate asks.
    for event in ["QuorumAtRisk", "QuorumRestored"] {
        assert!(text.contains(event), "the log has no {event}");
    }
}
