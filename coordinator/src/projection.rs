//! What operators see: pure functions of what is on disk, who is connected, and the time.

use std::collections::BTreeMap;

use rehull_shared::time::Timestamp;

use crate::{
    agents::{Connected, Refused, Whom},
    domain::{effect::Effect, state::Fleet},
    etcd::Looks,
    history::History,
    readiness::Readiness,
};

mod explain;
mod gates;
mod history;
mod remedies;
mod sentences;
mod states;
mod status;
mod waits;
mod words;

pub use explain::explain;
pub use gates::{planned, table};
pub use history::Filter;
pub(crate) use sentences::gate_name;
pub use sentences::sentence;
pub use status::{agents, status};
pub use waits::{blocker, too_long};
pub use words::{Words, of_check, of_gate};

/// A time of day, UTC: dates are said where they matter.
fn time_of_day(at: Timestamp) -> String {
    at.to_string().chars().skip("2026-01-02T".len()).take("03:04:05".len()).collect()
}

/// The same with its date, unless that is today's.
fn moment(at: Timestamp, now: Timestamp) -> String {
    let (then, today) = (at.to_string(), now.to_string());
    let date = then.split('T').next().filter(|date| !today.starts_with(date));
    date.map_or_else(|| time_of_day(at), |date| format!("{date} {}", time_of_day(at)))
}

/// Everything that a picture is made of.
pub struct View<'a> {
    /// The state.
    pub fleet: &'a Fleet,
    /// Number of the last event in it.
    pub sequence: u64,
    /// What happened last.
    pub history: &'a History,
    /// What stands in the way of effects.
    pub troubles: &'a BTreeMap<Effect, String>,
    /// Who is connected.
    pub connected: &'a BTreeMap<Whom, Connected>,
    /// Who has asked to enrol and was refused.
    pub refused: &'a BTreeMap<Whom, Refused>,
    /// How the etcd of clusters was when it was looked at last.
    pub etcd: &'a Looks,
    /// What API servers have answered.
    pub readiness: &'a Readiness,
    /// What time it is.
    pub now: Timestamp,
}
