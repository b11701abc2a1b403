//! Backups that are taken, damaged, and restored.

use std::os::unix::fs::PermissionsExt;

use age::x25519::Identity;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;

fn whom(node: &str) -> Whom {
    ("prod".parse().unwrap(), node.parse().unwrap())
}

fn file(path: &str, content: &[u8]) -> Vec<Part> {
    let begin = Part::File { path: path.to_owned(), mode: 0o640 };
    let pieces = content.chunks(700).map(|piece| Part::Content(piece.to_vec()));
    std::iter::once(begin).chain(pieces).collect()
}

/// Three pages and their hash, as etcd sends it.
fn snapshot() -> Vec<u8> {
    let mut content = vec![7; 3 * 512];
    let hash = Sha256::digest(&content);
    content.extend_from_slice(&hash);
    content
}

fn whole(content: &[u8]) -> Vec<Part> {
    let mut parts = file("/etc/kubernetes/ssl/ca.key", b"a secret of the cluster");
    parts.extend(file("/etc/kubernetes/empty", b""));
    parts.extend(file(SNAPSHOT, content));
    parts.push(Part::End);
    parts
}

struct Place {
    dir: TempDir,
    identity: Identity,
    backups: Backups,
    taken: i64,
}

impl Place {
    fn new(keep: usize) -> Self {
        let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
        let backups = Backups::new(dir.path().to_owned(), vec![identity.to_public()], keep);
        Self { dir, identity, backups, taken: 0 }
    }

    fn take(&mut self, parts: Vec<Part>) -> Result<Taken, String> {
        self.taken += 1;
        let at = Timestamp::from_millis(1_700_000_000_000 + self.taken);
        let (path, content) = ("/kubean/prod-kubeconf/config".to_owned(), b"hunter2".to_vec());
        let beside = vec![Beside { path, content }];
        let (bytes, mut outcome) = self.backups.expect("id", whom("m1"), "ada".to_owned(), beside);
        let incoming = self.backups.accept("id", &whom("m1")).unwrap();
        let answer = incoming.store(parts.into_iter(), || at);
        let taken = outcome.try_recv().unwrap();
        assert_eq!(answer.ok(), taken.clone().ok().map(|taken| taken.manifest));
        assert!(taken.is_err() || bytes.load(Ordering::Relaxed) > 0);
        taken
    }

    fn entries(&self) -> usize {
        fs::read_dir(self.dir.path().join("prod")).map_or(0, Iterator::count)
    }
}

/// A backup in a directory of its own, its name, and the key to it.
pub(super) fn a_backup() -> (TempDir, String, Identity) {
    let mut place = Place::new(3);
    let name = place.take(whole(&snapshot())).unwrap().name;
    (place.dir, name, place.identity)
}

#[test]
fn what_was_sent_comes_back_and_nobody_else_can_read_it() {
    let mut place = Place::new(3);
    let Taken { name, manifest, deleted } = place.take(whole(&snapshot())).unwrap();
    assert_eq!((name.as_str(), deleted.len()), ("prod/20231114T221320001Z-m1", 0));
    assert_eq!(manifest.by, "ada");
    let dir = place.dir.path().join(&name);
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let content = fs::read(&path).unwrap();
        for secret in [&b"a secret of"[..], b"hunter2"] {
            assert!(!content.windows(secret.len()).any(|window| window == secret), "{path:?}");
        }
    }
    assert_eq!(verify(&dir, Some(&place.identity)).unwrap(), manifest);
    let out = place.dir.path().join("out");
    restore(&dir, &place.identity, &out).unwrap();
    let key = out.join("etc/kubernetes/ssl/ca.key");
    assert_eq!(fs::read(&key).unwrap(), b"a secret of the cluster");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read(out.join("etc/kubernetes/empty")).unwrap(), b"");
    assert_eq!(fs::read(out.join("kubean/prod-kubeconf/config")).unwrap(), b"hunter2");
    assert_eq!(fs::read(out.join(SNAPSHOT)).unwrap(), snapshot());
    let again = restore(&dir, &place.identity, &out).unwrap_err();
    assert!(again.to_string().contains("exists"), "{again}");
    let stranger = verify(&dir, Some(&Identity::generate())).unwrap_err();
    assert!(matches!(stranger, Error::Closed { .. }), "{stranger}");
}

