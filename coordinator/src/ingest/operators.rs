//! Operators: wishes become commands, questions are answered from what is published.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt};
use rehull_proto::v1::{
    BackupProgress, BackupRequest, EtcdRequest, EtcdResponse, ExplainRequest, ExplainResponse,
    HistoryEntry, HistoryRequest, Intent, ListAgentsRequest, ListAgentsResponse, PlanRequest,
    PlanResponse, Receipt, StartRequest, StatusRequest, StatusResponse, TokenRequest,
    TokenResponse, VerifyLogRequest, VerifyProgress, operator_server::Operator,
};
use rehull_shared::{
    ids::{BadName, ClusterName, NodeName},
    text::{hex, sha256_hex},
    time::Span,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{Desk, backups, documents, history, peer, refused, stopping, wishes};
use crate::{
    domain::{
        command::{Command, Request as Rule},
        state::Token,
    },
    etcd,
    projection::{self, View},
};

/// Validity of a token for which none was asked.
const TOKEN_LIFE: Span = Span::from_mins(60);

/// Longest validity of a token: a week of a person's holiday.
const TOKEN_LIFE_MAX: Span = Span::from_secs(7 * 86_400);

/// News that come faster are told together.
const WATCH_MIN: Duration = Duration::from_millis(250);

/// Without news the picture is sent again after this, because windows and deadlines run.
const WATCH_MAX: Duration = Duration::from_secs(2);

/// Steps of a verification that are told at the most.
const PROGRESS_STEPS: u64 = 200;

/// Steps that may wait for a slow terminal.
const PROGRESS_MAX: usize = 16;

type Flow<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers operators.
#[derive(Clone)]
pub(super) struct Operators {
    desk: Desk,
    stop: CancellationToken,
}

impl Operators {
    pub(super) fn new(desk: Desk, stop: CancellationToken) -> Self {
        Self { desk, stop }
    }

    async fn submit(&self, cluster: ClusterName, rule: Rule) -> Result<u64, Status> {
        let answer = self.desk.handle.submit(Command::Of(cluster, rule)).await;
        answer.map_err(stopping)?.map_err(|refusal| refused(&refusal))
    }
}

impl Desk {
    /// A picture of what is published now.
    fn view<T>(&self, look: impl FnOnce(&View<'_>) -> T) -> T {
        let published = self.handle.published();
        look(&View {
            fleet: &published.fleet,
            sequence: published.sequence,
            history: self.handle.history(),
            troubles: &self.troubles.all(),
            connected: &self.context.agents.connected(),
            refused: &self.context.agents.refused(),
            etcd: &self.context.etcd.looks(),
            readiness: &self.context.readiness,
            now: (self.context.clock)(),
        })
    }
}

#[tonic::async_trait]
impl Operator for Operators {
    async fn plan(&self, request: Request<PlanRequest>) -> Result<Response<PlanResponse>, Status> {
        peer::operator(&request)?;
        let document = request.into_inner().document;
        documents::plan(&self.desk, &document).await.map(Response::new)
    }

    async fn start(&self, request: Request<StartRequest>) -> Result<Response<Receipt>, Status> {
        let by = peer::operator(&request)?;
        let document = request.into_inner().document;
        let (plan, nodes) = documents::understood(&self.desk, &document).await?;
        let (cluster, count) = (plan.cluster.clone(), nodes.len());
        let rule = Rule::Start { id: new_id(), plan: Box::new(plan), nodes, by };
        let sequence = self.submit(cluster.clone(), rule).await?;
        let said = format!(
            "the migration of {cluster} has begun: {count} nodes; see `rehull watch {cluster}`"
        );
        Ok(Response::new(Receipt { said, sequence }))
    }

    async fn submit(&self, request: Request<Intent>) -> Result<Response<Receipt>, Status> {
        let by = peer::operator(&request)?;
        let Intent { cluster, wish, .. } = request.into_inner();
        let cluster = parsed::<ClusterName>(&cluster)?;
        let wish = wish.ok_or_else(|| Status::invalid_argument("the intent has no wish"))?;
        let (rule, said) = wishes::rule_of(&self.desk, &cluster, wish, by).await?;
        let revoked = match &rule {
            Rule::RevokeAgent { node, .. } => Some((cluster.clone(), node.clone())),
            _ => None,
        };
        let sequence = self.submit(cluster, rule).await?;
        if let Some(whom) = revoked {
            self.desk.context.agents.drop_link(&whom);
        }
        let said = if sequence == 0 { "nothing to do: it is so already".to_owned() } else { said };
        Ok(Response::new(Receipt { said, sequence }))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        peer::operator(&request)?;
        let cluster = optional::<ClusterName>(&request.into_inner().cluster)?;
        picture(&self.desk, cluster.as_ref()).map(Response::new)
    }

    type WatchStream = Flow<StatusResponse>;

    async fn watch(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        peer::operator(&request)?;
        let cluster = optional::<ClusterName>(&request.into_inner().cluster)?;
        let first = picture(&self.desk, cluster.as_ref())?;
        let (sender, pictures) = mpsc::channel(1);
        let (desk, stop) = (self.desk.clone(), self.stop.clone());
        tokio::spawn(async move {
            let mut news = desk.handle.watch();
            let mut next = Ok(first);
            while sender.send(next).await.is_ok() {
                tokio::time::sleep(WATCH_MIN).await;
                tokio::select! {
                    changed = news.changed() => if changed.is_err() { break },
                    () = tokio::time::sleep(WATCH_MAX) => (),
                    () = stop.cancelled() => break,
                    () = sender.closed() => break,
                }
                next = picture(&desk, cluster.as_ref());
            }
        });
        Ok(Response::new(ReceiverStream::new(pictures).boxed()))
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        peer::operator(&request)?;
        let ExplainRequest { cluster, node } = request.into_inner();
        let cluster = parsed::<ClusterName>(&cluster)?;
        let node: Option<NodeName> = optional(&node)?;
        let explained = self.desk.view(|view| projection::explain(view, &cluster, node.as_ref()));
        explained.map(Response::new).ok_or_else(|| unknown(&cluster, node.as_ref()))
    }

    type HistoryStream = Flow<HistoryEntry>;

    async fn history(
        &self,
        request: Request<HistoryRequest>,
    ) -> Result<Response<Self::HistoryStream>, Status> {
        peer::operator(&request)?;
        let filter = history::filter(request.into_inner())?;
        Ok(Response::new(history::entries(self.desk.handle.clone(), filter).boxed()))
    }

    async fn issue_token(
        &self,
        request: Request<TokenRequest>,
    ) -> Result<Response<TokenResponse>, Status> {
        let by = peer::operator(&request)?;
        let TokenRequest { cluster, node, valid_seconds, .. } = request.into_inner();
        let (cluster, node) = (parsed::<ClusterName>(&cluster)?, parsed::<NodeName>(&node)?);
        let life = life(valid_seconds, (TOKEN_LIFE, TOKEN_LIFE_MAX), "a token may be valid")?;
        let secret = hex(&(self.desk.context.draw)());
        let expires = (self.desk.context.clock)() + life;
        let token = Token { sha256: sha256_hex(secret.as_bytes()), expires };
        self.submit(cluster, Rule::IssueToken { node, token, by }).await?;
        Ok(Response::new(TokenResponse {
            token: secret,
            ca_sha256: self.desk.authority.sha256().to_owned(),
            coordinator: self.desk.context.advertised.clone(),
            expires: expires.to_string(),
        }))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        peer::operator(&request)?;
        let cluster = optional::<ClusterName>(&request.into_inner().cluster)?;
        Ok(Response::new(self.desk.view(|view| projection::agents(view, cluster.as_ref()))))
    }

    async fn etcd(&self, request: Request<EtcdRequest>) -> Result<Response<EtcdResponse>, Status> {
        peer::operator(&request)?;
        let cluster = parsed::<ClusterName>(&request.into_inner().cluster)?;
        etcd_of(&self.desk, &cluster).await.map(Response::new)
    }

    type TakeBackupStream = Flow<BackupProgress>;

    async fn take_backup(
        &self,
        request: Request<BackupRequest>,
    ) -> Result<Response<Self::TakeBackupStream>, Status> {
        let by = peer::operator(&request)?;
        let BackupRequest { cluster, node } = request.into_inner();
        let cluster = parsed::<ClusterName>(&cluster)?;
        let node: Option<NodeName> = optional(&node)?;
        let (told, progress) = mpsc::channel(PROGRESS_MAX);
        tokio::spawn(backups::take(self.desk.clone(), cluster, node, by, told));
        Ok(Response::new(ReceiverStream::new(progress).boxed()))
    }

    type VerifyLogStream = Flow<VerifyProgress>;

    async fn verify_log(
        &self,
        request: Request<VerifyLogRequest>,
    ) -> Result<Response<Self::VerifyLogStream>, Status> {
        peer::operator(&request)?;
        let (sender, progress) = mpsc::channel(PROGRESS_MAX);
        let handle = self.desk.handle.clone();
        tokio::spawn(async move {
            let (told, mut next) = (sender.clone(), 0);
            let tell = move |events, of| {
                if events >= next {
                    next = events + of / PROGRESS_STEPS + 1;
                    // Who reads slowly misses a step, and the engine does not wait for it.
                    _ = told.try_send(Ok(VerifyProgress { events, of, ..Default::default() }));
                }
            };
            let verified = handle.verify(tell).await;
            let last = verified.map(|head| VerifyProgress {
                events: head.seq,
                of: head.seq,
                done: true,
                head: head.hash.to_string(),
            });
            let last = last.map_err(|error| Status::data_loss(error.to_string()));
            _ = sender.send(last).await; // the asker may have gone
        });
        Ok(Response::new(ReceiverStream::new(progress).boxed()))
    }
}

/// How the etcd of a cluster is.
pub(super) async fn etcd_of(desk: &Desk, cluster: &ClusterName) -> Result<EtcdResponse, Status> {
    let (fleet, now) = (desk.handle.published().fleet, (desk.context.clock)());
    etcd::ask(&desk.context.agents, &fleet, cluster, now).await.ok_or_else(|| {
        Status::failed_precondition(format!(
            "no agent on a control plane of {cluster} is connected: `rehull agent token {cluster} \
             NODE` invites one"
        ))
    })
}

fn picture(desk: &Desk, cluster: Option<&ClusterName>) -> Result<StatusResponse, Status> {
    let status = desk.view(|view| projection::status(view, cluster));
    match cluster {
        Some(cluster) if status.clusters.is_empty() => Err(unknown(cluster, None)),
        _ => Ok(status),
    }
}

/// For how long something is to be good, if it may be for so long: for `usual` if nobody has said.
pub(super) fn life(asked: u32, (usual, max): (Span, Span), what: &str) -> Result<Span, Status> {
    let life = if asked == 0 { usual } else { Span::from_secs(asked) };
    match life > max {
        true => {
            let why = format!("{what} for {max} at the most, not for {life}");
            Err(Status::invalid_argument(why))
        }
        false => Ok(life),
    }
}

pub(super) fn unknown(cluster: &ClusterName, node: Option<&NodeName>) -> Status {
    Status::not_found(match node {
        Some(node) => format!("no migration of {cluster} with a node {node} is known"),
        None => format!("no migration of {cluster} is known: see `rehull status`"),
    })
}

pub(super) fn parsed<T: std::str::FromStr<Err = BadName>>(text: &str) -> Result<T, Status> {
    text.parse().map_err(|bad: BadName| Status::invalid_argument(bad.to_string()))
}

pub(super) fn optional<T: std::str::FromStr<Err = BadName>>(
    text: &str,
) -> Result<Option<T>, Status> {
    if text.is_empty() { Ok(None) } else { parsed(text).map(Some) }
}

#[expect(clippy::disallowed_methods, reason = "this is the edge where ids are drawn")]
pub(super) fn new_id() -> uuid::Uuid {
    uuid::Uuid::new_v4()
}
