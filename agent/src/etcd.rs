//! The etcd member of this host, asked by its own protocol: no etcdctl is needed, and none could be
//! trusted after a removal.
//!
//! Where it is and by which certificates, the API server's manifest says: it needs the same, whether
//! etcd runs as a service of the host or as a static pod.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use rehull_proto::v1::{Etcd, EtcdAlarm, EtcdHash, EtcdMember};
use rehull_shared::text::{bounded, chain};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;
use tonic::{
    Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::{
    api_server::Manifest,
    host::{Host, Unreadable},
};

mod change;
mod played;
#[cfg(test)]
pub(crate) mod testing;
mod wire;

pub(crate) use played::Own;
pub use played::{PlayedEtcd, PlayedMember, State};

pub(crate) use change::{move_leader, remove_member};

use wire::{
    AlarmRequest, AlarmResponse, HashKvRequest, HashKvResponse, MemberListRequest,
    MemberListResponse, RangeRequest, RangeResponse, SnapshotRequest, SnapshotResponse,
    StatusRequest, StatusResponse,
};

const PEM_BYTES_MAX: usize = 64 * 1024;

/// One question. A member that is cut off from the others does not answer a read at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// The hash of a store: the member reads all of it.
const HASH_PATIENCE: Duration = Duration::from_secs(10);

/// The next piece of a snapshot: a slow disk, or a slow coordinator, may lie between two.
const PIECE_PATIENCE: Duration = Duration::from_secs(60);

/// Largest piece of a snapshot: etcd sends 32 KiB.
const PIECE_BYTES_MAX: usize = 1024 * 1024;

/// Largest answer that is taken.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Members and alarms that are passed on, addresses or complaints of each, and bytes of a word: more is
/// no etcd of Kubernetes.
const LIST_MAX: usize = 32;
const WORDS_MAX: usize = 4;
const WORD_BYTES_MAX: usize = 200;

/// What `etcdctl endpoint health` reads: any key does, and this one need not exist.
const HEALTH_KEY: &[u8] = b"health";

/// A member, and how it is reached.
#[derive(Debug, PartialEq, Eq)]
struct Access {
    /// `host:port`.
    address: String,
    ca: String,
    certificate: String,
    key: String,
}

/// A connection to the member of this host.
pub(crate) struct Member {
    link: Link,
}

/// How it is asked.
enum Link {
    Etcd(Channel),
    /// On a directory host.
    Played(Own),
}

/// A store that is being sent.
pub(crate) struct Snapshot {
    pieces: Pin<Box<dyn tokio_stream::Stream<Item = Result<SnapshotResponse, Status>> + Send>>,
}

impl Snapshot {
    /// The next piece; `None` behind the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Silence> {
        let lost = |why: &str| Silence::Lost(format!("Maintenance/Snapshot: {why}"));
        match timeout(PIECE_PATIENCE, self.pieces.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(piece))) => Ok(Some(piece.blob)),
            Ok(Some(Err(status))) => Err(lost(status.message())),
            Err(_) => Err(lost("the next piece does not come")),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Silence {
    /// This host has no API server, or its manifest does not say how it reaches etcd.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// In words.
    #[error("{0}")]
    Lost(String),
}

impl Member {
    /// Connects to the member of a host.
    pub(crate) async fn connect(host: &Host) -> Result<Self, Silence> {
        let access = access(host)?;
        if let Some(own) = host.played_etcd() {
            return Ok(Self { link: Link::Played(own.clone()) });
        }
        let tls = TlsConnector::from(client_config(host, &access)?);
        let address = access.address.clone();
        let dial = move |_| {
            let (tls, address) = (tls.clone(), address.clone());
            async move {
                let (name, _) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
                let name = name.trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(name).map_err(io::Error::other)?;
                let tcp = match address.parse::<SocketAddr>() {
                    Ok(address) => TcpStream::connect(address).await?,
                    Err(_) => TcpStream::connect(&address).await?,
                };
                tls.connect(name, tcp).await.map(TokioIo::new)
            }
        };
        let endpoint = Endpoint::from_static("http://etcd");
        let connected = endpoint.connect_with_connector(tower::service_fn(dial));
        let lost = |why: String| Silence::Lost(format!("{}: {why}", access.address));
        match timeout(PATIENCE, connected).await {
            Ok(Ok(channel)) => Ok(Self { link: Link::Etcd(channel) }),
            Ok(Err(error)) => Err(lost(chain(&error))),
            Err(_) => Err(lost(format!("no connection within {} s", PATIENCE.as_secs()))),
        }
    }

    /// Asks for everything, the content's hash at `hash_revision` only if that is not 0. The read
    /// comes first: only a quorum can answer it, and what is asked after it is no older.
    pub(crate) async fn look(&self, hash_revision: i64) -> Result<Etcd, Silence> {
        let range = RangeRequest { key: HEALTH_KEY.to_vec(), count_only: true };
        let read: RangeResponse = self.ask("KV/Range", range, PATIENCE).await?;
        let status: StatusResponse =
            self.ask("Maintenance/Status", StatusRequest {}, PATIENCE).await?;
        let list = MemberListRequest { linearizable: true };
        let list: MemberListResponse = self.ask("Cluster/MemberList", list, PATIENCE).await?;
        let alarms: AlarmResponse =
            self.ask("Maintenance/Alarm", AlarmRequest { action: 0 }, PATIENCE).await?;
        let hash = match hash_revision {
            0 => None,
            revision => {
                let hash = HashKvRequest { revision };
                let hash: HashKvResponse =
                    self.ask("Maintenance/HashKV", hash, HASH_PATIENCE).await?;
                let HashKvResponse { hash, compact_revision } = hash;
                Some(EtcdHash { revision, hash, compact_revision })
            }
        };
        let header = status.header.unwrap_or_default();
        let member = |member: wire::Member| EtcdMember {
            id: member.id,
            name: bounded(&member.name, WORD_BYTES_MAX),
            peer_urls: words(member.peer_urls),
            client_urls: words(member.client_urls),
            learner: member.is_learner,
        };
        let alarm = |alarm: wire::Alarm| EtcdAlarm {
            member_id: alarm.member_id,
            kind: match alarm.kind {
                1 => "NOSPACE".to_owned(),
                2 => "CORRUPT".to_owned(),
                other => other.to_string(),
            },
        };
        Ok(Etcd {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            version: bounded(&status.version, WORD_BYTES_MAX),
            leader: status.leader,
            raft_term: status.raft_term,
            raft_index: status.raft_index,
            raft_applied_index: status.raft_applied_index,
            revision: read.header.unwrap_or_default().revision,
            db_bytes: status.db_size,
            db_quota_bytes: status.db_size_quota,
            errors: words(status.errors),
            members: list.members.into_iter().take(LIST_MAX).map(member).collect(),
            alarms: alarms.alarms.into_iter().take(LIST_MAX).map(alarm).collect(),
            hash,
        })
    }

    /// Has the member send its store, piece by piece.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, Silence> {
        let lost = |why: String| Silence::Lost(format!("Maintenance/Snapshot: {why}"));
        let channel = match &self.link {
            Link::Etcd(channel) => channel.clone(),
            Link::Played(own) => {
                let whole = played(own, "Maintenance/Snapshot", &SnapshotRequest {})?;
                return Ok(Snapshot { pieces: Box::pin(tokio_stream::once(Ok(whole))) });
            }
        };
        let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Snapshot");
        let mut client = Grpc::new(channel).max_decoding_message_size(PIECE_BYTES_MAX);
        let asked = async {
            client.ready().await.map_err(|error| lost(chain(&error)))?;
            let codec: ProstCodec<SnapshotRequest, SnapshotResponse> = ProstCodec::default();
            let request = tonic::Request::new(SnapshotRequest {});
            let pieces = client.server_streaming(request, path, codec).await;
            pieces
                .map(tonic::Response::into_inner)
                .map_err(|status| lost(status.message().to_owned()))
        };
        match timeout(PATIENCE, asked).await {
            Ok(pieces) => Ok(Snapshot { pieces: Box::pin(pieces?) }),
            Err(_) => Err(lost(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }

    async fn ask<Q, A>(
        &self,
        method: &'static str,
        request: Q,
        patience: Duration,
    ) -> Result<A, Silence>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let channel = match &self.link {
            Link::Etcd(channel) => channel.clone(),
            Link::Played(own) => return played(own, method, &request),
        };
        let lost = |why: String| Silence::Lost(format!("{method}: {why}"));
        let path: PathAndQuery =
            format!("/etcdserverpb.{method}").parse().map_err(|why| lost(format!("{why}")))?;
        let mut client = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let asked = async {
            client.ready().await.map_err(|error| lost(chain(&error)))?;
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            let answer = client.unary(tonic::Request::new(request), path, codec).await;
            answer
                .map(tonic::Response::into_inner)
                .map_err(|status| lost(status.message().to_owned()))
        };
        match timeout(patience, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(lost(format!("no answer within {} s", patience.as_secs()))),
        }
    }
}

/// What a played member answers.
fn played<A: prost::Message + Default>(
    own: &Own,
    method: &str,
    question: &impl prost::Message,
) -> Result<A, Silence> {
    let answer = own.answer(method, &question.encode_to_vec());
    let answer = answer.and_then(|bytes| A::decode(&*bytes).map_err(|why| why.to_string()));
    answer.map_err(|why| Silence::Lost(format!("{method}: {why}")))
}

fn words(all: Vec<String>) -> Vec<String> {
    all.iter().take(WORDS_MAX).map(|word| bounded(word, WORD_BYTES_MAX)).collect()
}

/// How the API server of this host reaches etcd. Of several members, the one of this host.
fn access(host: &Host) -> Result<Access, Unreadable> {
    let manifest = Manifest::read(host)?;
    let nonsense = |what| Unreadable::nonsense(manifest.path, what);
    let flag = |name: &str| {
        let found = manifest.flag(name).map(str::to_owned);
        found.ok_or_else(|| nonsense(format!("does not say --{name}")))
    };
    let own: Vec<String> = host.addresses()?.into_iter().map(|(_, address)| address).collect();
    let servers = flag("etcd-servers")?;
    let is_here = |address: &&str| {
        let name = address.rsplit_once(':').map_or(*address, |(name, _)| name);
        let name = name.trim_matches(['[', ']']);
        matches!(name, "127.0.0.1" | "::1" | "localhost") || own.iter().any(|one| one == name)
    };
    let mut addresses = servers.split(',').filter_map(|url| url.trim().strip_prefix("https://"));
    let address = addresses
        .find(is_here)
        .ok_or_else(|| nonsense(format!("no etcd of this host among {servers}")))?;
    Ok(Access {
        address: address.trim_end_matches('/').to_owned(),
        ca: flag("etcd-cafile")?,
        certificate: flag("etcd-certfile")?,
        key: flag("etcd-keyfile")?,
    })
}

/// TLS with the host's own certificates, and the etcd's CA as the only one.
fn client_config(host: &Host, access: &Access) -> Result<Arc<ClientConfig>, Silence> {
    let Access { ca, certificate, key, .. } = access;
    let bad = |path: &str, why: String| Unreadable::nonsense(path, why);
    let certificates = |path: &str| -> Result<Vec<CertificateDer<'static>>, Unreadable> {
        let pem = host.bytes(path, PEM_BYTES_MAX)?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        all.map_err(|error| bad(path, error.to_string()))
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(ca)? {
        roots.add(root).map_err(|error| bad(ca, error.to_string()))?;
    }
    let secret = host.bytes(key, PEM_BYTES_MAX)?;
    // Not a word of the key, whatever is wrong with it.
    let secret =
        PrivateKeyDer::from_pem_slice(&secret).map_err(|_| bad(key, "holds no key".into()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Silence::Lost(error.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(certificate)?, secret);
    let mut config = config.map_err(|error| bad(certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::directory::Directory;

    const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

    fn manifest(servers: &str) -> String {
        format!(
            "spec:\n  containers:\n  - command:\n    - kube-apiserver\n    \
             - --etcd-cafile=/etc/ssl/etcd/ca.pem\n    \
             - \"--etcd-certfile=/etc/ssl/etcd/node.pem\"\n    \
             - --etcd-keyfile=/etc/ssl/etcd/node-key.pem\n    - --etcd-servers={servers}\n"
        )
    }

    fn host(manifest: &str) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Directory::new(dir.path());
        host.file(MANIFEST, manifest).unwrap();
        host.file("sys/class/net/eth0/addresses", "10.0.0.11\n").unwrap();
        let host = host.host();
        (dir, host)
    }

    #[test]
    fn of_several_members_the_one_of_this_host_is_asked() {
        for (servers, address) in [
            ("https://127.0.0.1:2379", Some("127.0.0.1:2379")),
            ("https://10.0.0.1:2379,https://10.0.0.11:2379", Some("10.0.0.11:2379")),
            ("https://10.0.0.11:2379, https://10.0.0.1:2379", Some("10.0.0.11:2379")),
            // Never one of the others, whatever its own is called.
            ("https://10.0.0.1:2379,https://10.0.0.12:2379,https://10.0.0.110:2379", None),
            ("https://[::1]:2379/", Some("[::1]:2379")),
            ("https://10.0.0.1:2379", None),
            ("http://127.0.0.1:2379", None),
        ] {
            let (_dir, host) = host(&manifest(servers));
            let found = access(&host).map(|access| access.address).ok();
            assert_eq!(found.as_deref(), address, "{servers}");
        }
        let (_dir, host) = host(&manifest("https://127.0.0.1:2379"));
        let access = access(&host).unwrap();
        assert_eq!(access.certificate, "/etc/ssl/etcd/node.pem");
        assert_eq!(access.key, "/etc/ssl/etcd/node-key.pem");
    }

    #[test]
    fn an_etcd_is_found_also_while_the_api_server_is_out_of_service() {
        let (dir, host) = host(&manifest("https://127.0.0.1:2379"));
        let aside = "/etc/kubernetes/rehull-kube-apiserver.yaml";
        host.rename(MANIFEST, aside).unwrap();
        assert_eq!(access(&host).unwrap().address, "127.0.0.1:2379");
        let place = Directory::new(dir.path());
        place.file(MANIFEST, manifest("https://[::1]:2379")).unwrap();
        assert_eq!(access(&host).unwrap().address, "[::1]:2379", "the one in place goes first");
        place.remove(MANIFEST).unwrap();
        place.file(aside, manifest("https://10.0.0.1:2379")).unwrap();
        let why = access(&host).unwrap_err().to_string();
        assert!(why.starts_with(&format!("{aside}: no etcd of this host")), "{why}");
        place.remove(aside).unwrap();
        assert!(access(&host).unwrap_err().to_string().starts_with(MANIFEST));
    }

    #[tokio::test]
    async fn what_is_missing_is_named_and_no_key_is_shown() {
        let why = |host: Host| async move {
            match Member::connect(&host).await {
                Ok(_) => panic!("it is connected"),
                Err(why) => why.to_string(),
            }
        };
        let (_dir, lacking) = host("- --etcd-servers=https://127.0.0.1:1\n");
        assert!(why(lacking).await.ends_with("kube-apiserver.yaml: does not say --etcd-cafile"));
        let (dir, found) = host(&manifest("https://127.0.0.1:1"));
        assert!(why(found.clone()).await.starts_with("/etc/ssl/etcd/ca.pem: "));
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let place = Directory::new(dir.path());
        for name in ["ca.pem", "node.pem"] {
            place.file(&format!("etc/ssl/etcd/{name}"), made.cert.pem()).unwrap();
        }
        place.file("etc/ssl/etcd/node-key.pem", "hunter2").unwrap();
        assert_eq!(why(found.clone()).await, "/etc/ssl/etcd/node-key.pem: holds no key");
        place.file("etc/ssl/etcd/node-key.pem", made.signing_key.serialize_pem()).unwrap();
        assert!(why(found).await.starts_with("127.0.0.1:1: "), "nobody listens there");
    }
}
