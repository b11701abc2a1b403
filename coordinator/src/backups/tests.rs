//! Backups that are taken, damaged, and restored.

use std::os::unix::fs::PermissionsExt;

use age::x25519::Identity;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

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

/// Nobody stops it.
fn goes_on() -> CancellationToken {
    CancellationToken::new()
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
    restore(&dir, &place.identity, &out, &goes_on()).unwrap();
    let key = out.join("etc/kubernetes/ssl/ca.key");
    assert_eq!(fs::read(&key).unwrap(), b"a secret of the cluster");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read(out.join("etc/kubernetes/empty")).unwrap(), b"");
    assert_eq!(fs::read(out.join("kubean/prod-kubeconf/config")).unwrap(), b"hunter2");
    assert_eq!(fs::read(out.join(SNAPSHOT)).unwrap(), snapshot());
    let again = restore(&dir, &place.identity, &out, &goes_on()).unwrap_err();
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
    let left = list(place.dir.path(), None).unwrap();
    assert_eq!((left.len(), place.entries()), (2, 2));
    let taken_at = |at: usize| left[at].1.as_ref().unwrap().taken_at;
    assert!(taken_at(0) < taken_at(1));
    assert!(list(Path::new("/nowhere"), None).unwrap().is_empty());
}

#[test]
fn what_is_no_backup_neither_hides_those_that_are_nor_fails_the_next_one() {
    let mut place = Place::new(2);
    let first = place.take(whole(&snapshot())).unwrap().name;
    let damaged = place.take(whole(&snapshot())).unwrap().name;
    let of = |name: &str| place.dir.path().join(name);
    for dir in ["lost+found", "prod/lost+found", "prod/20230101T000000000Z-half-deleted"] {
        fs::create_dir(of(dir)).unwrap();
        fs::write(of(dir).join("000.age"), "x").unwrap();
    }
    fs::write(of("lost+found/manifest.json"), "x").unwrap();
    for file in ["notes", "prod/notes"] {
        fs::write(of(file), "x").unwrap();
    }
    fs::write(of(&damaged).join(MANIFEST), "{").unwrap();
    let hash = hex_of(&snapshot());
    let kept = |place: &Place| {
        let all = list(place.dir.path(), None).unwrap();
        all.into_iter().map(|(name, manifest)| (name, manifest.is_ok())).collect::<Vec<_>>()
    };
    assert_eq!(kept(&place), [(first.clone(), true), (damaged.clone(), false)]);
    let why = list(place.dir.path(), None).unwrap().remove(1).1.unwrap_err().to_string();
    assert!(why.contains(&damaged) && why.contains("is damaged: it is no manifest"), "{why}");
    let cluster = "prod".parse().unwrap();
    assert_eq!(place.backups.with_snapshot(&cluster, &hash).unwrap(), Some(first.clone()));
    let third = place.take(whole(&snapshot())).unwrap();
    assert_eq!(third.deleted, [""; 0], "a damaged one takes no place of those that are kept");
    let fourth = place.take(whole(&snapshot())).unwrap();
    assert_eq!(fourth.deleted, [first]);
    assert_eq!(kept(&place), [(damaged, false), (third.name, true), (fourth.name, true)]);
}

fn hex_of(content: &[u8]) -> String {
    rehull_shared::text::hex(&Sha256::digest(content))
}

#[test]
fn a_backup_that_cannot_be_deleted_is_no_trouble_of_the_one_that_is_stored() {
    let mut place = Place::new(1);
    let first = place.take(whole(&snapshot())).unwrap().name;
    let last = first.strip_prefix("prod/").unwrap();
    // What would be in the way of its new name.
    let remainder = place.dir.path().join(format!("prod/.partial-{last}"));
    fs::create_dir(&remainder).unwrap();
    fs::write(remainder.join("000.age"), "x").unwrap();
    assert_eq!(place.take(whole(&snapshot())).unwrap().deleted, [""; 0]);
    assert!(place.dir.path().join(&first).join(MANIFEST).exists(), "it is whole under its name");
    fs::remove_dir_all(&remainder).unwrap();
    assert_eq!(place.take(whole(&snapshot())).unwrap().deleted.len(), 2);
    assert_eq!(place.entries(), 1);
}

#[test]
fn a_directory_that_does_not_get_its_name_is_not_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let fresh = tempfile::tempdir_in(dir.path()).unwrap();
    let place = dir.path().join("nowhere/place");
    into_place(fresh, &place).unwrap_err();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_restore_that_is_stopped_leaves_nothing_behind() {
    let (place, name, identity) = a_backup();
    let around = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    let out = around.path().join("out");
    let stopped = restore(&place.path().join(name), &identity, &out, &stop).unwrap_err();
    assert!(matches!(stopped, Error::Stopped), "{stopped}");
    assert_eq!(fs::read_dir(around.path()).unwrap().count(), 0);
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
        assert!(restore(&dir, &place.identity, &out, &goes_on()).is_err() && !out.exists());
        fs::write(&path, content).unwrap();
    }
    // A manifest that leads elsewhere.
    let path = dir.join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("000.age", "../../x")).unwrap();
    assert!(verify(&dir, None).unwrap_err().to_string().contains("no file of a backup"));
    fs::write(&path, text.replace("/etc/kubernetes/ssl", "/etc/../..")).unwrap();
    let out = place.dir.path().join("out");
    assert!(restore(&dir, &place.identity, &out, &goes_on()).is_err() && !out.exists());
}
