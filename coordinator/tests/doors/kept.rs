//! Backups that are kept, by the program itself: no coordinator runs.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use age::{secrecy::ExposeSecret, x25519::Identity};
use rehull::backups::{Backups, Part, SNAPSHOT};
use rehull_shared::time::Timestamp;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::typed::{Typed, typed};

/// A coordinator's directory with two backups, and a key to them.
struct Kept {
    dir: TempDir,
    backups: [PathBuf; 2],
    key: PathBuf,
}

async fn kept() -> Kept {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let identity = Identity::generate();
    fs::write(at("key.txt"), identity.to_string().expose_secret()).unwrap();
    let init = typed(dir.path(), &["init", "--listen", "127.0.0.1:1"]).await;
    assert_eq!(init.code, 0, "{}", init.err);
    let config = fs::read_to_string(at("config.yaml")).unwrap();
    let (directory, public) = (at("backups"), identity.to_public());
    let backup =
        format!("backup:\n  directory: {}\n  recipients: [{public}]\n", directory.display());
    fs::write(at("config.yaml"), config + &backup).unwrap();
    let backups = Backups::new(directory.clone(), vec![public], 3);
    let backups = [1, 2].map(|second| {
        let whom = ("prod".parse().unwrap(), "m1".parse().unwrap());
        let mut store = vec![7; 1024];
        store.extend_from_slice(&Sha256::digest(&store));
        let _waits = backups.expect("id", whom.clone(), "ada".to_owned(), Vec::new());
        let file = Part::File { path: SNAPSHOT.to_owned(), mode: 0o600 };
        let parts = [file, Part::Content(store), Part::End];
        let taken_at = Timestamp::from_millis(second * 1_000);
        let incoming = backups.accept("id", &whom).unwrap();
        incoming.store(parts.into_iter(), || taken_at).unwrap();
        directory.join(format!("prod/19700101T00000{second}000Z-m1"))
    });
    Kept { key: at("key.txt"), backups, dir }
}

#[tokio::test]
async fn a_damaged_backup_is_named_beside_the_list_of_the_others() {
    let Kept { dir, backups: [whole, damaged], .. } = kept().await;
    let listed = typed(dir.path(), &["backup", "list"]).await;
    assert_eq!((listed.code, listed.out.lines().count()), (0, 3), "{}{}", listed.out, listed.err);
    fs::write(damaged.join("manifest.json"), "{").unwrap();
    let Typed { code, out, err } = typed(dir.path(), &["backup", "list"]).await;
    let (whole, damaged) = (whole.display().to_string(), damaged.display().to_string());
    assert_eq!((code, out.lines().count()), (1, 2), "{out}{err}");
    assert!(out.contains(&whole) && !out.contains(&damaged), "{out}");
    assert!(err.contains(&damaged) && err.contains("is damaged") && !err.contains(&whole), "{err}");
}

#[tokio::test]
async fn a_signal_ends_a_proof_and_takes_away_what_was_decrypted() {
    let Kept { dir, backups: [backup, _], key } = kept().await;
    for signal in ["TERM", "INT"] {
        // The first program that is needed tells its parent to stop, and does not end by itself.
        let etcdutl = dir.path().join("etcdutl");
        let script = format!(
            "#!/bin/sh\nPATH=/usr/bin:/bin\npwd > {}/began\nkill -{signal} $PPID\nexec sleep 600\n",
            dir.path().display()
        );
        fs::write(&etcdutl, script).unwrap();
        fs::set_permissions(&etcdutl, fs::Permissions::from_mode(0o755)).unwrap();
        let [backup, key, programs] =
            [&backup, &key, &dir.path().to_owned()].map(|path| path.display().to_string());
        let command =
            ["backup", "prove", &backup, "--identity", &key, "--programs", &programs, "--record"];
        let Typed { code, err, .. } = typed(dir.path(), &command).await;
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("stopped by a signal: nothing that was decrypted is left"), "{err}");
        let began = fs::read_to_string(dir.path().join("began")).unwrap();
        assert!(began.contains("rehull-etcd-") && !fs::exists(began.trim()).unwrap(), "{began}");
    }
}