#[test]
fn half_a_backup_is_none_and_leaves_nothing() {
    let mut place = Place::new(3);
    let cut = |parts: &mut Vec<Part>| drop(parts.pop());
    let mut parts = whole(&snapshot());
    cut(&mut parts);
    let mut flipped = snapshot();
    flipped[5] ^= 1;
    let two = || {
        let mut parts = whole(&snapshot());
        cut(&mut parts);
        parts.into_iter().chain(whole(&snapshot())).collect::<Vec<_>>()
    };
    for (parts, words) in [
        (parts, "it was cut off"),
        (whole(&snapshot()[..900]), "snapshot was cut off: it has 900 bytes"),
        (whole(&flipped), "not what its own hash says"),
        (two(), "it has /etc/kubernetes/ssl/ca.key twice"),
        (
            file("/kubean/prod-kubeconf/config", b"x")
                .into_iter()
                .chain(whole(&snapshot()))
                .collect(),
            "it has /kubean/prod-kubeconf/config twice",
        ),
        (vec![Part::End], "0 snapshots"),
        (vec![Part::Content(vec![1]), Part::End], "content comes before"),
        (file("/etc/../root/x", b"x"), "no path of a file"),
        (file("relative", b"x"), "no path of a file"),
        (file("/", b"x"), "no path of a file"),
    ] {
        let why = place.take(parts).unwrap_err();
        assert!(why.contains(words), "{words}: {why}");
        assert_eq!(place.entries(), 0, "{words}");
    }
}

#[test]
fn what_a_dead_coordinator_left_half_done_goes_when_the_next_one_starts() {
    let mut place = Place::new(3);
    let name = place.take(whole(&snapshot())).unwrap().name;
    let half = place.dir.path().join("prod/.partial-x");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("000.age"), "x").unwrap();
    Backups::new(place.dir.path().to_owned(), Vec::new(), 3);
    assert!(!half.exists() && place.dir.path().join(name).exists());
}

#[test]
fn a_backup_is_taken_from_whom_it_was_ordered_and_once() {
    let place = Place::new(3);
    let _waits = place.backups.expect("id", whom("m1"), String::new(), Vec::new());
    assert!(place.backups.accept("id", &whom("m2")).is_none());
    assert!(place.backups.accept("other", &whom("m1")).is_none());
    assert!(place.backups.accept("id", &whom("m1")).is_some());
    assert!(place.backups.accept("id", &whom("m1")).is_none());
    let _waits = place.backups.expect("id", whom("m1"), String::new(), Vec::new());
    place.backups.forget("id");
    assert!(place.backups.accept("id", &whom("m1")).is_none());
}

#[test]
fn older_ones_are_deleted_when_a_younger_one_is_whole() {
    let mut place = Place::new(2);
    let first = place.take(whole(&snapshot())).unwrap().name;
    place.take(whole(&snapshot())).unwrap();
    assert!(place.take(vec![Part::End]).is_err());
    assert_eq!(place.entries(), 2);
    assert_eq!(place.take(whole(&snapshot())).unwrap().deleted, [first]);
    let left: Vec<_> = list(place.dir.path(), None).unwrap();
    assert_eq!((left.len(), place.entries()), (2, 2));
    assert!(left[0].1.taken_at < left[1].1.taken_at);
    assert!(list(Path::new("/nowhere"), None).unwrap().is_empty());
}

#[test]
fn damage_is_found_in_every_file() {
    let mut place = Place::new(3);
    let name = place.take(whole(&snapshot())).unwrap().name;
    let dir = place.dir.path().join(name);
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        let mut bad = content.clone();
        *bad.last_mut().unwrap() ^= 1;
        fs::write(&path, bad).unwrap();
        let why = verify(&dir, None).unwrap_err();
        assert!(matches!(why, Error::Damaged { .. }), "{why}");
        let out = place.dir.path().join("out");
        assert!(restore(&dir, &place.identity, &out).is_err() && !out.exists());
        fs::write(&path, content).unwrap();
    }
    // A manifest that leads elsewhere.
    let path = dir.join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("000.age", "../../x")).unwrap();
    assert!(verify(&dir, None).unwrap_err().to_string().contains("no file of a backup"));
    fs::write(&path, text.replace("/etc/kubernetes/ssl", "/etc/../..")).unwrap();
    let out = place.dir.path().join("out");
    assert!(restore(&dir, &place.identity, &out).is_err() && !out.exists());
}
