//! What came of an order: all that carry one out say it in the same way.

use rehull_proto::v1::{OrderDone, Process, order_done::Outcome};
use rehull_shared::text::{SEEN_BYTES_MAX, bounded};

/// How much of the id of an order is said again.
pub(crate) const ID_BYTES_MAX: usize = 200;

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

    /// As the coordinator is told of it.
    pub(crate) fn to(self, id: &str, epoch: u64) -> OrderDone {
        OrderDone {
            id: bounded(id, ID_BYTES_MAX),
            epoch,
            outcome: self.outcome.into(),
            seen: bounded(&self.seen, SEEN_BYTES_MAX),
            survivors: self.survivors,
        }
    }
}
