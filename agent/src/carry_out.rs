//! The closed list of orders. Nothing else that a coordinator says does anything.

use std::pin::Pin;

use rehull_proto::v1::{
    BackUp, Farewell, FromAgent, KillLeftovers, MoveLeader, OrderDone, RemoveMember,
    StartApiServer, StopApiServer, ToAgent, from_agent::Message, order_done::Outcome,
    to_agent::Order,
};
use rehull_shared::text::{SEEN_BYTES_MAX, bounded};

use tonic::transport::Channel;

use crate::{
    answer::{Answer, ID_BYTES_MAX},
    api_server, backup, checks,
    config::Settings,
    etcd,
    host::Host,
    journal::Journal,
    kill,
};

/// Length of a W3C `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;

/// Carries out one order of the right epoch and generation, once.
pub(crate) async fn carry_out(
    settings: &Settings,
    journal: &mut Journal,
    order: ToAgent,
) -> FromAgent {
    let Settings { host, clock, .. } = settings;
    if let Err(why) = journal.admit(order.epoch, order.generation) {
        return refuse(&order, why);
    }
    let message = match &order.order {
        Some(Order::Collect(asked)) => {
            Message::Report(checks::collect(host, asked, order.epoch, clock.as_ref()).await)
        }
        Some(change) => Message::Done(carry_out_change(settings, journal, &order, change).await),
        None => return refuse(&order, "this agent does not know the order"),
    };
    FromAgent { message: Some(message) }
}

/// Carries out an order that changes something, unless it got its answer before.
async fn carry_out_change(
    settings: &Settings,
    journal: &mut Journal,
    order: &ToAgent,
    change: &Order,
) -> OrderDone {
    let Settings { host, log, .. } = settings;
    let (id, epoch) = (id(order), order.epoch);
    if let Some(done) = known(journal, id, epoch) {
        return done;
    }
    log(&format!("order {id}: {}{}", name(change), traced(order)));
    let answer = match change {
        Order::KillLeftovers(order) => kill::kill(host, order).await,
        Order::Farewell(_) => farewell(host),
        Order::MoveLeader(order) => etcd::move_leader(host, order).await,
        Order::RemoveMember(order) => etcd::remove_member(host, order).await,
        Order::StartApiServer(_) => api_server::start(host),
        Order::Collect(_) | Order::BackUp(_) | Order::StopApiServer(_) => {
            Answer::refused("such an order is not carried out here")
        }
    };
    log(&format!("order {id}: {}", answer.seen));
    let done = answer.to(id, epoch);
    match change {
        // Where the manifest lies says whether that was done, and says it better.
        Order::StartApiServer(_) => done,
        _ => remember(journal, done),
    }
}

/// Whether others do not wait for this order: it takes as long as a store is large, or as an API server
/// takes to end.
pub(crate) fn takes_long(order: &ToAgent) -> bool {
    matches!(order.order, Some(Order::BackUp(_) | Order::StopApiServer(_)))
}

/// Begins an order of the right epoch and generation that takes long; what comes of it is the answer.
/// `Err` says why it is refused. A stop has laid the manifest aside when this returns, so that orders work
/// in the order in which they came; only the rest takes long. Nothing of it is remembered: of a backup of
/// the same id the coordinator takes none a second time, and the API server is stopped or not.
pub(crate) fn begin(
    settings: &Settings,
    journal: &mut Journal,
    link: Channel,
    order: &ToAgent,
) -> Result<impl Future<Output = FromAgent> + Send + use<>, String> {
    journal.admit(order.epoch, order.generation)?;
    usable(id(order))?;
    let other = || "it is no order that takes long".to_owned();
    let change = order.order.clone().filter(|_| takes_long(order)).ok_or_else(other)?;
    let (id, epoch, traced) = (id(order).to_owned(), order.epoch, traced(order));
    let (host, log) = (settings.host.clone(), settings.log.clone());
    log(&format!("order {id}: {}{traced}", name(&change)));
    let work: Pin<Box<dyn Future<Output = Answer> + Send>> = match change {
        Order::BackUp(order) => Box::pin(async move { backup::send(&host, &order, link).await }),
        Order::StopApiServer(order) => Box::pin(api_server::stop(&host, &order)),
        _ => return Err(other()),
    };
    Ok(async move {
        let answer = work.await;
        log(&format!("order {id}: {}", answer.seen));
        FromAgent { message: Some(Message::Done(answer.to(&id, epoch))) }
    })
}

