//! Sends what a lost control plane is made again from. Nothing of it is kept or logged here: every
//! piece goes from the disk, or from etcd, into the stream.

use rehull_proto::v1::{
    BackUp, BackupFile, BackupPart, BackupReceived, agent_link_client::AgentLinkClient,
    backup_part::Part, order_done::Outcome,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::{answer::Answer, api_server::Manifest, etcd::Member, host::Host};

/// What Kubernetes and etcd have on a control plane, under kubeadm and kubespray.
const DIRS: [&str; 6] = [
    "/etc/kubernetes",
    "/etc/kubernetes/manifests",
    "/etc/kubernetes/ssl",
    "/etc/kubernetes/ssl/etcd",
    "/etc/ssl/etcd/ssl",
    "/etc/kubernetes/pki/etcd",
];
/// Single files beside them. `pki` is a link to `ssl` under kubespray, and a directory under kubeadm.
const PKI: &str = "/etc/kubernetes/pki";
const ETCD_ENV: &str = "/etc/etcd.env";

/// The name of the snapshot among the files.
const SNAPSHOT: &str = "etcd.db";

const FILES_MAX: usize = 1024;
/// Names in a directory beside a file that is named.
const NAMES_MAX: usize = 16 * 1024;
/// How names of configuration end: logs and tokens of nodes may stand beside them.
const CONFIGURATION: [&str; 7] = [".yaml", ".yml", ".json", ".conf", ".crt", ".key", ".pem"];
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Most content of one message.
const PIECE_BYTES: usize = 64 * 1024;

/// Pieces that wait for the network: the memory that a backup takes.
const PIECES_MAX: usize = 16;

/// Nothing that is read is sent any more.
const NOT_TAKEN: &str = "the coordinator does not take it";

/// Carries the order out. The link is the one that the order came by.
pub(crate) async fn send(host: &Host, order: &BackUp, link: Channel) -> Answer {
    let (parts, outbound) = mpsc::channel(PIECES_MAX);
    let mut client = AgentLinkClient::new(link);
    let read = read(host, &order.id, parts);
    let sent = async {
        let mut answers = client.send_backup(ReceiverStream::new(outbound)).await?.into_inner();
        answers.message().await
    };
    let (read, sent) = tokio::join!(read, sent);
    // Where the disk fails, the stream only ends; where the coordinator does, it alone knows why.
    let (outcome, seen) = match (read, sent) {
        (Err(why), Err(status)) if why == NOT_TAKEN => {
            (Outcome::Failed, format!("{why}: {}", status.message()))
        }
        (Err(why), _) => (Outcome::Failed, why),
        (Ok(()), Err(status)) => (Outcome::Failed, status.message().to_owned()),
        (Ok(()), Ok(None)) => (Outcome::Failed, "the coordinator does not confirm it".to_owned()),
        (Ok(()), Ok(Some(BackupReceived { files, bytes }))) => {
            (Outcome::Done, format!("{files} files, {bytes} bytes"))
        }
    };
    Answer { outcome, seen, survivors: Vec::new() }
}

/// Reads everything into the stream. A file that cannot be read ends it: half a backup is none.
async fn read(host: &Host, id: &str, parts: mpsc::Sender<BackupPart>) -> Result<(), String> {
    let say = async |part| {
        let part = BackupPart { part: Some(part) };
        parts.send(part).await.map_err(|_| NOT_TAKEN.to_owned())
    };
    say(Part::Id(id.to_owned())).await?;
    for path in files(host)? {
        let content = host.bytes(&path, FILE_BYTES_MAX).map_err(|error| error.to_string())?;
        let mode = host.mode(&path).map_err(|error| error.to_string())?;
        say(Part::File(BackupFile { path, mode })).await?;
        for piece in content.chunks(PIECE_BYTES) {
            say(Part::Content(piece.to_vec())).await?;
        }
    }
    // Last: it is the youngest.
    let member = Member::connect(host).await.map_err(|why| why.to_string())?;
    let mut snapshot = member.snapshot().await.map_err(|why| why.to_string())?;
    say(Part::File(BackupFile { path: SNAPSHOT.to_owned(), mode: 0o600 })).await?;
    while let Some(piece) = snapshot.next().await.map_err(|why| why.to_string())? {
        for piece in piece.chunks(PIECE_BYTES) {
            say(Part::Content(piece.to_vec())).await?;
        }
    }
    say(Part::End(true)).await
}

/// The files in the directories, and those that the API server is started with, each once. A link to a
/// file is one: without it the backup would not be whole. Directories in them are others, or none of a
/// control plane.
fn files(host: &Host) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for dir in DIRS.into_iter().chain([PKI]) {
        let names = match host.canonical(dir) {
            Ok(place) if seen.contains(&place) => continue,
            Ok(place) => {
                seen.push(place);
                host.names(dir, FILES_MAX)
            }
            Err(error) if error.is_absence() => continue,
            Err(error) => Err(error),
        };
        let names = names.map_err(|error| error.to_string())?;
        found.extend(names.into_iter().map(|name| format!("{dir}/{name}")));
    }
    found.push(ETCD_ENV.to_owned());
    for path in started_with(host)? {
        let (dir, _) = path.rsplit_once('/').unwrap_or_default();
        let place = host.canonical(dir).map_err(|error| error.to_string())?;
        if seen.contains(&place) {
            continue;
        }
        // In a directory of Kubernetes' own, one file may name another.
        let beside = match dir.starts_with("/etc/kubernetes/") {
            true => configuration(host, dir)?,
            false => Vec::new(),
        };
        for path in beside.into_iter().chain([path]) {
            if !found.contains(&path) {
                found.push(path);
            }
        }
    }
    let paths = found.into_iter().map(|path| match host.leads_to_file(&path) {
        Ok(file) => Ok(file.then_some(path)),
        Err(error) => Err(error.to_string()),
    });
    let found = paths.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
    match found.len() {
        0 => Err("this host has no files of a control plane".to_owned()),
        1..=FILES_MAX => Ok(found),
        count => Err(format!("{count} files, more than {FILES_MAX}: this is no control plane")),
    }
}

