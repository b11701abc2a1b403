//! The connection: TLS in which only the pinned CA is trusted, whatever the machine trusts.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rehull_shared::text::chain;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    time_provider::TimeProvider,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    config::{CaHash, Clock, Settings},
    credentials::Credentials,
};

/// The name in the coordinator's certificate, so that its address may change.
const COORDINATOR: &str = "rehull-coordinator";

/// Largest message taken from a coordinator.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// What may be under way before it is read: one message of the largest size.
const WINDOW_BYTES: u32 = MESSAGE_BYTES_MAX as u32;

/// Within this a connection is made, a stream opened, a question answered.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A dead path is known after both together, without a message of ours.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no link. It is dialled again after any of them.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The coordinator does not want this agent, token or certificate: asking soon changes nothing.
    Refused(String),
    /// Anything else.
    Lost(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Lost(why) => f.write_str(why),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let why = match status.message() {
            "" => chain(&status),
            message => message.to_owned(),
        };
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition => {
                Self::Refused(why)
            }
            _ => Self::Lost(why),
        }
    }
}

/// Dials the coordinator; with credentials as this agent, without as a stranger with a token.
pub(crate) async fn connect(
    settings: &Settings,
    credentials: Option<&Credentials>,
) -> Result<Channel, Failure> {
    let tls = client_config(settings, credentials).map_err(Failure::Lost)?;
    let address = settings.coordinator.clone();
    let dial = move |_| {
        let (connector, address) = (TlsConnector::from(tls.clone()), address.clone());
        async move {
            // A plain address needs no resolver, and so no second thread.
            let tcp = match address.parse::<SocketAddr>() {
                Ok(address) => TcpStream::connect(address).await?,
                Err(_) => TcpStream::connect(address).await?,
            };
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(COORDINATOR).map_err(io::Error::other)?;
            connector.connect(name, tcp).await.map(TokioIo::new)
        }
    };
    let endpoint = Endpoint::from_static("http://rehull-coordinator")
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_PATIENCE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .http2_max_header_list_size(16 * 1024);
    match timeout(PATIENCE, endpoint.connect_with_connector(tower::service_fn(dial))).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(Failure::Lost(chain(&error))),
        Err(_) => Err(Failure::Lost(format!("no connection within {PATIENCE:?}"))),
    }
}

fn client_config(
    settings: &Settings,
    credentials: Option<&Credentials>,
) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pinned = Pinned { ca: settings.ca.clone(), provider: provider.clone() };
    let clock = Arc::new(ClockOf(settings.clock.clone()));
    let builder = ClientConfig::builder_with_details(provider, clock)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous() // the usual verifier, asked below, but with the pinned CA as its only root
        .with_custom_certificate_verifier(Arc::new(pinned));
    let mut config = match credentials {
        Some(credentials) => {
            let (chain, key) = credentials.der()?;
            builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Time for TLS is that of the settings.
struct ClockOf(Clock);

impl fmt::Debug for ClockOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("clock")
    }
}

impl TimeProvider for ClockOf {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from((self.0)().as_millis()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

/// Finds the pinned CA in the chain that the server sent, and verifies the chain by it as usual:
/// signatures, validity, and the server's name.
#[derive(Debug)]
struct Pinned {
    ca: CaHash,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = intermediates.iter().find(|der| self.ca.is_of(der));
        let ca = ca.ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