/// What is to be done, for the log.
fn name(change: &Order) -> String {
    match change {
        Order::Collect(_) => "collect".to_owned(),
        Order::KillLeftovers(order) => format!("kill {}", kill::names(&order.processes)),
        Order::Farewell(_) => "farewell".to_owned(),
        Order::BackUp(_) => "back up".to_owned(),
        Order::MoveLeader(order) => format!("move the leader of etcd to {:x}", order.to),
        Order::RemoveMember(RemoveMember { member_id, peer_url, .. }) => {
            let url = bounded(peer_url, ID_BYTES_MAX);
            format!("remove the member {member_id:x} with {url} from etcd")
        }
        Order::StopApiServer(order) => {
            format!("stop the API server within {} s", order.patience_seconds)
        }
        Order::StartApiServer(_) => "start the API server".to_owned(),
    }
}

/// The end of a log line: by whose trace this is done.
fn traced(order: &ToAgent) -> String {
    match bounded(&order.traceparent, TRACEPARENT_BYTES) {
        none if none.is_empty() => none,
        traceparent => format!(" (traceparent {traceparent})"),
    }
}

/// The answer to an order that is not even begun.
pub(crate) fn refuse(order: &ToAgent, why: impl Into<String>) -> FromAgent {
    let done = Answer::refused(why).to(id(order), order.epoch);
    FromAgent { message: Some(Message::Done(done)) }
}

/// By what the coordinator knows the answer.
fn id(order: &ToAgent) -> &str {
    match &order.order {
        Some(Order::Collect(collect)) => &collect.nonce,
        Some(
            Order::KillLeftovers(KillLeftovers { id, .. })
            | Order::Farewell(Farewell { id })
            | Order::BackUp(BackUp { id })
            | Order::MoveLeader(MoveLeader { id, .. })
            | Order::RemoveMember(RemoveMember { id, .. })
            | Order::StopApiServer(StopApiServer { id, .. })
            | Order::StartApiServer(StartApiServer { id }),
        ) => id,
        None => "",
    }
}

/// An order without an id could not be told from another one, so it is refused.
fn usable(id: &str) -> Result<(), String> {
    match id.len() {
        1..=ID_BYTES_MAX => Ok(()),
        _ => Err("the order has no usable id".to_owned()),
    }
}

/// The answer that this order got before, in the name of the epoch that asks now.
fn known(journal: &Journal, id: &str, epoch: u64) -> Option<OrderDone> {
    if let Err(why) = usable(id) {
        return Some(Answer::refused(why).to(id, epoch));
    }
    journal.answer(id).map(|done| OrderDone { epoch, ..done.clone() })
}

/// Remembers what was done. What was refused is not remembered: the same order may succeed later.
fn remember(journal: &mut Journal, mut done: OrderDone) -> OrderDone {
    if done.outcome != i32::from(Outcome::Refused)
        && let Err(error) = journal.remember(done.clone())
    {
        done.seen = bounded(&format!("{}; not remembered: {error}", done.seen), SEEN_BYTES_MAX);
    }
    done
}

/// The last words of this installation: by them the next one is known to be another.
fn farewell(host: &Host) -> Answer {
    let mut missing = Vec::new();
    let identity = checks::identity(host, |_, error| missing.push(error.to_string()));
    if identity.boot_id.is_empty() || identity.machine_id.is_empty() {
        return Answer::refused(format!("cannot say who says farewell: {}", missing.join("; ")));
    }
    Answer {
        outcome: Outcome::Done,
        seen: format!("machine {}, boot {}", identity.machine_id, identity.boot_id),
        survivors: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
