//! Agents: enrolment, renewal, and the stream of a connection.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rehull_proto::v1::{
    BackupPart, BackupReceived, EnrolRequest, EnrolResponse, FromAgent, Hello, RenewRequest,
    ToAgent, agent_link_server::AgentLink, enrolment_server::Enrolment, from_agent,
};
use rehull_shared::{
    ids::{Generation, NodeName},
    text::{bounded, sha256_hex},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Desk, backups, peer, refused, stopping,
    throttle::{Allowance, Throttle},
};
use crate::{
    agents::{Refused, Whom},
    authority::Authority,
    domain::{
        command::{Command, Refusal, Request as Wish},
        event::Event,
        state::HostIdentity,
    },
};

/// How long an agent may take to say hello.
const HELLO_MAX: Duration = Duration::from_secs(10);

/// Orders that may wait for an agent; it works through them one by one.
const ORDERS_MAX: usize = 8;

/// The version of the protocol that is spoken here.
const PROTOCOL: u32 = 1;

/// Longest name or identity of a host that is kept, in bytes.
const WORD_MAX: usize = 128;

/// Answers agents.
#[derive(Clone)]
pub(super) struct Link {
    desk: Desk,
    throttle: Arc<Throttle>,
    stop: CancellationToken,
}

impl Link {
    pub(super) fn new(desk: Desk, stop: CancellationToken) -> Self {
        Self { desk, throttle: Arc::default(), stop }
    }

    /// Refuses the certificate of an installation that is no longer the current one, or revoked.
    fn check_generation(&self, whom: &Whom, generation: Generation) -> Result<(), Status> {
        let fleet = self.desk.handle.published().fleet;
        let (cluster, node) = whom;
        if fleet.agent_of(cluster, node) == Some(generation) {
            return Ok(());
        }
        let current = fleet.hosts.get(whom).map_or(Generation(0), |host| host.generation);
        let why = match current == generation {
            true => "which was revoked".to_owned(),
            false => format!("which is at generation {current}"),
        };
        Err(Status::permission_denied(format!(
            "this certificate is of generation {generation} of {node}, {why}: the host must enrol \
             again with a new token"
        )))
    }

    fn certify(
        &self,
        request: &[u8],
        whom: &Whom,
        generation: Generation,
    ) -> Result<Response<EnrolResponse>, Status> {
        let authority = &self.desk.authority;
        let certificate = authority
            .agent(request, whom, generation, self.desk.agent_life)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let ca = authority.certificate().to_owned();
        Ok(Response::new(EnrolResponse { certificate, ca, generation: generation.0 }))
    }

    /// The generation that the command behind event `sequence` has made of a node.
    fn enrolled(&self, whom: &Whom, sequence: u64) -> Option<Generation> {
        let of_node = |node: &NodeName, event: &Event| match event {
            Event::AgentEnrolled { node: enrolled, generation, .. } if enrolled == node => {
                Some(*generation)
            }
            _ => None,
        };
        let events = self.desk.handle.history().of(&whom.0);
        let up_to = events.iter().rev().filter(|(seq, _)| *seq <= sequence);
        up_to.filter_map(|(_, recorded)| of_node(&whom.1, &recorded.event)).next()
    }

    /// Keeps a refused enrolment for operators: a host that was reinstalled once more than meant
    /// holds a token that is used up, and nobody else knows why it does not come.
    fn remember(&self, whom: &Whom, address: Option<IpAddr>, refusal: &Refusal) {
        let (cluster, node) = whom;
        let from = address.map_or_else(|| "a host".to_owned(), |address| address.to_string());
        let why = refusal.to_string();
        tracing::warn!(%cluster, %node, from, why, "an enrolment is refused");
        if self.desk.handle.published().fleet.hosts.contains_key(whom) {
            let at = (self.desk.context.clock)();
            self.desk.context.agents.refuse(whom.clone(), Refused { at, from, why });
        }
    }

