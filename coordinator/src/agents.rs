//! The agents that are connected now: where orders go out and answers come in. In memory only.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rehull_proto::v1::{Beat, FromAgent, OrderDone, Report, ToAgent, from_agent, to_agent};
use rehull_shared::{
    ids::{ClusterName, Epoch, Generation, NodeName},
    time::Timestamp,
};
use tokio::sync::{mpsc, oneshot};

use crate::telemetry;

/// A cluster and a node: one agent.
pub type Whom = (ClusterName, NodeName);

/// The connected agents; cheap to clone.
#[derive(Clone, Default)]
pub struct Agents {
    links: Arc<Mutex<BTreeMap<Whom, Link>>>,
    // Counts connections of all agents: a number that came back would let an old connection end a
    // young one.
    connections: Arc<AtomicU64>,
    refused: Arc<Mutex<BTreeMap<Whom, Refused>>>,
}

/// A host that has asked to enrol, and was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When it asked last.
    pub at: Timestamp,
    /// Its address.
    pub from: String,
    /// What it was told.
    pub why: String,
}

struct Link {
    connection: u64,
    generation: Generation,
    version: String,
    orders: mpsc::Sender<ToAgent>,
    waiting: BTreeMap<String, oneshot::Sender<Answer>>,
    beat: Option<(Timestamp, Beat)>,
}

/// What an agent answers.
#[derive(Debug)]
pub enum Answer {
    /// To `Collect`.
    Report(Box<Report>),
    /// To any other order.
    Done(OrderDone),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// Nobody is there.
    #[error("its agent is not connected")]
    NotConnected,
    /// Somebody is there, but of another installation.
    #[error("its agent is of generation {0}, not of generation {1}")]
    OtherGeneration(Generation, Generation),
    /// The agent works through earlier orders.
    #[error("its agent has too many orders to do")]
    Busy,
    /// Nothing came back.
    #[error("its agent did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// What is known of a connected agent.
#[derive(Debug, Clone)]
pub struct Connected {
    /// Which installation it is.
    pub generation: Generation,
    /// Its version.
    pub version: String,
    /// Its last sign of life.
    pub beat: Option<(Timestamp, Beat)>,
}

/// An order of a coordinator's epoch to the agent of a generation, in the trace of who gives it.
pub fn addressed(epoch: Epoch, generation: Generation, order: to_agent::Order) -> ToAgent {
    ToAgent {
        epoch: epoch.0,
        generation: generation.0,
        order: Some(order),
        traceparent: telemetry::traceparent(),
    }
}

impl Agents {
    fn links(&self) -> MutexGuard<'_, BTreeMap<Whom, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in; an earlier one of the same node is dropped. Returns its number.
    pub fn attach(
        &self,
        whom: Whom,
        generation: Generation,
        version: String,
        orders: mpsc::Sender<ToAgent>,
    ) -> u64 {
        let mut links = self.links();
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let waiting = BTreeMap::new();
        let beat = None;
        links.insert(whom, Link { connection, generation, version, orders, waiting, beat });
        connection
    }

    /// Forgets a connection, unless a younger one has taken its place.
    pub fn detach(&self, whom: &Whom, connection: u64) {
        let mut links = self.links();
        if links.get(whom).is_some_and(|link| link.connection == connection) {
            links.remove(whom);
        }
    }

    /// Remembers who was refused as this agent, until somebody enrols as it. The caller names
    /// agents that are known, and no others: strangers must not fill the memory.
    pub fn refuse(&self, whom: Whom, refused: Refused) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(whom, refused);
    }

    /// Everybody who was refused last.
    pub fn refused(&self) -> BTreeMap<Whom, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drops a connection of an installation before `generation`: its host is another one now.
    pub fn drop_before(&self, whom: &Whom, generation: Generation) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(whom);
        let mut links = self.links();
        if links.get(whom).is_some_and(|link| link.generation < generation) {
            links.remove(whom);
        }
    }

    /// Drops the connection of an agent that is no longer trusted.
    pub fn drop_link(&self, whom: &Whom) {
        self.links().remove(whom);
    }

    /// Takes a message in. `true` if somebody has waited for it: a beat, an answer to a question
    /// that is closed or was never asked, and a second hello are not waited for.
    pub fn heard(&self, whom: &Whom, connection: u64, message: FromAgent, now: Timestamp) -> bool {
        let mut links = self.links();
        let Some(link) = links.get_mut(whom).filter(|link| link.connection == connection) else {
            return false;
        };
        let (key, answer) = match message.message {
            Some(from_agent::Message::Beat(beat)) => {
                link.beat = Some((now, beat));
                return false;
            }
            Some(from_agent::Message::Report(report)) => {
                (report.nonce.clone(), Answer::Report(Box::new(report)))
            }
            Some(from_agent::Message::Done(done)) => (done.id.clone(), Answer::Done(done)),
            Some(from_agent::Message::Hello(_)) | None => return false,
        };
        let Some(waiting) = link.waiting.remove(&key) else { return false };
        _ = waiting.send(answer); // the asker may have gone
        true
    }

    /// Gives an order and waits for its answer.
    ///
    /// # Errors
    /// A [`Silence`]; the order may have been carried out all the same.
    pub async fn ask(
        &self,
        whom: &Whom,
        order: ToAgent,
        patience: Duration,
    ) -> Result<Answer, Silence> {
        let key = match &order.order {
            Some(to_agent::Order::Collect(collect)) => collect.nonce.clone(),
            Some(to_agent::Order::KillLeftovers(kill)) => kill.id.clone(),
            Some(to_agent::Order::Farewell(farewell)) => farewell.id.clone(),
            Some(to_agent::Order::BackUp(order)) => order.id.clone(),
            Some(to_agent::Order::MoveLeader(order)) => order.id.clone(),
            Some(to_agent::Order::RemoveMember(order)) => order.id.clone(),
            Some(to_agent::Order::StopApiServer(order)) => order.id.clone(),
            Some(to_agent::Order::StartApiServer(order)) => order.id.clone(),
            None => String::new(),
        };
        let (sender, answer) = oneshot::channel();
        {
            let mut links = self.links();
            let link = links.get_mut(whom).ok_or(Silence::NotConnected)?;
            let wanted = Generation(order.generation);
            if link.generation != wanted {
                return Err(Silence::OtherGeneration(link.generation, wanted));
            }
            link.orders.try_send(order).map_err(|_| Silence::Busy)?;
            link.waiting.insert(key.clone(), sender);
        }
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Silence::NotConnected),
            Err(_) => {
                if let Some(link) = self.links().get_mut(whom) {
                    link.waiting.remove(&key);
                }
                Err(Silence::TimedOut(patience))
            }
        }
    }

    /// Everybody who is connected.
    pub fn connected(&self) -> BTreeMap<Whom, Connected> {
        let seen = |link: &Link| Connected {
            generation: link.generation,
            version: link.version.clone(),
            beat: link.beat.clone(),
        };
        self.links().iter().map(|(whom, link)| (whom.clone(), seen(link))).collect()
    }
}
