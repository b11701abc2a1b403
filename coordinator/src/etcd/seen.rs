//! What was last seen of each cluster's etcd: looked at again and again while a migration runs, for
//! people to see, and for how long it has elected no leader. In memory only: who has looked for a short
//! time only, says so, and a gate waits for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rehull_proto::v1::EtcdResponse;
use rehull_shared::{
    evidence::Verdict,
    ids::ClusterName,
    time::{Span, Timestamp},
};

use super::ask::{Stores, ask};
use crate::{
    agents::Agents,
    engine::{Clock, Handle},
};

/// Between two looks.
const AGAIN: Duration = Duration::from_secs(20);

/// When each cluster's etcd was looked at last, and how it was.
pub type Looks = BTreeMap<ClusterName, (Timestamp, EtcdResponse)>;

/// The time since which a cluster's etcd is in one term: nobody was elected in it, however seldom it is
/// looked at, because every election begins another one.
#[derive(Clone, Copy, Debug)]
struct Term {
    number: u64,
    since: Timestamp,
    /// Another one was known before: this one began with an election that was seen.
    is_news: bool,
}

impl Term {
    /// Whether it lasts for long.
    fn steady(self, now: Timestamp, quiet: Span) -> Verdict {
        let Self { number, since, is_news } = self;
        let lasts = now.since(since);
        match lasts >= quiet {
            true => Verdict::pass(format!("no election for {lasts} (term {number})")),
            false if is_news => Verdict::fail(format!(
                "a leader was elected {lasts} ago (term {number}): {quiet} without that are wanted"
            )),
            false => Verdict::unknown(format!(
                "term {number} is known for {lasts} only, of {quiet}: wait for that"
            )),
        }
    }
}

/// The last looks, and the terms; cheap to clone.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<(Looks, BTreeMap<ClusterName, Term>)>>);

impl Seen {
    fn lock(&self) -> MutexGuard<'_, (Looks, BTreeMap<ClusterName, Term>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All looks.
    pub fn looks(&self) -> Looks {
        self.lock().0.clone()
    }

    /// Takes a term in that was just seen; `None` if no member says one.
    fn take(&self, cluster: &ClusterName, number: u64, now: Timestamp) -> Option<Term> {
        if number == 0 {
            return None;
        }
        let terms = &mut self.lock().1;
        let known = terms.get(cluster).copied();
        let term = match known {
            Some(known) if known.number == number => known,
            _ => Term { number, since: now, is_news: known.is_some() },
        };
        terms.insert(cluster.clone(), term);
        Some(term)
    }

    /// Takes a term in that was just seen; whether it is that of long ago.
    pub fn steady(&self, cluster: &ClusterName, term: u64, now: Timestamp, quiet: Span) -> Verdict {
        match self.take(cluster, term, now) {
            Some(term) => term.steady(now, quiet),
            None => Verdict::unknown("no member says in which term it is"),
        }
    }
}

/// Looks at the etcd of every cluster whose migration runs, for ever.
pub async fn watch(handle: Handle, agents: Agents, clock: Clock, seen: Seen) {
    loop {
        let fleet = handle.published().fleet;
        let runs = fleet.migrations.iter().filter(|(_, migration)| !migration.is_finished());
        let mut looks = Looks::new();
        for (cluster, _) in runs {
            let now = clock();
            if let Some(health) = ask(&agents, &fleet, cluster, now, Stores::Left).await {
                seen.take(cluster, health.raft_term, now);
                looks.insert(cluster.clone(), (now, health));
            }
        }
        seen.lock().0 = looks;
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_steady_once_it_was_there_for_long() {
        let seen = Seen::default();
        let look = |cluster: &str, term, seconds| {
            let at = Timestamp::from_millis(1_700_000_000_000) + Span::from_secs(seconds);
            format!("{:?}", seen.steady(&cluster.parse().unwrap(), term, at, Span::from_mins(10)))
        };
        for (cluster, term, seconds, meant) in [
            ("prod", 7, 0, "Unknown(\"term 7 is known for 0s only, of 10m"),
            ("prod", 7, 599, "Unknown(\"term 7 is known for 9m 59s only"),
            ("prod", 7, 600, "Pass(\"no election for 10m (term 7)"),
            ("other", 3, 600, "Unknown(\"term 3 is known for 0s only"),
            ("prod", 8, 660, "Fail(\"a leader was elected 0s ago (term 8): 10m without"),
            ("prod", 0, 1300, "Unknown(\"no member says"),
            ("prod", 8, 1260, "Pass(\"no election for 10m (term 8)"),
        ] {
            let words = look(cluster, term, seconds);
            assert!(words.contains(meant), "{cluster} {term} {seconds}: {words}");
        }
    }
}