    /// Carries one connection: orders out, answers in, until one side ends it.
    async fn carry(
        &self,
        whom: &Whom,
        generation: Generation,
        mut inbound: Streaming<FromAgent>,
        out: &mpsc::Sender<Result<ToAgent, Status>>,
    ) -> Result<(), Status> {
        let hello = tokio::time::timeout(HELLO_MAX, inbound.message()).await;
        let first = hello.map_err(|_| Status::deadline_exceeded("no hello within 10 s"))??;
        let Some(FromAgent { message: Some(from_agent::Message::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message must be a hello"));
        };
        self.greet(whom, &hello)?;
        let agents = &self.desk.context.agents;
        let (sender, mut orders) = mpsc::channel(ORDERS_MAX);
        let version = bounded(&hello.agent_version, WORD_MAX);
        let connection = agents.attach(whom.clone(), generation, version, sender);
        let mut unasked = Allowance::new(Instant::now());
        // Somebody may have enrolled since the certificate was looked at.
        let mut end = self.check_generation(whom, generation);
        while end.is_ok() {
            tokio::select! {
                message = inbound.message() => match message {
                    Ok(Some(message)) => {
                        let now = (self.desk.context.clock)();
                        let awaited = agents.heard(whom, connection, message, now);
                        if !awaited && !unasked.take(Instant::now()) {
                            end = Err(Status::resource_exhausted(
                                "it speaks more often than it is asked to",
                            ));
                        }
                    }
                    Ok(None) => break,
                    Err(gone) => end = Err(gone),
                },
                order = orders.recv() => match order {
                    Some(order) => {
                        if out.send(Ok(order)).await.is_err() { break }
                    }
                    None => end = self.check_generation(whom, generation).and(Err(
                        Status::aborted("a younger connection has taken its place"),
                    )),
                },
                () = out.closed() => break,
                () = self.stop.cancelled() => end = Err(Status::unavailable("stopping")),
            }
        }
        agents.detach(whom, connection);
        end
    }

    fn greet(&self, whom: &Whom, hello: &Hello) -> Result<(), Status> {
        if hello.protocol != PROTOCOL {
            return Err(Status::failed_precondition(format!(
                "this coordinator speaks version {PROTOCOL} of the protocol, not {}",
                hello.protocol
            )));
        }
        let epoch = self.desk.handle.published().fleet.epoch;
        if hello.epoch > epoch.0 {
            tracing::error!(node = %whom.1, theirs = hello.epoch, ours = epoch.0,
                "an agent has obeyed a later coordinator: this one works on an old log");
            return Err(Status::failed_precondition(format!(
                "this coordinator has epoch {epoch}, and the agent has obeyed {}: another \
                 coordinator or a younger log exists",
                hello.epoch
            )));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Enrolment for Link {
    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let address = peer::address(&request);
        if let Some(address) = address
            && !self.throttle.admits(address, Instant::now())
        {
            return Err(Status::resource_exhausted("too many enrolments from this address"));
        }
        let wish = request.into_inner();
        let named = |bad: &dyn std::fmt::Display| Status::invalid_argument(bad.to_string());
        let whom: Whom = (
            wish.cluster.parse().map_err(|bad| named(&bad))?,
            wish.node.parse().map_err(|bad| named(&bad))?,
        );
        // Before the token is used up for it.
        Authority::check_request(&wish.certificate_request).map_err(|bad| named(&bad))?;
        let enrol = Wish::Enrol {
            node: whom.1.clone(),
            token_sha256: sha256_hex(wish.token.as_bytes()),
            identity: identity_of(&wish),
        };
        let command = Command::Of(whom.0.clone(), enrol);
        let sequence = self.desk.handle.submit(command).await.map_err(stopping)?;
        let sequence = sequence.map_err(|refusal| {
            self.remember(&whom, address, &refusal);
            refused(&refusal)
        })?;
        let generation = self
            .enrolled(&whom, sequence)
            .ok_or_else(|| Status::internal("the enrolment is not in the log"))?;
        self.desk.context.agents.drop_before(&whom, generation);
        tracing::info!(cluster = %whom.0, node = %whom.1, %generation, "a host has enrolled");
        self.certify(&wish.certificate_request, &whom, generation)
    }
}

#[tonic::async_trait]
impl AgentLink for Link {
    type OpenStream = ReceiverStream<Result<ToAgent, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<FromAgent>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (cluster, node, generation) = peer::agent(&request)?;
        let whom = (cluster, node);
        self.check_generation(&whom, generation)?;
        let (out, stream) = mpsc::channel(1);
        let (link, inbound) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let (cluster, node) = whom.clone();
            tracing::info!(%cluster, %node, %generation, "an agent is here");
            let end = link.carry(&whom, generation, inbound, &out).await;
            let why = end.as_ref().map_or_else(|status| status.message(), |()| "it hung up");
            tracing::info!(%cluster, %node, %generation, why, "an agent is gone");
            if let Err(status) = end {
                _ = out.send_timeout(Err(status), HELLO_MAX).await; // it may have gone
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type SendBackupStream = ReceiverStream<Result<BackupReceived, Status>>;

    async fn send_backup(
        &self,
        request: Request<Streaming<BackupPart>>,
    ) -> Result<Response<Self::SendBackupStream>, Status> {
        let (cluster, node, generation) = peer::agent(&request)?;
        let whom = (cluster, node);
        self.check_generation(&whom, generation)?;
        let (desk, mut parts) = (self.desk.clone(), request.into_inner());
        let incoming = backups::announced(desk.context.backups.as_ref(), &whom, &mut parts).await?;
        Ok(Response::new(backups::one(backups::receive(desk, incoming, parts))))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let (cluster, node, generation) = peer::agent(&request)?;
        let whom = (cluster, node);
        self.check_generation(&whom, generation)?;
        self.certify(&request.into_inner().certificate_request, &whom, generation)
    }
}

fn identity_of(wish: &EnrolRequest) -> HostIdentity {
    let word = |text: &str| bounded(text, WORD_MAX);
    let identity = wish.identity.clone().unwrap_or_default();
    let os = wish.os.clone().unwrap_or_default();
    HostIdentity {
        machine_id: word(&identity.machine_id),
        boot_id: word(&identity.boot_id),
        product_uuid: word(&identity.product_uuid),
        os: (word(&os.id), word(&os.version_id)),
    }
}
