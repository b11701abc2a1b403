//! Proves a backup: makes an etcd of its snapshot, on this machine and for this moment, and looks at
//! what it holds. The secrets of a cluster are in it, so it answers nobody but who has made it: its
//! certificates are as short-lived as itself.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use age::x25519::Identity;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rehull_shared::text::bounded;
use serde::Serialize;
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Error, SNAPSHOT, file::open, io_at, private, read_manifest};

/// How long etcdutl may take to make a store of a snapshot, and etcd to answer.
const RESTORE_MAX: Duration = Duration::from_secs(600);
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Between two questions to an etcd that starts.
const AGAIN: Duration = Duration::from_millis(300);

/// How often it is tried to delete what was decrypted.
const DELETIONS: usize = 10;

/// Where an API server keeps everything, and Nodes among it (their old name).
const KEYS: &str = "/registry/";
const NODES: &str = "/registry/minions/";

/// What an etcd that was made of a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// Objects of Kubernetes.
    pub keys: usize,
    /// Names of Nodes.
    pub nodes: Vec<String>,
}

/// An etcd for a moment. Its programs end with what they are waited for by.
struct Scratch {
    dir: PathBuf,
    programs: PathBuf,
}

/// Makes an etcd of the snapshot, with `etcdutl`, `etcd` and `etcdctl` of this directory. However it ends,
/// no program and no secret is left of it.
///
/// # Errors
/// If the backup cannot be opened, no etcd with objects of Kubernetes comes of it, or somebody wants it to
/// stop: in words.
pub async fn prove(
    dir: &Path,
    identity: &Identity,
    programs: &Path,
    stop: &CancellationToken,
) -> Result<Proof, Error> {
    let manifest = read_manifest(dir)?;
    let snapshot = manifest.files.iter().find(|file| file.path == SNAPSHOT);
    let snapshot = snapshot.ok_or_else(|| Error::Unusable("it has no snapshot".to_owned()))?;
    let temporary = tempfile::Builder::new().prefix("rehull-etcd-").tempdir();
    let temporary = temporary.map_err(io_at(&std::env::temp_dir()))?;
    let scratch = Scratch { dir: temporary.path().to_owned(), programs: programs.to_owned() };
    let store = private(&scratch.path(SNAPSHOT))?;
    let proof = match open(dir, snapshot, identity, store, stop) {
        Ok(()) => tokio::select! {
            proof = scratch.look() => proof,
            () = stop.cancelled() => Err(Error::Stopped),
        },
        Err(why) => Err(why),
    };
    deleted(temporary).await?;
    match proof {
        Err(_) if stop.is_cancelled() => Err(Error::Stopped), // programs hear Ctrl-C, too
        proof => proof,
    }
}

