//! A coordinator as small as one can be: real mTLS and real gRPC, and no rules at all.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    KeyPair, SanType,
};
use rehull_proto::v1::{
    BackupPart, BackupReceived, EnrolRequest, EnrolResponse, FromAgent, RenewRequest, ToAgent,
    agent_link_server::{AgentLink, AgentLinkServer},
    enrolment_server::{Enrolment, EnrolmentServer},
    from_agent::Message,
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

const PATIENCE: Duration = Duration::from_secs(20);

type Orders = mpsc::Sender<Result<ToAgent, Status>>;

/// What the test decides and what it may look at.
pub(crate) struct Rules {
    /// The one good token; gone once used.
    pub(crate) token: Option<String>,
    /// Which generation the next enrolment is, and the only one that may link.
    pub(crate) generation: u64,
    /// How long certificates live.
    pub(crate) life: Duration,
    /// Certificates begin so long ago.
    pub(crate) age: Duration,
    /// Answers to enrolments that are lost on the way, after the token was used.
    pub(crate) lose_answers: u32,
    /// Requests for certificates, as they came.
    pub(crate) requests: Vec<Vec<u8>>,
    /// How many streams were asked for.
    pub(crate) opened: u32,
}

/// A stream of an agent, seen from the coordinator.
pub(crate) struct Link {
    /// Generation in the certificate that it showed.
    pub(crate) generation: u64,
    /// When that certificate ends, seconds since the Unix epoch.
    pub(crate) not_after: i64,
    inbound: Streaming<FromAgent>,
    orders: Orders,
}

impl Link {
    /// The next message that is no beat; `None` when the agent has gone.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            match self.next_of_all().await? {
                Message::Beat(_) => (),
                message => return Some(message),
            }
        }
    }

    /// The next message.
    pub(crate) async fn next_of_all(&mut self) -> Option<Message> {
        let next = timeout(PATIENCE, self.inbound.message()).await.expect("a message in time");
        next.ok().flatten().and_then(|message| message.message)
    }

    /// Sends an order; the answer is another matter.
    pub(crate) async fn send(&self, order: ToAgent) {
        let _ = self.orders.send(Ok(order)).await; // an agent that has gone gets no orders
    }
}

/// Listens on a port of the loopback until it is dropped.
pub(crate) struct Coordinator {
    pub(crate) address: SocketAddr,
    pub(crate) ca_sha256: String,
    rules: Arc<Mutex<Rules>>,
    links: mpsc::Receiver<Link>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Coordinator {
    /// Under this server name; agents want `rehull-coordinator`.
    pub(crate) async fn start(server_name: &str) -> Self {
        let authority = Arc::new(Authority::new());
        let (certificate, key) = authority.server(server_name);
        let chain = format!("{certificate}{}", authority.pem);
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(chain, key))
            .client_ca_root(Certificate::from_pem(&authority.pem))
            .client_auth_optional(true);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let rules = Arc::new(Mutex::new(Rules {
            token: Some("secret".to_owned()),
            generation: 1,
            life: Duration::from_secs(3600),
            age: Duration::ZERO,
            lose_answers: 0,
            requests: Vec::new(),
            opened: 0,
        }));
        let ca_sha256 = rehull_shared::text::sha256_hex(&authority.der);
        let (news, links) = mpsc::channel(16);
        let desk = Desk { authority, rules: rules.clone(), news };
        let serving = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(EnrolmentServer::new(desk.clone()))
            .add_service(AgentLinkServer::new(desk))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { address, ca_sha256, rules, links, server }
    }

    pub(crate) fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap()
    }

    /// The next stream that an agent opens.
    pub(crate) async fn link(&mut self) -> Link {
        timeout(PATIENCE, self.links.recv()).await.expect("a link in time").unwrap()
    }
}

#[derive(Clone)]
struct Desk {
    authority: Arc<Authority>,
    rules: Arc<Mutex<Rules>>,
    news: mpsc::Sender<Link>,
}

