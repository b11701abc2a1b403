//! The closed list of orders. Nothing else that a coordinator says does anything.

use rehull_proto::v1::{
    BackUp, Farewell, FromAgent, KillLeftovers, MoveLeader, OrderDone, Process, RemoveMember,
    StartApiServer, StopApiServer, ToAgent, from_agent::Message, order_done::Outcome,
    to_agent::Order,
};
use rehull_shared::text::{SEEN_BYTES_MAX, bounded};

use tonic::transport::Channel;

use crate::{backup, checks, config::Settings, host::Host, journal::Journal, kill};

const ID_BYTES_MAX: usize = 200;

/// Length of a W3C `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;

/// What came of an order, in words.
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) seen: String,
    pub(crate) survivors: Vec<Process>,
}

impl Answer {
    /// Nothing was done.
    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Refused, seen: why.into(), survivors: Vec::new() }
    }

    fn to(self, id: &str, epoch: u64) -> OrderDone {
        OrderDone {
            id: bounded(id, ID_BYTES_MAX),
            epoch,
            outcome: self.outcome.into(),
            seen: bounded(&self.seen, SEEN_BYTES_MAX),
            survivors: self.survivors,
        }
    }
}

/// Carries out one order of the right epoch and generation, once.
pub(crate) async fn carry_out(
    settings: &Settings,
    journal: &mut Journal,
    order: ToAgent,
) -> FromAgent {
    let Settings { host, clock, log, .. } = settings;
    if let Err(why) = journal.admit(order.epoch, order.generation) {
        return refuse(&order, why);
    }
    let ToAgent { epoch, traceparent, .. } = &order;
    let (epoch, traceparent) = (*epoch, bounded(traceparent, TRACEPARENT_BYTES));
    let message = match order.order {
        Some(Order::Collect(asked)) => {
            Message::Report(checks::collect(host, &asked, epoch, clock.as_ref()).await)
        }
        Some(Order::KillLeftovers(order)) => {
            Message::Done(match known(journal, &order.id, epoch) {
                Some(done) => done,
                None => {
                    let names = kill::names(&order.processes);
                    log(&format!("order {}: kill {names}{}", order.id, traced(&traceparent)));
                    let answer = kill::kill(host, &order).await;
                    log(&format!("order {}: {}", order.id, answer.seen));
                    remember(journal, answer.to(&order.id, epoch))
                }
            })
        }
        Some(Order::Farewell(Farewell { id })) => Message::Done(match known(journal, &id, epoch) {
            Some(done) => done,
            None => {
                let answer = farewell(host);
                log(&format!("order {id}: farewell, {}{}", answer.seen, traced(&traceparent)));
                remember(journal, answer.to(&id, epoch))
            }
        }),
        Some(Order::BackUp(BackUp { id })) => {
            Message::Done(Answer::refused("a backup is not carried out here").to(&id, epoch))
        }
        Some(
            Order::MoveLeader(MoveLeader { id, .. })
            | Order::RemoveMember(RemoveMember { id, .. })
            | Order::StopApiServer(StopApiServer { id, .. })
            | Order::StartApiServer(StartApiServer { id }),
        ) => Message::Done(Answer::refused("this agent does not know the order").to(&id, epoch)),
        None => Message::Done(Answer::refused("this agent does not know the order").to("", epoch)),
    };
    FromAgent { message: Some(message) }
}

/// Begins a backup of the right epoch and generation, if the order is one; what comes of it is the
/// answer. `Err` says why it is refused. Nothing of it is remembered: of the same id the coordinator takes none a second time.
pub(crate) fn back_up(
    settings: &Settings,
    journal: &mut Journal,
    link: Channel,
    order: &ToAgent,
) -> Result<impl Future<Output = FromAgent> + Send + use<>, String> {
    journal.admit(order.epoch, order.generation)?;
    let Some(Order::BackUp(back_up)) = order.order.clone() else {
        return Err("it is no backup".to_owned());
    };
    let (epoch, traceparent) = (order.epoch, bounded(&order.traceparent, TRACEPARENT_BYTES));
    let (host, log) = (settings.host.clone(), settings.log.clone());
    Ok(async move {
        log(&format!("order {}: back up{}", back_up.id, traced(&traceparent)));
        let answer = backup::send(&host, &back_up, link).await;
        log(&format!("order {}: {}", back_up.id, answer.seen));
        FromAgent { message: Some(Message::Done(answer.to(&back_up.id, epoch))) }
    })
}

/// The end of a log line: by whose trace this is done.
fn traced(traceparent: &str) -> String {
    if traceparent.is_empty() { String::new() } else { format!(" (traceparent {traceparent})") }
}

/// The answer to an order that is not even begun.
pub(crate) fn refuse(order: &ToAgent, why: impl Into<String>) -> FromAgent {
    let id = match &order.order {
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
    };
    FromAgent { message: Some(Message::Done(Answer::refused(why).to(id, order.epoch))) }
}

/// The answer that this order got before, in the name of the epoch that asks now. An order without
/// an id could not be told from another one, so it is refused.
fn known(journal: &Journal, id: &str, epoch: u64) -> Option<OrderDone> {
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Some(Answer::refused("the order has no usable id").to(id, epoch));
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
