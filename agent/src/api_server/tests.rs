//! Stopping and starting in directories in which the test is the kubelet.

use std::future::Future;

use tempfile::TempDir;

use super::*;
use crate::host::directory::Directory;

const TEXT: &str = "- kube-apiserver\n- --secure-port=6443\n";

/// A control plane: a kubelet, and an API server of it that listens.
fn host() -> (TempDir, Directory) {
    let dir = tempfile::tempdir().unwrap();
    let host = Directory::new(dir.path());
    host.process(40, "/usr/local/bin/kubelet", 400, false).unwrap();
    host.process(41, "/usr/local/bin/kube-apiserver", 410, true).unwrap();
    host.listeners_of(&[(6443, 41)]).unwrap();
    host.file(MANIFEST, TEXT).unwrap();
    (dir, host)
}

fn end(host: &Directory) {
    host.remove("proc/41").unwrap();
    host.listeners(&[]).unwrap();
}

fn places(host: &Directory) -> (bool, bool) {
    let host = host.host();
    (host.exists(MANIFEST).unwrap(), host.exists(ASIDE).unwrap())
}

async fn stop_within(host: &Directory, patience_seconds: u32) -> Answer {
    stop(&host.host(), &StopApiServer { id: "s".to_owned(), patience_seconds }).await
}

/// The order, and what the kubelet does when the manifest is gone.
async fn stop_while(host: &Directory, kubelet: impl Future<Output = ()>) -> Answer {
    let kubelet = async {
        while places(host) != (false, true) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        kubelet.await;
    };
    tokio::join!(stop_within(host, 20), kubelet).0
}

#[tokio::test]
async fn the_manifest_goes_aside_and_done_is_said_when_nothing_is_left() {
    let (_dir, host) = host();
    let answer = stop_while(&host, async {
        host.remove("proc/41").unwrap();
        tokio::time::sleep(LOOK_EVERY * 2).await; // the port is in use still
        host.listeners(&[]).unwrap();
    })
    .await;
    assert_eq!(answer.outcome, Outcome::Done, "{}", answer.seen);
    let (begin, rest) = answer.seen.split_once(" s, ").unwrap();
    let took: f64 = begin.strip_prefix("ended within ").unwrap().parse().unwrap();
    assert!((0.4..10.0).contains(&took), "{}", answer.seen);
    assert_eq!(
        rest,
        "port 6443 is free; the manifest is /etc/kubernetes/rehull-kube-apiserver.yaml now"
    );
    assert_eq!(host.host().text(ASIDE, 100).unwrap(), TEXT);
}

#[tokio::test]
async fn again_is_done_whether_or_not_a_kubelet_runs_by_now() {
    let (_dir, host) = host();
    stop_while(&host, async { end(&host) }).await;
    host.remove("proc/40").unwrap();
    host.process(1, "/sbin/init", 0, false).unwrap();
    let again = stop_within(&host, 0).await;
    assert_eq!(again.outcome, Outcome::Done);
    assert_eq!(again.seen, "no API server runs here, and no manifest is in place");
    assert_eq!(places(&host), (false, true));
}

#[tokio::test]
async fn what_does_not_end_in_time_has_failed_and_the_same_order_goes_on() {
    let (_dir, host) = host();
    let answer = stop_within(&host, 0).await;
    assert_eq!(answer.outcome, Outcome::Failed);
    let begin =
        "after 0 s still kube-apiserver 41 runs, port 6443 is listened on; the manifest stays";
    assert!(answer.seen.starts_with(begin), "{}", answer.seen);
    assert_eq!(places(&host), (false, true));
    end(&host);
    assert_eq!(stop_within(&host, 0).await.outcome, Outcome::Done);
}

#[tokio::test]
async fn the_port_is_the_one_that_the_manifest_says() {
    let (_dir, host) = host();
    host.file(MANIFEST, "- --secure-port=7443\n").unwrap();
    host.listeners(&[7443]).unwrap();
    host.remove("proc/41").unwrap();
    let answer = stop_within(&host, 0).await;
    assert!(answer.seen.starts_with("after 0 s still port 7443 is listened on"), "{}", answer.seen);
    host.listeners(&[6443]).unwrap();
    assert_eq!(stop_within(&host, 0).await.outcome, Outcome::Done, "6443 is somebody else's");
}

