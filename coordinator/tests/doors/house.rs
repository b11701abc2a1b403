//! A whole coordinator behind real doors, with an in-memory management cluster.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::FutureExt;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rehull::{
    agents::Agents,
    authority::{AGENT_LIFE, Authority, SERVER_NAME, draw},
    backups::Backups,
    blobs::Blobs,
    clients::Clients,
    effects::{Context, Troubles, run_program},
    engine::Engine,
    ingest::{self, Desk},
    rehearsal::api::Api,
};
use rehull_proto::v1::{
    EnrolRequest, EnrolResponse, TokenRequest, agent_link_client::AgentLinkClient,
    enrolment_client::EnrolmentClient, operator_client::OperatorClient,
};
use rehull_shared::time::now;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// It ends when this is dropped.
pub(crate) struct Coordinator {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) authority: Arc<Authority>,
    pub(crate) agents: Agents,
    /// Both clusters.
    pub(crate) world: Api,
    address: String,
    stop: CancellationToken,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) async fn coordinator() -> Coordinator {
    coordinator_with(ingest::STRANGER_MAX).await
}

/// One where connections last so long without a certificate.
pub(crate) async fn coordinator_with(stranger_life: Duration) -> Coordinator {
    let dir = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::create().unwrap());
    let (engine, handle) = Engine::open(&dir.path().join("log"), Arc::new(now)).unwrap();
    std::thread::spawn(move || engine.run());
    let agents = Agents::default();
    let world = Api::new("doors", Arc::new(now));
    let client = world.client();
    let connect = move |_, _| futures::future::ready(Ok(client.clone())).boxed();
    let key = age::x25519::Identity::generate();
    let backups = Backups::new(dir.path().join("backups"), vec![key.to_public()], 3);
    let context = Context {
        backups: Some(backups),
        clients: Clients::new(Arc::new(connect)),
        agents: agents.clone(),
        readiness: Default::default(),
        etcd: Default::default(),
        blobs: Blobs::open(dir.path().join("blobs")).unwrap(),
        run_program: run_program(),
        protection: None,
        installers: vec!["/opt/reinstall".to_owned()],
        clock: Arc::new(now),
        draw: Arc::new(draw),
        dir: dir.path().to_owned(),
        advertised: "rehull.example:7443".to_owned(),
        ca_sha256: authority.sha256().to_owned(),
    };
    let troubles = Troubles::default();
    let desk = Desk {
        handle,
        context,
        authority: authority.clone(),
        troubles,
        agent_life: AGENT_LIFE,
        stranger_life,
    };
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap().to_string();
    let socket = ingest::open_socket(&dir.path().join("rehull.sock")).unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(ingest::serve(port, Some(socket), desk, stop.clone()));
    Coordinator { dir, authority, agents, world, address, stop }
}

impl Coordinator {
    /// Closes the doors; the log is closed soon after.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// A connection with a client certificate (PEM and key), or without one.
    pub(crate) async fn dial(&self, client: Option<(String, String)>) -> Result<Channel, Status> {
        let ca = Certificate::from_pem(self.authority.certificate());
        let mut tls = ClientTlsConfig::new().ca_certificate(ca).domain_name(SERVER_NAME);
        if let Some((certificate, key)) = client {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let there = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        let endpoint = there.tls_config(tls).unwrap();
        endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))
    }

    /// TLS without a certificate, by which nothing is said.
    pub(crate) async fn dial_plainly(&self) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.authority.certificate().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    pub(crate) async fn operator(&self) -> OperatorClient<Channel> {
        let socket: PathBuf = self.dir.path().join("rehull.sock");
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://socket");
        OperatorClient::new(endpoint.connect_with_connector(connector).await.unwrap())
    }

    pub(crate) async fn token(&self) -> String {
        let request = TokenRequest {
            cluster: "prod".to_owned(),
            node: "worker1".to_owned(),
            valid_seconds: 60,
            by: "somebody else".to_owned(),
        };
        self.operator().await.issue_token(request).await.unwrap().into_inner().token
    }

    /// Enrols worker1; gives the answer and the key that goes with it.
    pub(crate) async fn enrol(&self, token: &str) -> Result<(EnrolResponse, KeyPair), Status> {
        self.enrol_as("worker1", token).await
    }

    /// Enrols under a name.
    pub(crate) async fn enrol_as(
        &self,
        node: &str,
        token: &str,
    ) -> Result<(EnrolResponse, KeyPair), Status> {
        let (request, key) = certificate_request();
        let request = EnrolRequest {
            cluster: "prod".to_owned(),
            node: node.to_owned(),
            token: token.to_owned(),
            certificate_request: request,
            ..EnrolRequest::default()
        };
        let answer = EnrolmentClient::new(self.dial(None).await?).enrol(request).await?;
        Ok((answer.into_inner(), key))
    }

    pub(crate) async fn agent(
        &self,
        enrolled: &(EnrolResponse, KeyPair),
    ) -> AgentLinkClient<Channel> {
        let client = (enrolled.0.certificate.clone(), enrolled.1.serialize_pem());
        AgentLinkClient::new(self.dial(Some(client)).await.unwrap())
    }
}

/// A certificate request that asks for another name than it will get.
pub(crate) fn certificate_request() -> (Vec<u8>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["ignored".to_owned()]).unwrap();
    (params.serialize_request(&key).unwrap().der().to_vec(), key)
}
