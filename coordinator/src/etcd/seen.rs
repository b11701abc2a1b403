//! What was last seen of each cluster's etcd: looked at again and again while a migration runs, for
//! people to see, for how long it has elected no leader, and whether the members that stay are well while
//! a control plane is away. In memory only: who has looked for a short time only, says so, and a gate
//! waits for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::join_all;
use rehull_proto::v1::EtcdResponse;
use rehull_shared::{
    evidence::Verdict,
    ids::{ClusterName, NodeName},
    time::{Span, Timestamp},
};

use super::{
    Heard, ailments,
    ask::{all, hear},
    health,
};
use crate::{
    agents::Agents,
    clients::calls::few,
    domain::{
        command::{Command, Report, Request},
        state::{Fleet, Migration},
    },
    engine::{Clock, Handle},
};

/// Between two looks where a control plane is away (domain reference, 5.4).
const CLOSELY: Span = Span::from_secs(5);

/// The same where none is: for people to see.
const SELDOM: Span = Span::from_secs(20);

/// For how long a member may ail while another is away: a leader is elected in less, and an agent that has
/// waited long for a coordinator dials again after half a minute.
const AILS_MAX: Span = Span::from_secs(45);

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

/// What is kept of all looks.
#[derive(Default)]
struct Kept {
    looks: Looks,
    terms: BTreeMap<ClusterName, Term>,
    /// Since when members ail that are to be there, while a control plane is away.
    ailing: BTreeMap<ClusterName, Timestamp>,
}

/// The last looks, the terms, and who ails; cheap to clone.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Kept>>);

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All looks.
    pub fn looks(&self) -> Looks {
        self.lock().looks.clone()
    }

    /// Takes a term in that was just seen; `None` if no member says one.
    fn take(&self, cluster: &ClusterName, number: u64, now: Timestamp) -> Option<Term> {
        if number == 0 {
            return None;
        }
        let terms = &mut self.lock().terms;
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

    /// Looks at the etcd of every cluster whose turn it is, once: often where a control plane is away.
    /// What people must know of it is returned.
    pub async fn look(&self, agents: &Agents, fleet: &Fleet, now: Timestamp) -> Vec<Command> {
        let runs = || fleet.migrations.iter().filter(|(_, migration)| !migration.is_finished());
        self.lock().looks.retain(|cluster, _| runs().any(|(runs, _)| runs == cluster));
        let is_due = |cluster: &ClusterName, migration: &Migration| {
            let last = self.lock().looks.get(cluster).map(|(at, _)| *at);
            let pause = if migration.away().is_some() { CLOSELY } else { SELDOM };
            last.is_none_or(|last| now.since(last) >= pause)
        };
        let due = runs().filter(|(cluster, migration)| is_due(cluster, migration));
        let looks = due.map(async |(cluster, migration)| {
            let heard = hear(agents, fleet, &all(agents, fleet, cluster), now).await;
            if heard.is_empty() {
                return None;
            }
            let health = health(cluster, &heard);
            self.take(cluster, health.raft_term, now);
            self.lock().looks.insert(cluster.clone(), (now, health));
            self.judge_others(cluster, migration, &heard, now)
        });
        join_all(looks).await.into_iter().flatten().collect()
    }

    /// While a control plane is away: whether the members that are to be there are well, if that is news
    /// to people.
    fn judge_others(
        &self,
        cluster: &ClusterName,
        migration: &Migration,
        heard: &[Heard],
        now: Timestamp,
    ) -> Option<Command> {
        let ailing = &mut self.lock().ailing;
        let Some(away) = migration.away() else {
            ailing.remove(cluster);
            return None;
        };
        let node = away.planned.name.clone();
        let stands = |node: &NodeName| migration.standing().any(|there| there.name == *node);
        let is_there = |one: &&Heard| one.node != node && stands(&one.node);
        let ailments = ailments(&heard.iter().filter(is_there).collect::<Vec<_>>());
        let report = match ailments.is_empty() {
            true => {
                ailing.remove(cluster);
                away.at_risk.then_some(Report::Others { node, ailing: None })
            }
            false => {
                let since = *ailing.entry(cluster.clone()).or_insert(now);
                let is_news = now.since(since) >= AILS_MAX && !away.at_risk;
                is_news.then(|| Report::Others { node, ailing: Some(few(ailments)) })
            }
        };
        Some(Command::Of(cluster.clone(), Request::Report(report?)))
    }
}

/// Looks at the etcd of every cluster whose migration runs, for ever, and has people told.
pub async fn watch(handle: Handle, agents: Agents, clock: Clock, seen: Seen) {
    loop {
        let news = seen.look(&agents, &handle.published().fleet, clock()).await;
        for answer in handle.submit_all(news).await.into_iter().flatten() {
            if let Err(refusal) = answer {
                tracing::warn!(%refusal, "what was seen of an etcd was not taken");
            }
        }
        tokio::time::sleep(CLOSELY.as_duration()).await;
    }
}

#[cfg(test)]
mod tests {
    use rehull_proto::v1::Etcd;

    use super::*;
    use crate::{
        domain::{gate::Gate, plan::Role},
        effects::testing::{NOW, member_heard, migration, out, plane},
    };

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

    /// Looks at these seconds, at which the members that stay are well or not; what people are told.
    fn told(looks: &[(u32, bool)]) -> Vec<(u32, bool)> {
        let mut prod = migration();
        prod.plan.control_planes = [1, 2, 3].map(plane).into();
        let node = &mut prod.nodes[0];
        (node.planned.name, node.planned.role) = ("m2".parse().unwrap(), Role::ControlPlane);
        out(node, Gate::Os);
        let well = || Ok(Etcd { leader: 1, ..Etcd::default() });
        let (seen, mut told) = (Seen::default(), Vec::new());
        for (second, is_well) in looks {
            let third = if *is_well { well() } else { Err("no answer".to_owned()) };
            // Who is away may still speak, and ails as it likes.
            let gone = Err("gone".to_owned());
            let heard = [member_heard(1, well()), member_heard(2, gone), member_heard(3, third)];
            let now = NOW + Span::from_secs(*second);
            let news = seen.judge_others(&"prod".parse().unwrap(), &prod, &heard, now);
            let Some(Command::Of(_, Request::Report(Report::Others { node, ailing }))) = news
            else {
                continue;
            };
            assert_eq!(node, prod.nodes[0].planned.name);
            assert!(ailing.as_ref().is_none_or(|why| why == "m3: no answer"), "{ailing:?}");
            prod.nodes[0].at_risk = ailing.is_some();
            told.push((*second, ailing.is_some()));
        }
        told
    }

    #[test]
    fn people_are_told_of_what_ails_for_long_once_and_of_its_end() {
        let (no, well) = (false, true);
        let short = [(0, no), (44, no), (45, well), (50, no), (94, no), (99, well)];
        assert_eq!(told(&short), [], "it never lasted");
        let long = [(0, well), (5, no), (49, no), (50, no), (90, no), (95, well), (100, well)];
        assert_eq!(told(&long), [(50, true), (95, false)]);
        assert_eq!(told(&[(0, no), (45, no), (60, well), (65, no), (110, no)]).len(), 3);
    }
}
