//! An etcd that speaks etcd's own protocol over TLS, and does what the test says.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Response, Status,
    body::Body,
    server::{Grpc, NamedService},
    transport::{Identity, Server, ServerTlsConfig},
};
use tonic_prost::ProstCodec;

use super::wire::{
    self, Header, MemberListRequest, MemberListResponse, MemberRemoveRequest, MemberRemoveResponse,
    MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse,
};
use crate::host::directory::Directory;

/// The member of this host, the one that goes, and a third.
pub(crate) const OWN: u64 = 0xa1;
pub(crate) const OLD: u64 = 0xb2;
pub(crate) const THIRD: u64 = 0xc3;

pub(crate) fn url(id: u64) -> String {
    format!("https://10.0.0.{}:2380", id % 16)
}

/// What the test decides, and sees.
pub(crate) struct Store {
    pub(crate) leader: u64,
    pub(crate) members: Vec<u64>,
    /// What was asked for, changes only.
    asked: Vec<String>,
    /// What a request to hand on the leadership does, and a removal.
    pub(crate) on_move: fn(&mut Store, u64) -> Result<(), Status>,
    pub(crate) on_removal: fn(&mut Store, u64) -> Result<(), Status>,
}

impl Store {
    fn move_leader(&mut self, to: u64) -> Result<MoveLeaderResponse, Status> {
        self.asked.push(format!("move to {to:x}"));
        (self.on_move)(self, to).map(|()| MoveLeaderResponse {})
    }

    fn remove(&mut self, id: u64) -> Result<MemberRemoveResponse, Status> {
        self.asked.push(format!("remove {id:x}"));
        (self.on_removal)(self, id).map(|()| MemberRemoveResponse {})
    }

    fn list(&self, linearizable: bool) -> Result<MemberListResponse, Status> {
        assert!(linearizable, "a list as one member has it may be old");
        let member = |id: &u64| wire::Member {
            id: *id,
            peer_urls: vec![url(*id)],
            ..wire::Member::default()
        };
        let members = self.members.iter().map(member).collect();
        Ok(MemberListResponse { header: Some(header()), members })
    }

    fn status(&self) -> Result<StatusResponse, Status> {
        let leader = self.leader;
        Ok(StatusResponse { header: Some(header()), leader, ..StatusResponse::default() })
    }
}

fn header() -> Header {
    Header { member_id: OWN, ..Header::default() }
}

/// The member of a host, until it is dropped.
pub(crate) struct FakeEtcd {
    store: Arc<Mutex<Store>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for FakeEtcd {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeEtcd {
    /// Of three members, the one of this host leads, and every change works. The host is made one that
    /// finds it.
    pub(crate) async fn start(host: &Directory) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        host.file("sys/class/net/lo/addresses", "127.0.0.1\n").unwrap();
        host.file("etc/ca.pem", &certificate).unwrap();
        host.file("etc/key.pem", &key).unwrap();
        let manifest = format!(
            "- --etcd-servers=https://127.0.0.1:{port}\n- --etcd-cafile=/etc/ca.pem\n\
             - --etcd-certfile=/etc/ca.pem\n- --etcd-keyfile=/etc/key.pem\n"
        );
        host.file("etc/kubernetes/manifests/kube-apiserver.yaml", manifest).unwrap();
        let store = Arc::new(Mutex::new(Store {
            leader: OWN,
            members: vec![OWN, OLD, THIRD],
            asked: Vec::new(),
            on_move: |store, to| {
                store.leader = to;
                Ok(())
            },
            on_removal: |store, id| {
                store.members.retain(|one| *one != id);
                Ok(())
            },
        }));
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        let serving = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(Maintenance(store.clone()))
            .add_service(Cluster(store.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { store, server }
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Store)) {
        change(&mut self.store.lock().unwrap());
    }

    /// The changes that were asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.store.lock().unwrap().asked.clone()
    }

    /// As if it had crashed.
    pub(crate) fn stop(&self) {
        self.server.abort();
    }
}

/// The services of etcd that are asked; the same store behind both.
#[derive(Clone)]
struct Maintenance(Arc<Mutex<Store>>);
#[derive(Clone)]
struct Cluster(Arc<Mutex<Store>>);

impl NamedService for Maintenance {
    const NAME: &'static str = "etcdserverpb.Maintenance";
}

impl NamedService for Cluster {
    const NAME: &'static str = "etcdserverpb.Cluster";
}

type Request = http::Request<Body>;
type Answering = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl tower::Service<Request> for Maintenance {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Answering {
        let store = self.0.clone();
        match request.uri().path() {
            "/etcdserverpb.Maintenance/Status" => {
                answered(request, move |_: StatusRequest| store.lock().unwrap().status())
            }
            "/etcdserverpb.Maintenance/MoveLeader" => {
                answered(request, move |asked: MoveLeaderRequest| {
                    store.lock().unwrap().move_leader(asked.target)
                })
            }
            other => panic!("{other}"),
        }
    }
}

impl tower::Service<Request> for Cluster {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Answering {
        let store = self.0.clone();
        match request.uri().path() {
            "/etcdserverpb.Cluster/MemberList" => {
                answered(request, move |asked: MemberListRequest| {
                    store.lock().unwrap().list(asked.linearizable)
                })
            }
            "/etcdserverpb.Cluster/MemberRemove" => {
                answered(request, move |asked: MemberRemoveRequest| {
                    store.lock().unwrap().remove(asked.id)
                })
            }
            other => panic!("{other}"),
        }
    }
}

fn answered<Q, A>(
    request: Request,
    answer: impl Fn(Q) -> Result<A, Status> + Send + Sync + 'static,
) -> Answering
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
{
    Box::pin(async move {
        let service = tower::service_fn(move |asked: tonic::Request<Q>| {
            ready(answer(asked.into_inner()).map(Response::new))
        });
        Ok(Grpc::new(ProstCodec::<A, Q>::default()).unary(service, request).await)
    })
}
