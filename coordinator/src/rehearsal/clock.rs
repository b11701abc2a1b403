//! Virtual time: it stands still until the driver moves it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use rehull_shared::time::{Span, Timestamp};

/// When every rehearsal begins: 2025-03-03T06:00:00Z, a Monday. It lies behind the real time, so
/// that certificates, which live in real time, do not look old to agents.
const BEGIN: Timestamp = Timestamp::from_millis(1_740_981_600_000);

/// A clock that only [`Clock::advance`] moves; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Clock(Arc<AtomicI64>);

impl Clock {
    /// A clock at the beginning of a rehearsal.
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(BEGIN.as_millis())))
    }

    /// What time it is.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }

    /// How long it has run.
    pub(super) fn elapsed(&self) -> Span {
        self.now().since(BEGIN)
    }

    /// Lets time pass.
    pub(super) fn advance(&self, span: Span) {
        self.0.fetch_add(i64::from(span.as_secs()) * 1000, Ordering::SeqCst);
    }

    /// As everybody else takes it.
    pub(super) fn reader(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}