/// The files that the API server is started with, where they lie on the host.
fn started_with(host: &Host) -> Result<Vec<String>, String> {
    let manifest = match Manifest::read(host) {
        Ok(manifest) => manifest,
        Err(error) if error.is_absence() => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let place = |path: &str| {
        if host.leads_to_file(path).map_err(|error| error.to_string())? {
            return Ok(path.to_owned());
        }
        // kubespray mounts some directories to another place than their own.
        let (_, name) = path.rsplit_once('/').unwrap_or_default();
        let mut mounted = manifest.mounted().map(|dir| format!("{dir}/{name}"));
        let place = mounted.find(|path| host.leads_to_file(path).unwrap_or_default());
        place.ok_or_else(|| {
            format!(
                "{path}: the API server is started with it, and it is nowhere in what is mounted: \
                 without it the backup is not whole"
            )
        })
    };
    manifest.files().map(place).collect()
}

/// What looks like configuration in a directory.
fn configuration(host: &Host, dir: &str) -> Result<Vec<String>, String> {
    let mut names = host.names(dir, NAMES_MAX).map_err(|error| error.to_string())?;
    names.retain(|name| CONFIGURATION.iter().any(|ending| name.ends_with(ending)));
    Ok(names.into_iter().map(|name| format!("{dir}/{name}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::directory::Directory;

    #[test]
    fn each_file_of_a_control_plane_is_sent_once() {
        let dir = tempfile::tempdir().unwrap();
        let host = Directory::new(dir.path());
        assert!(files(&host.host()).unwrap_err().contains("no files of a control plane"));
        for path in [
            "etc/kubernetes/admin.conf",
            "etc/kubernetes/manifests/etcd.yaml",
            "etc/kubernetes/ssl/ca.key",
            "etc/kubernetes/ssl/etcd/ca.crt",
            "etc/etcd.env",
            "etc/kubernetes/tmp/left-behind",
        ] {
            host.file(path, "x").unwrap();
        }
        std::os::unix::fs::symlink("ssl", dir.path().join("etc/kubernetes/pki")).unwrap();
        let found = files(&host.host()).unwrap();
        assert_eq!(
            found,
            [
                "/etc/kubernetes/admin.conf",
                "/etc/kubernetes/manifests/etcd.yaml",
                "/etc/kubernetes/ssl/ca.key",
                "/etc/kubernetes/ssl/etcd/ca.crt",
                "/etc/etcd.env",
            ]
        );
    }

    #[test]
    fn what_the_api_server_is_started_with_is_sent_wherever_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let host = Directory::new(dir.path());
        let manifest = "    - --encryption-provider-config=/etc/kubernetes/enc/enc.yaml\n    \
                        - --tls-private-key-file=/srv/keys/apiserver.key\n    \
                        - --client-ca-file=/etc/kubernetes/pki/ca.crt\n    \
                        - --admission-control-config-file=/etc/kubernetes/admission.yaml\n    \
                        - hostPath:\n        path: /etc/kubernetes/admission\n    \
                        - --audit-log-path=/var/log/audit.log\n    \
                        - --log-file=/var/log/apiserver.log\n";
        for (path, content) in [
            ("etc/kubernetes/manifests/kube-apiserver.yaml", manifest),
            ("etc/kubernetes/ssl/ca.crt", "x"),
            ("etc/kubernetes/enc/enc.yaml", "x"),
            ("etc/kubernetes/enc/also.yaml", "x"),
            ("etc/kubernetes/enc/audit.log", "x"),
            ("etc/kubernetes/admission/admission.yaml", "x"),
            ("srv/keys/apiserver.key", "x"),
            ("srv/keys/other.key", "x"),
        ] {
            host.file(path, content).unwrap();
        }
        std::os::unix::fs::symlink("ssl", dir.path().join("etc/kubernetes/pki")).unwrap();
        let found = files(&host.host()).unwrap();
        assert_eq!(
            found,
            [
                "/etc/kubernetes/manifests/kube-apiserver.yaml",
                "/etc/kubernetes/ssl/ca.crt",
                "/etc/kubernetes/enc/also.yaml",
                "/etc/kubernetes/enc/enc.yaml",
                "/srv/keys/apiserver.key",
                "/etc/kubernetes/admission/admission.yaml",
            ]
        );
        host.remove("etc/kubernetes/enc/enc.yaml").unwrap();
        let why = files(&host.host()).unwrap_err();
        assert!(
            why.starts_with("/etc/kubernetes/enc/enc.yaml: the API server is started"),
            "{why}"
        );
    }

    #[test]
    fn a_link_to_a_file_is_sent_as_the_file_and_one_that_leads_to_none_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let host = Directory::new(dir.path());
        host.file("etc/kubernetes/ssl/ca.crt", "x").unwrap();
        host.file("mnt/keys/ca.key", "secret").unwrap();
        host.file("mnt/etcd.env", "y").unwrap();
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, dir.path().join(name)).unwrap();
        };
        link("../../../mnt/keys/ca.key", "etc/kubernetes/ssl/ca.key");
        link("../../../mnt/keys", "etc/kubernetes/ssl/more");
        link("../mnt/etcd.env", "etc/etcd.env");
        let all = ["/etc/kubernetes/ssl/ca.crt", "/etc/kubernetes/ssl/ca.key", "/etc/etcd.env"];
        assert_eq!(files(&host.host()).unwrap(), all);
        assert_eq!(host.host().bytes(all[1], 100).unwrap(), b"secret");
        for (to, words) in [("gone", "leads nowhere"), ("/etc/passwd", "leads out of this host")] {
            link(to, "etc/kubernetes/ssl/sa.key");
            let why = files(&host.host()).unwrap_err();
            assert_eq!(why, format!("/etc/kubernetes/ssl/sa.key: is a link that {words}"));
            host.remove("etc/kubernetes/ssl/sa.key").unwrap();
        }
    }

    #[test]
    fn an_etcd_that_is_a_service_of_the_host_has_its_keys_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let host = Directory::new(dir.path());
        let all = [
            "/etc/kubernetes/manifests/kube-apiserver.yaml",
            "/etc/kubernetes/ssl/ca.key",
            "/etc/ssl/etcd/ssl/admin-m1-key.pem",
            "/etc/ssl/etcd/ssl/ca-key.pem",
            "/etc/ssl/etcd/ssl/ca.pem",
            "/etc/ssl/etcd/ssl/member-m1.pem",
            "/etc/ssl/etcd/ssl/node-m1.pem",
            "/etc/etcd.env",
        ];
        for path in all {
            host.file(&path[1..], "x").unwrap();
        }
        assert_eq!(files(&host.host()).unwrap(), all);
    }
}
