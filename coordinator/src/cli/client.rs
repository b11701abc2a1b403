//! Reaches the coordinator: by the socket on this machine, or by mutual TLS from another one.

use std::{fs, path::Path, time::Duration};

use hyper_util::rt::TokioIo;
use rehull_proto::v1::operator_client::OperatorClient;
use tokio::net::UnixStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};

use super::{Failure, Reach};
use crate::{authority::SERVER_NAME, config::Config};

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Largest answer: a status of a thousand nodes has a few hundred KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A connection to the coordinator.
///
/// # Errors
/// If the certificate is unusable or nobody answers.
pub(super) async fn connect(reach: &Reach) -> Result<OperatorClient<Channel>, Failure> {
    let channel = match (&reach.server, &reach.cert) {
        (Some(server), Some(cert)) => remote(server, cert).await?,
        (Some(_), None) => return Err(Failure::usage("--server needs --cert")),
        (None, _) => local(&reach.dir).await?,
    };
    Ok(OperatorClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX))
}

async fn remote(server: &str, cert: &Path) -> Result<Channel, Failure> {
    let read = |path: &Path| {
        let fail = |error| Failure::new(format!("{}: {error}", path.display()));
        fs::read_to_string(path).map_err(fail)
    };
    let (certificate, key) = (read(cert)?, read(&cert.with_extension("key"))?);
    let usable = certificate.contains(BEGIN);
    let ca = certificate.rsplit_once(BEGIN).map(|(_, last)| format!("{BEGIN}{last}"));
    let (Some(ca), true) = (ca, usable) else {
        return Err(Failure::new(format!("{}: holds no certificate", cert.display())));
    };
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca))
        .identity(Identity::from_pem(certificate, key))
        .domain_name(SERVER_NAME);
    let there = format!("https://{server}");
    let endpoint = Endpoint::from_shared(there.clone())
        .and_then(|endpoint| endpoint.connect_timeout(CONNECT_MAX).tls_config(tls))
        .map_err(|error| Failure::usage(format!("--server {server}: {error}")))?;
    endpoint.connect().await.map_err(|error| {
        Failure::unreachable(format!(
            "the coordinator at {server} cannot be reached: {}",
            root_of(&error)
        ))
    })
}

/// How a certificate begins; the last one of an operator's file is the CA's.
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

async fn local(dir: &Path) -> Result<Channel, Failure> {
    // A coordinator that was never made here, or not for this user, still has a usual place.
    let socket = Config::read(dir).map_or_else(|_| dir.join("rehull.sock"), |read| read.socket);
    let path = socket.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://rehull.sock").connect_timeout(CONNECT_MAX);
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        Failure::unreachable(format!(
            "no coordinator answers at {}: {}; is `rehull serve` running, and as this user? \
             Give --dir, or --server and --cert for another machine",
            socket.display(),
            root_of(&error)
        ))
    })
}

/// The innermost cause: the outer ones only say "transport error".
fn root_of(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    last.to_string()
}
