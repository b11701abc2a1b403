//! Virtual time: it stands still until the driver moves it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use rehull_shared::time::{Span, Timestamp};

/// When what is made up begins: 2025-03-03T06:00:00Z, a Monday.
pub(super) const BEGIN: Timestamp = Timestamp::from_millis(1_740_981_600_000);

/// A clock that only [`Clock::advance`] moves; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    now: Arc<AtomicI64>,
    begin: Timestamp,
}

impl Clock {
    /// A clock at the beginning of a rehearsal.
    pub(super) fn new(begin: Timestamp) -> Self {
        Self { now: Arc::new(AtomicI64::new(begin.as_millis())), begin }
    }

    /// What time it is.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::SeqCst))
    }

    /// How long it has run.
    pub(super) fn elapsed(&self) -> Span {
        self.now().since(self.begin)
    }

    /// Lets time pass.
    pub(super) fn advance(&self, span: Span) {
        self.now.fetch_add(i64::from(span.as_secs()) * 1000, Ordering::SeqCst);
    }

    /// As everybody else takes it.
    pub(super) fn reader(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}
