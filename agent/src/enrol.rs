//! How credentials are got: once for a token, and then again and again for the ones before.

use rehull_proto::v1::{
    EnrolRequest, RenewRequest, agent_link_client::AgentLinkClient,
    enrolment_client::EnrolmentClient,
};
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::{
    checks,
    config::Settings,
    credentials::{Credentials, Request},
    link::{self, Failure, MESSAGE_BYTES_MAX, PATIENCE},
};

/// The unused token, if there is one.
pub(crate) fn token(settings: &Settings) -> Option<String> {
    let text = std::fs::read_to_string(&settings.token_file).ok()?;
    let token = text.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

/// Exchanges a token for credentials, keeps them, and empties the token's file.
pub(crate) async fn enrol(settings: &Settings, token: String) -> Result<Credentials, Failure> {
    let channel = link::connect(settings, None).await?;
    let request = Request::pending(settings).map_err(Failure::Lost)?;
    let question = EnrolRequest {
        cluster: settings.cluster.to_string(),
        node: settings.node.to_string(),
        token,
        certificate_request: request.der.clone(),
        identity: Some(checks::identity(&settings.host, |_, error| {
            (settings.log)(&error.to_string())
        })),
        os: checks::os(&settings.host).ok(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut client = EnrolmentClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let answer = answered(timeout(PATIENCE, client.enrol(question)).await)?;
    let credentials = request.accept(settings, answer).map_err(Failure::Lost)?;
    credentials.save(&settings.state_dir).map_err(|error| Failure::Lost(error.to_string()))?;
    if let Err(error) = std::fs::write(&settings.token_file, "") {
        (settings.log)(&format!("{}: {error}", settings.token_file.display()));
    }
    Ok(credentials)
}

/// Exchanges credentials for younger ones of the same generation.
pub(crate) async fn renew(settings: &Settings, channel: Channel) -> Result<Credentials, Failure> {
    let request = Request::new(settings).map_err(Failure::Lost)?;
    let question = RenewRequest { certificate_request: request.der.clone() };
    let mut client = AgentLinkClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let answer = answered(timeout(PATIENCE, client.renew(question)).await)?;
    let credentials = request.accept(settings, answer).map_err(Failure::Lost)?;
    credentials.save(&settings.state_dir).map_err(|error| Failure::Lost(error.to_string()))?;
    Ok(credentials)
}

fn answered<T>(
    answer: Result<Result<tonic::Response<T>, tonic::Status>, tokio::time::error::Elapsed>,
) -> Result<T, Failure> {
    match answer {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Failure::Lost(format!("no answer within {PATIENCE:?}"))),
    }
}