/// Deletes it. A program that is being killed may write into it for a moment.
async fn deleted(temporary: TempDir) -> Result<(), Error> {
    for _ in 0..DELETIONS {
        if fs::remove_dir_all(temporary.path()).is_ok() {
            _ = temporary.keep(); // there is nothing left to delete
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
    let path = temporary.path().to_owned();
    temporary.close().map_err(|source| Error::Left { path, source })
}

impl Scratch {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    async fn look(&self) -> Result<Proof, Error> {
        let (data, store) = (self.path("data"), self.path(SNAPSHOT));
        let restore = ["snapshot".as_ref(), "restore".as_ref(), store.as_os_str()];
        let mut etcdutl = self.program("etcdutl");
        etcdutl.args(restore).arg("--data-dir").arg(&data);
        said(etcdutl, RESTORE_MAX).await?;
        self.certificates().map_err(io_at(&self.dir))?;
        let ports = self.free_ports().map_err(io_at(&self.dir))?;
        let [client, peer] = ports.map(|port| format!("https://127.0.0.1:{port}"));
        let log = private(&self.path("etcd.log"))?;
        let mut etcd = self.program("etcd");
        etcd.arg("--data-dir").arg(&data);
        for (flag, url) in [
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
        ] {
            etcd.args([flag, url]);
        }
        for (flag, file) in [
            ("--cert-file", "cert.pem"),
            ("--key-file", "key.pem"),
            ("--trusted-ca-file", "ca.pem"),
            ("--peer-cert-file", "cert.pem"),
            ("--peer-key-file", "key.pem"),
            ("--peer-trusted-ca-file", "ca.pem"),
        ] {
            etcd.arg(flag).arg(self.path(file));
        }
        etcd.args(["--client-cert-auth", "--peer-client-cert-auth"]);
        etcd.stdout(Stdio::null()).stderr(log);
        let mut running = etcd.spawn().map_err(io_at(&self.programs.join("etcd")))?;
        let keys = timeout(ANSWER_MAX, async {
            loop {
                let asked = self.keys(&client).await;
                let ended = running.try_wait().ok().flatten().is_some();
                if asked.is_ok() || ended {
                    return asked;
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        let keys = keys.await;
        _ = running.kill().await; // it may have ended by itself
        match keys {
            Ok(Ok(keys)) => proof(&keys),
            Ok(Err(why)) => Err(self.silent(&why.to_string())),
            Err(_) => Err(self.silent("it does not answer")),
        }
    }

    /// Why no etcd came of it, with its own last words.
    fn silent(&self, why: &str) -> Error {
        let log = fs::read_to_string(self.path("etcd.log")).unwrap_or_default();
        let last = bounded(log.lines().last().unwrap_or_default(), 500);
        Error::Unusable(format!("no etcd came of its snapshot: {why}; its last words: {last}"))
    }

    async fn keys(&self, client: &str) -> Result<String, Error> {
        let mut etcdctl = self.program("etcdctl");
        etcdctl.args(["get", KEYS, "--prefix", "--keys-only", "--endpoints", client]);
        for (flag, file) in [("--cacert", "ca.pem"), ("--cert", "cert.pem"), ("--key", "key.pem")] {
            etcdctl.arg(flag).arg(self.path(file));
        }
        said(etcdctl, ANSWER_MAX).await
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env_clear().current_dir(&self.dir).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// A CA and one certificate of it, for both sides.
    fn certificates(&self) -> io::Result<()> {
        let made = || -> Result<[(&str, String); 3], rcgen::Error> {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate()?;
            let ca = params.self_signed(&key)?.pem();
            let issuer = Issuer::new(params, key);
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &issuer)?.pem();
            Ok([("ca.pem", ca), ("cert.pem", certificate), ("key.pem", key.serialize_pem())])
        };
        for (name, pem) in made().map_err(io::Error::other)? {
            fs::write(self.path(name), pem)?; // the directory is nobody else's
        }
        Ok(())
    }

    /// Two ports that nobody has, as far as one can tell before.
    fn free_ports(&self) -> io::Result<[u16; 2]> {
        let open = || TcpListener::bind("127.0.0.1:0");
        let (one, two) = (open()?, open()?);
        Ok([one.local_addr()?.port(), two.local_addr()?.port()])
    }
}

/// What a program prints, if it says that it is well.
async fn said(mut command: Command, patience: Duration) -> Result<String, Error> {
    let program = PathBuf::from(command.as_std().get_program());
    let name = program.display().to_string();
    let output = match timeout(patience, command.output()).await {
        Ok(output) => output.map_err(io_at(&program))?,
        Err(_) => {
            let seconds = patience.as_secs();
            return Err(Error::Unusable(format!("{name} does not end within {seconds} s")));
        }
    };
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let words = String::from_utf8_lossy(&output.stderr);
            let last = bounded(words.trim().lines().last().unwrap_or_default(), 500);
            Err(Error::Unusable(format!("{name}: {last}")))
        }
    }
}

fn proof(keys: &str) -> Result<Proof, Error> {
    let keys: Vec<&str> = keys.lines().filter(|line| line.starts_with(KEYS)).collect();
    let nodes = keys.iter().filter_map(|key| key.strip_prefix(NODES));
    let nodes: Vec<String> = nodes.map(str::to_owned).collect();
    match nodes.is_empty() {
        true => {
            let why = format!("an etcd that was made of it has {} keys, and no Node", keys.len());
            Err(Error::Unusable(why))
        }
        false => Ok(Proof { keys: keys.len(), nodes }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A directory with programs that do as they are told.
    fn programs(etcdutl: &str, etcd: &str, etcdctl: &str) -> TempDir {
        let programs = tempfile::tempdir().unwrap();
        for (program, script) in [("etcdutl", etcdutl), ("etcd", etcd), ("etcdctl", etcdctl)] {
            let path = programs.path().join(program);
            fs::write(&path, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        programs
    }

    async fn proved(etcdutl: &str, etcd: &str, etcdctl: &str) -> Result<Proof, String> {
        let (place, name, identity) = super::super::tests::a_backup();
        let programs = programs(etcdutl, etcd, etcdctl);
        let (dir, stop) = (place.path().join(name), CancellationToken::new());
        let proof = prove(&dir, &identity, programs.path(), &stop).await;
        proof.map_err(|error| error.to_string())
    }

    const RUNS: &str = "echo starting >&2; exec sleep 600";

    #[tokio::test]
    async fn an_etcd_with_nodes_proves_a_backup() {
        // The store is there, and the client is asked for by certificate.
        let restores = "test -s \"$3\" && mkdir \"$5\"";
        let lists = "test -s \"${12}\" || exit 1; test -s ca.pem || exit 1
            printf '/registry/minions/n1\\n\\n/registry/pods/a/b\\n\\n'";
        let proof = proved(restores, RUNS, lists).await.unwrap();
        assert_eq!(proof, Proof { keys: 2, nodes: vec!["n1".to_owned()] });
    }

    #[tokio::test]
    async fn what_proves_nothing_says_why() {
        let fails = "echo 'Error: expected sha256 [1]' >&2; exit 1";
        for (etcdutl, etcd, etcdctl, words) in [
            (fails, RUNS, "true", "etcdutl: Error: expected sha256 [1]"),
            ("true", "echo broken store >&2; exit 1", "exit 1", "its last words: broken store"),
            ("true", RUNS, "echo /registry/pods/a/b", "has 1 keys, and no Node"),
        ] {
            let why = proved(etcdutl, etcd, etcdctl).await.unwrap_err();
            assert!(why.contains(words), "{words}: {why}");
        }
    }

    /// Each of the three may be what it waits for.
    #[tokio::test]
    async fn a_proof_that_is_stopped_leaves_neither_a_program_nor_a_secret() {
        let waits = "echo $$ $PWD > \"${0%/*}/began\"; exec sleep 600";
        for (etcdutl, etcd, etcdctl) in
            [(waits, RUNS, "exit 1"), ("true", waits, "exit 1"), ("true", RUNS, waits)]
        {
            let (place, name, identity) = super::super::tests::a_backup();
            let programs = programs(etcdutl, etcd, etcdctl);
            let (dir, stop) = (place.path().join(name), CancellationToken::new());
            let began = async {
                loop {
                    let words = fs::read_to_string(programs.path().join("began"));
                    if let Some((pid, dir)) = words.unwrap_or_default().trim().split_once(' ') {
                        assert!(Path::new(dir).join(SNAPSHOT).exists());
                        stop.cancel();
                        return (pid.to_owned(), dir.to_owned());
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let proof = prove(&dir, &identity, programs.path(), &stop);
            let (proof, (pid, dir)) = tokio::join!(proof, began);
            assert!(matches!(proof, Err(Error::Stopped)), "{proof:?}");
            assert!(!Path::new(&dir).exists(), "{dir}");
            let ends = async {
                let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                while !(stat().is_empty() || stat().contains(") Z ")) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(Duration::from_secs(20), ends).await.expect("it runs on");
        }
    }
}
