//! A log that is not what was written is never believed: it is named as damaged, and at which event.

#![expect(clippy::unwrap_used, reason = "a test stops where its ground is missing")]

use std::{fs, io, path::Path};

use rehull::log::{Error, Log};
use rehull_tests::{
    chance::Chance,
    logs::{Store, event, read},
};
use tempfile::{TempDir, tempdir};

const EVENTS: u64 = 3_000;

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry?.file_name()));
        if path.is_dir() { copy(&path, &to)? } else { fs::copy(path, to).map(drop)? }
    }
    Ok(())
}

/// A log as a process that was killed has left it: sled has written no index of it.
fn written(store: Store) -> TempDir {
    let (dir, left) = (tempdir().unwrap(), tempdir().unwrap());
    let mut log = store.attach(dir.path()).unwrap();
    for from in (1..=EVENTS).step_by(50) {
        log.append(&(from..from + 50).map(event).collect::<Vec<_>>()).unwrap();
    }
    copy(dir.path(), left.path()).unwrap();
    left
}

/// Opens and reads a copy with another content of its file.
fn read_with(store: Store, dir: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<u64, Error> {
    let changed = tempdir().unwrap();
    copy(dir, changed.path()).unwrap();
    let file = changed.path().join(store.data());
    let mut bytes = fs::read(&file).unwrap();
    change(&mut bytes);
    fs::write(&file, bytes).unwrap();
    read(&store.attach(changed.path())?)
}

/// A log with an index of sled's, and one without.
fn logs(store: Store) -> Vec<TempDir> {
    let (killed, opened) = (written(store), written(store));
    drop(store.attach(opened.path()).unwrap());
    vec![killed, opened]
}

#[test]
fn a_flipped_bit_is_found_or_harmless() {
    for store in Store::ALL {
        let mut found = 0;
        for dir in logs(store) {
            let mut chance = Chance(1);
            for _ in 0..40 {
                let flip = |bytes: &mut Vec<u8>| {
                    let at = chance.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << chance.below(8);
                };
                match read_with(store, dir.path(), flip) {
                    Ok(last) => assert_eq!(last, EVENTS, "{store:?}: events are gone"),
                    Err(Error::Damaged { seq, .. } | Error::Newer { seq, .. }) => {
                        assert!((1..=EVENTS).contains(&seq), "{store:?}: at {seq}");
                        found += 1;
                    }
                    Err(other) => panic!("{store:?}: {other}"),
                }
            }
        }
        // sled's file has room that holds nothing, and events that are stored again later.
        assert!(found >= if store == Store::File { 80 } else { 20 }, "{store:?}: only {found}");
    }
}

#[test]
fn an_end_that_is_cut_off_is_missed() {
    for store in Store::ALL {
        for dir in logs(store) {
            let mut chance = Chance(2);
            for _ in 0..20 {
                let cut =
                    |bytes: &mut Vec<u8>| bytes.truncate(chance.below(bytes.len() as u64) as usize);
                match read_with(store, dir.path(), cut) {
                    // sled's file ends with room for more.
                    Ok(last) => assert_eq!((store, last), (Store::Sled, EVENTS), "events are gone"),
                    Err(Error::Damaged { seq, .. }) => assert!((1..=EVENTS).contains(&seq)),
                    Err(other) => panic!("{store:?}: {other}"),
                }
            }
        }
    }
}

#[test]
fn a_file_that_is_gone_or_something_else_is_no_empty_log() {
    for store in Store::ALL {
        for dir in logs(store) {
            for junk in [&b""[..], &b"127.0.0.1 localhost\n"[..], &[0xff; 4096][..]] {
                let replaced = read_with(store, dir.path(), |bytes| *bytes = junk.to_vec());
                assert!(matches!(replaced, Err(Error::Damaged { .. })), "{store:?}: {replaced:?}");
            }
        }
    }
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = tempdir().unwrap();
    let foreign = |opened: Result<Log, Error>| matches!(opened, Err(Error::Foreign { .. }));
    assert!(foreign(Log::existing(dir.path())), "an empty directory holds no log");
    assert!(foreign(Log::existing(&dir.path().join("none"))), "there is nothing at all");
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    assert!(foreign(Log::attach(dir.path())), "somebody's directory");
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["notes.txt"]);
}

#[test]
fn another_log_under_the_same_mark_is_found() {
    for store in Store::ALL {
        let (dir, other) = (written(store), tempdir().unwrap());
        let mut log = store.attach(other.path()).unwrap();
        log.append(&(1..=EVENTS).map(event).collect::<Vec<_>>()).unwrap();
        drop(log);
        let bytes = fs::read(other.path().join(store.data())).unwrap();
        let swapped = read_with(store, dir.path(), |data| *data = bytes);
        assert!(matches!(swapped, Err(Error::Damaged { .. })), "{store:?}: {swapped:?}");
    }
}