/// Whatever is not known or not as it must be: then nothing is moved.
#[tokio::test]
async fn without_a_kubelet_or_a_whole_look_nothing_is_done() {
    type Change = fn(&Directory);
    let cases: [(&str, Change); 5] = [
        ("no kubelet runs", |host| host.remove("proc/40").unwrap()),
        ("/proc/net/tcp: ", |host| host.remove("proc/net/tcp").unwrap()),
        ("--secure-port=x", |host| host.file(MANIFEST, "- --secure-port=x\n").unwrap()),
        ("longer than 65536 bytes", |host| host.file(MANIFEST, "x".repeat(70_000)).unwrap()),
        ("/proc: ", |host| ["proc/40", "proc/41"].iter().for_each(|p| host.remove(p).unwrap())),
    ];
    for (word, change) in cases {
        let (_dir, host) = host();
        change(&host);
        let answer = stop_within(&host, 0).await;
        assert_eq!(answer.outcome, Outcome::Refused, "{}", answer.seen);
        assert!(answer.seen.contains(word), "{}", answer.seen);
        assert_eq!(places(&host), (true, false), "{word}");
    }
    let (_dir, host) = host();
    assert_eq!(stop_within(&host, 301).await.seen, "301 s of patience, 300 s is the most");
    assert_eq!(places(&host), (true, false));
}

#[tokio::test]
async fn an_api_server_that_no_kubelet_has_started_is_left_alone() {
    let (_dir, host) = host();
    host.remove(MANIFEST).unwrap();
    let answer = stop_within(&host, 20).await;
    assert_eq!(answer.outcome, Outcome::Refused);
    assert!(answer.seen.starts_with("kube-apiserver 41 runs, port 6443"), "{}", answer.seen);
    assert!(answer.seen.contains("there is no /etc/kubernetes/manifests"), "{}", answer.seen);
}

#[tokio::test]
async fn a_start_ends_the_wait_for_the_stop() {
    let (_dir, host) = host();
    let started = async { assert_eq!(start(&host.host()).outcome, Outcome::Done) };
    let answer = stop_while(&host, started).await;
    assert_eq!(answer.outcome, Outcome::Failed);
    assert_eq!(answer.seen, format!("{MANIFEST} is in place again"));
    assert_eq!(places(&host), (true, false));
}

#[tokio::test]
async fn a_start_lays_back_what_was_laid_aside_and_nothing_over_another() {
    let (_dir, host) = host();
    let seen = |host: &Directory| {
        let Answer { outcome, seen, .. } = start(&host.host());
        (outcome, seen)
    };
    assert_eq!(seen(&host), (Outcome::Done, format!("{MANIFEST} is in place")));
    stop_within(&host, 0).await;
    assert_eq!(seen(&host), (Outcome::Done, format!("{MANIFEST} is in place again")));
    assert_eq!(
        (places(&host), host.host().text(MANIFEST, 100).unwrap()),
        ((true, false), TEXT.into())
    );
    host.file(ASIDE, "older").unwrap();
    assert_eq!(seen(&host).0, Outcome::Done);
    assert_eq!(host.host().text(MANIFEST, 100).unwrap(), TEXT, "what is in place stays");
    host.remove(MANIFEST).unwrap();
    host.remove(ASIDE).unwrap();
    let (outcome, why) = seen(&host);
    assert_eq!(outcome, Outcome::Failed);
    assert!(why.starts_with(&format!("neither {MANIFEST} nor {ASIDE} is there")), "{why}");
}

#[tokio::test]
async fn a_manifest_that_cannot_be_moved_is_named() {
    let (_dir, host) = host();
    host.file(&format!("{ASIDE}/in-the-way"), "").unwrap();
    let answer = stop_within(&host, 20).await;
    assert_eq!(answer.outcome, Outcome::Failed);
    assert!(answer.seen.starts_with(&format!("{MANIFEST} cannot be made {ASIDE} for good: ")));
    let read_only = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
    let words = not_moved(MANIFEST, ASIDE, &read_only);
    assert!(words.contains("restart rehull-agent.service"), "{words}");
}

#[tokio::test]
async fn a_process_that_names_its_manifest_ends_when_that_goes() {
    let (_dir, host) = host();
    host.file("proc/41/manifest", MANIFEST).unwrap();
    let answer = stop_within(&host, 0).await;
    assert_eq!(answer.outcome, Outcome::Done, "{}", answer.seen);
    assert!(answer.seen.starts_with("ended within 0.0 s, port 6443 is free"), "{}", answer.seen);
    assert!(!host.host().exists("/proc/41").unwrap() && host.host().exists("/proc/40").unwrap());
}