#[tonic::async_trait]
impl Enrolment for Desk {
    async fn enrol(&self, ask: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        let ask = ask.into_inner();
        let mut rules = self.rules.lock().unwrap();
        rules.requests.push(ask.certificate_request.clone());
        if rules.token.as_ref() != Some(&ask.token) {
            return Err(Status::permission_denied("the token is not good"));
        }
        if rules.lose_answers > 0 {
            rules.lose_answers -= 1;
            return Err(Status::unavailable("lost on the way"));
        }
        rules.token = None;
        Ok(Response::new(self.authority.agent(
            &ask.cluster,
            &ask.node,
            &rules,
            &ask.certificate_request,
        )))
    }
}

#[tonic::async_trait]
impl AgentLink for Desk {
    type OpenStream = Pin<Box<dyn Stream<Item = Result<ToAgent, Status>> + Send>>;

    async fn open(
        &self,
        stream: Request<Streaming<FromAgent>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (name, not_after) = peer(&stream)?;
        let generation = {
            let mut rules = self.rules.lock().unwrap();
            rules.opened += 1;
            rules.generation
        };
        if name.2 != generation {
            return Err(Status::permission_denied("a younger generation has enrolled"));
        }
        let (orders, outbound) = mpsc::channel(256);
        let link = Link { generation, not_after, inbound: stream.into_inner(), orders };
        let _ = self.news.send(link).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(outbound))))
    }

    type SendBackupStream = Pin<Box<dyn Stream<Item = Result<BackupReceived, Status>> + Send>>;

    async fn send_backup(
        &self,
        _: Request<Streaming<BackupPart>>,
    ) -> Result<Response<Self::SendBackupStream>, Status> {
        Err(Status::permission_denied("nobody has ordered this backup"))
    }

    async fn renew(&self, ask: Request<RenewRequest>) -> Result<Response<EnrolResponse>, Status> {
        let ((cluster, node, _), _) = peer(&ask)?;
        let request = ask.into_inner().certificate_request;
        let mut rules = self.rules.lock().unwrap();
        rules.requests.push(request.clone());
        Ok(Response::new(self.authority.agent(&cluster, &node, &rules, &request)))
    }
}

/// Cluster, node and generation in the certificate of whoever asks, and when it ends.
fn peer<T>(request: &Request<T>) -> Result<((String, String, u64), i64), Status> {
    let none = || Status::unauthenticated("no certificate of an agent");
    let certificates = request.peer_certs().ok_or_else(none)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&certificates[0]).unwrap();
    let names = certificate.subject_alternative_name().unwrap().ok_or_else(none)?;
    let uri = names.value.general_names.iter().find_map(|name| match name {
        x509_parser::extensions::GeneralName::URI(uri) => uri.strip_prefix("rehull://"),
        _ => None,
    });
    let mut parts = uri.ok_or_else(none)?.split('/').map(str::to_owned);
    let mut part = || parts.next().ok_or_else(none);
    let name = (part()?, part()?, part()?.parse().unwrap());
    Ok((name, certificate.validity().not_after.timestamp()))
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "rehull CA");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().to_vec());
        Self { issuer: Issuer::new(params, key), pem, der }
    }

    fn server(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn agent(&self, cluster: &str, node: &str, rules: &Rules, request: &[u8]) -> EnrolResponse {
        let request = request.to_vec().into();
        let mut request = CertificateSigningRequestParams::from_der(&request).unwrap();
        let generation = rules.generation;
        let name = format!("rehull://{cluster}/{node}/{generation}");
        request.params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        let now = time_now();
        request.params.not_before = (now - rules.age).into();
        request.params.not_after = (now - rules.age + rules.life).into();
        let certificate = request.signed_by(&self.issuer).unwrap().pem();
        EnrolResponse { certificate, ca: self.pem.clone(), generation }
    }
}

fn time_now() -> std::time::SystemTime {
    let now = rehull_shared::time::now().as_millis();
    std::time::UNIX_EPOCH + Duration::from_millis(now.try_into().unwrap())
}
