//! The doors: one TLS port for agents and operators, and a socket for operators on this machine.
//!
//! ```text
//!  no certificate ──▶ Enrolment       certificate of an agent ──▶ AgentLink
//!  certificate of an operator, or the socket ──▶ Operator        anybody ──▶ health, reflection
//! ```
//!
//! Nothing is decided here: messages are parsed, submitted to the engine, and answered.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rehull_proto::v1::{
    FILE_DESCRIPTOR_SET, agent_link_server::AgentLinkServer, enrolment_server::EnrolmentServer,
    operator_server::OperatorServer,
};
use rehull_shared::time::Span;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Certificate, Server, ServerTlsConfig},
};

use crate::{
    authority::{self, Authority},
    domain::command::Refusal,
    effects::{Context, Troubles},
    engine::Handle,
};

mod accept;
mod agents;
mod backups;
mod documents;
mod history;
mod operators;
mod peer;
mod stranger;
mod throttle;
mod wishes;

/// Largest message that is read, in bytes: a report of a host with 512 processes has 100 KiB.
const MESSAGE_MAX: usize = 512 * 1024;

/// Open calls of one connection: an agent has two, an operator's terminal a few.
const STREAMS_MAX: u32 = 32;

/// Longest time until a call is answered; a plan reads both clusters.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// How often a silent connection is asked whether it still lives, and how long it may take to
/// answer: agents behind a firewall that forgets are seen to be gone within 40 s.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Longest TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How long a connection may last by which nobody shows a certificate: long enough to enrol.
pub const STRANGER_MAX: Duration = Duration::from_secs(60);

/// What the doors lead to; cheap to clone.
#[derive(Clone)]
pub struct Desk {
    /// Where commands are decided.
    pub handle: Handle,
    /// Agents, clients and the clock, shared with the effects.
    pub context: Context,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    /// What stands in the way of effects.
    pub troubles: Troubles,
    /// Life of an agent's certificate.
    pub agent_life: Span,
    /// How long a connection lasts without a certificate.
    pub stranger_life: Duration,
}

/// A door could not be opened, or has broken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket cannot be made.
    #[error("{path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Certificates.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// The server.
    #[error("the gRPC server has stopped: {0}")]
    Server(#[from] tonic::transport::Error),
    /// gRPC reflection.
    #[error("the descriptors of the protocol are unreadable: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Opens the socket at `path` for its owner only; one left behind by a dead process is replaced.
///
/// # Errors
/// If it cannot be made.
pub fn open_socket(path: &Path) -> Result<UnixListener, Error> {
    let fail = |source| Error::Socket { path: path.into(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => (),
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    Ok(listener)
}

/// Serves until `stop`, then lets calls in flight finish.
///
/// # Errors
/// If a door breaks.
pub async fn serve(
    port: TcpListener,
    socket: Option<UnixListener>,
    desk: Desk,
    stop: CancellationToken,
) -> Result<(), Error> {
    let tls = ServerTlsConfig::new()
        .identity(desk.authority.server()?)
        .client_ca_root(Certificate::from_pem(desk.authority.certificate()))
        .client_auth_optional(true)
        .timeout(HANDSHAKE_MAX);
    let stranger_life = desk.stranger_life;
    let routes = routes(desk, &stop)?;
    let local = async {
        let Some(socket) = socket else { return Ok(()) };
        let incoming = accept::local(socket);
        server()
            .add_routes(routes.clone())
            .serve_with_incoming_shutdown(incoming, stop.cancelled())
            .await
    };
    let remote = server()
        .tls_config(tls)?
        .add_routes(routes.clone())
        .serve_with_incoming_shutdown(accept::remote(port, stranger_life), stop.cancelled());
    tokio::try_join!(remote, local)?;
    Ok(())
}

fn server() -> Server {
    Server::builder()
        .timeout(ANSWER_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .trace_fn(|request| tracing::info_span!("call", method = request.uri().path()))
}

fn routes(desk: Desk, stop: &CancellationToken) -> Result<Routes, Error> {
    let link = agents::Link::new(desk.clone(), stop.clone());
    let enrolment = EnrolmentServer::new(link.clone()).max_decoding_message_size(MESSAGE_MAX);
    let agents = AgentLinkServer::new(link).max_decoding_message_size(MESSAGE_MAX);
    let operators = OperatorServer::new(operators::Operators::new(desk, stop.clone()))
        .max_decoding_message_size(MESSAGE_MAX);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()?;
    // Healthy from here on: the log is open and replayed before a door is.
    let (_, health) = tonic_health::server::health_reporter();
    let mut routes = Routes::builder();
    routes.add_service(enrolment).add_service(agents).add_service(operators);
    routes.add_service(reflection).add_service(health);
    Ok(routes.routes())
}

/// A refusal is an answer to a person, in its own words.
fn refused(refusal: &Refusal) -> tonic::Status {
    match refusal {
        Refusal::Enrolment { .. } => tonic::Status::permission_denied(refusal.to_string()),
        _ => tonic::Status::failed_precondition(refusal.to_string()),
    }
}

/// The engine is gone: the process is about to end.
fn stopping(error: impl std::fmt::Display) -> tonic::Status {
    tonic::Status::unavailable(error.to_string())
}
