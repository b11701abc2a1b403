//! Whether the API servers of clusters answer `/readyz`: asked each second while a control plane is
//! away, so that a gap is seen that no look at a gate would meet (F14).
//!
//! In memory only: who has asked for a short time only, says so, and a gate waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use kube::Client;
use rehull_shared::{
    evidence::Verdict,
    ids::ClusterName,
    time::{Span, Timestamp},
};

use crate::{
    clients::{
        Clients, Endpoint,
        calls::{Failure, call, few},
    },
    domain::state::{Fleet, Migration, Node},
    engine::{Clock, Handle},
};

/// Between two questions.
const EACH: Duration = Duration::from_secs(1);

/// The same where no control plane is away: for people to see.
const SELDOM: Span = Span::from_secs(20);

/// How long an API server may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// For how long an API server may be silent (domain reference, F14).
const SILENCE_MAX: Span = Span::from_secs(5);

/// A longer pause between two questions is one in which a gap may have been missed.
const PAUSE_MAX: Span = Span::from_secs(5);

/// For how long all must have answered, without a pause and without a gap.
const STEADY_MIN: Span = Span::from_secs(60);

/// What one API server has answered, for as long as it was asked without a pause.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answered {
    since: Timestamp,
    last: Timestamp,
    /// When it was first found silent, and has been since.
    silent: Option<Timestamp>,
    /// The last silence that was too long: until when, and how long.
    gap: Option<(Timestamp, Span)>,
    longest: Span,
}

impl Answered {
    fn new(now: Timestamp) -> Self {
        Self { since: now, last: now, silent: None, gap: None, longest: Span::from_secs(0) }
    }

    /// Takes one more answer in.
    fn take(&mut self, now: Timestamp, ready: bool) {
        if now.since(self.last) > PAUSE_MAX {
            self.since = now;
        }
        self.last = now;
        if ready {
            self.silent = None;
            return;
        }
        let silence = now.since(*self.silent.get_or_insert(now));
        self.longest = self.longest.max(silence);
        if silence > SILENCE_MAX {
            self.gap = Some((now, silence));
        }
    }

    /// Whether it has answered all the while. A silence that began before `from` a person has looked at, or
    /// nobody needs to.
    fn steady(&self, from: Option<Timestamp>, now: Timestamp) -> Verdict {
        let asked = now.since(self.since);
        match (self.silent, self.gap) {
            _ if now.since(self.last) > PAUSE_MAX => {
                Verdict::unknown(format!("was not asked since {}", self.last))
            }
            (Some(since), _) if now.since(since) > SILENCE_MAX => {
                Verdict::fail(format!("is not ready since {since}"))
            }
            (Some(since), _) => {
                Verdict::unknown(format!("is not ready since {since}: wait whether it stays so"))
            }
            (None, Some((until, silence))) if from.is_some_and(|at| until.since(at) > silence) => {
                Verdict::fail(format!("was not ready for {silence} until {until}"))
            }
            (None, Some((until, silence))) if now.since(until) < STEADY_MIN => {
                let words = format!("was not ready for {silence} until {until}: wait for a minute");
                Verdict::unknown(words)
            }
            _ if asked < STEADY_MIN => Verdict::unknown(format!(
                "is asked each second for {asked} only, of {STEADY_MIN}: wait for that"
            )),
            _ => Verdict::pass(format!("answers for {asked}, silent for {} at most", self.longest)),
        }
    }
}

/// What all API servers have answered; cheap to clone.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<(ClusterName, String), Answered>>>);

impl Readiness {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(ClusterName, String), Answered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the API servers that are to serve in every cluster whose turn it is, once.
    pub async fn ask(&self, clients: &Clients, fleet: &Fleet, now: Timestamp) {
        let runs = fleet.migrations.values().filter(|migration| !migration.is_finished());
        let servers = runs.flat_map(|migration| {
            let closely = migration.nodes.iter().any(Node::is_apart);
            migration.serving().map(move |one| (migration, one.api_server.clone(), closely))
        });
        let servers: Vec<_> = servers.collect();
        let known: BTreeSet<_> =
            servers.iter().map(|(migration, server, _)| whose(migration, server)).collect();
        self.lock().retain(|whom, _| known.contains(whom));
        let due = |migration: &Migration, server: &str, closely: bool| {
            let all = self.lock();
            let asked = all.get(&whose(migration, server));
            closely || asked.is_none_or(|asked| now.since(asked.last) >= SELDOM)
        };
        let turn = servers
            .into_iter()
            .filter(|(migration, server, closely)| due(migration, server, *closely));
        let answers = turn.map(async |(migration, server, _)| {
            let endpoint = Endpoint::ApiServer(server.clone());
            let ready = match clients.get(&migration.plan, endpoint).await {
                Ok(client) => {
                    let answer = tokio::time::timeout(ANSWER_MAX, complaint(&client)).await;
                    matches!(answer, Ok(Ok(None)))
                }
                Err(_) => false,
            };
            (whose(migration, &server), ready)
        });
        for (whom, ready) in join_all(answers).await {
            self.lock().entry(whom).or_insert_with(|| Answered::new(now)).take(now, ready);
        }
    }

    /// Whether the API servers that are to serve have answered all the while. A silence during the removal
    /// that is looked at counts until a person has looked.
    pub fn steady(&self, migration: &Migration, now: Timestamp) -> Verdict {
        let all = self.lock();
        let apart = migration.nodes.iter().find(|node| node.is_apart());
        let from = apart.and_then(|node| node.steady_from);
        let mut words = Vec::new();
        for one in migration.serving() {
            let server = &one.api_server;
            let verdict = match all.get(&whose(migration, server)) {
                Some(answered) => answered.steady(from, now),
                None => Verdict::unknown("was not asked yet"),
            };
            match verdict {
                Verdict::Pass(seen) => words.push(format!("{server} {seen}")),
                Verdict::Fail(why) => return Verdict::fail(format!("{server} {why}")),
                Verdict::Unknown(why) => return Verdict::unknown(format!("{server} {why}")),
            }
        }
        match words.is_empty() {
            true => Verdict::pass("no other API server is to serve"),
            false => Verdict::pass(few(words)),
        }
    }

    /// How the API servers of a cluster are that are to serve, for people; empty if nobody has asked.
    pub fn summary(&self, migration: &Migration) -> String {
        let all = self.lock();
        let answered = |server: &String| {
            let answered = all.get(&whose(migration, server))?;
            Some((server.clone(), answered.silent))
        };
        let seen: Vec<_> =
            migration.serving().filter_map(|one| answered(&one.api_server)).collect();
        let silent: Vec<_> = seen
            .iter()
            .filter_map(|(server, silent)| Some(format!("{server} is silent since {}", (*silent)?)))
            .collect();
        match (seen.len(), silent.is_empty()) {
            (0, _) => String::new(),
            (count, true) => format!("{count} of {count} are ready"),
            (count, false) => {
                format!("NOT all ready: {}, of {count} that are to serve", few(silent))
            }
        }
    }
}

/// One API server of one cluster.
fn whose(migration: &Migration, server: &str) -> (ClusterName, String) {
    (migration.plan.cluster.clone(), server.to_owned())
}

/// Asks again and again, for ever.
pub async fn watch(handle: Handle, clients: Clients, clock: Clock, readiness: Readiness) {
    let mut beat = tokio::time::interval(EACH);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        readiness.ask(&clients, &handle.published().fleet, clock()).await;
    }
}

/// What an API server says at `/readyz`: `None` if it is ready.
///
/// # Errors
/// A [`Failure`] if it refuses, as it does where it is not ready, or does not answer.
pub async fn complaint(client: &Client) -> Result<Option<String>, Failure> {
    let request = http::Request::get("/readyz").body(Vec::new()).expect("the path is a constant");
    let answer = call(client.request_text(request)).await?;
    Ok((answer.trim() != "ok").then_some(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u32) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000) + Span::from_secs(seconds)
    }

    /// Asked each second in a range; silent in another.
    fn asked(range: std::ops::Range<u32>, silent: std::ops::Range<u32>) -> Answered {
        let mut answered = Answered::new(at(range.start));
        for second in range {
            answered.take(at(second), !silent.contains(&second));
        }
        answered
    }

    #[test]
    fn only_a_minute_without_pause_and_gap_is_steady() {
        for (range, silent, now, meant) in [
            (0..70, 0..0, 70, "answers for 1m 10s, silent for 0s at most"),
            (0..70, 30..34, 70, "silent for 3s at most"),
            (0..30, 0..0, 30, "asked each second for 30s only"),
            (0..70, 60..80, 70, "Fail(\"is not ready since"),
            (0..70, 66..80, 70, "Unknown(\"is not ready since"),
            (0..70, 30..40, 70, "Unknown(\"was not ready for 9s until"),
            (0..110, 30..40, 110, "silent for 9s at most"),
            (0..70, 0..0, 76, "was not asked since"),
        ] {
            let words = format!("{:?}", asked(range.clone(), silent.clone()).steady(None, at(now)));
            assert!(words.contains(meant), "{range:?} {silent:?}: {words}");
        }
        let mut paused = asked(0..70, 0..0);
        paused.take(at(80), true);
        let words = format!("{:?}", paused.steady(None, at(81)));
        assert!(words.contains("asked each second for 1s only"), "{words}");
    }

    #[test]
    fn a_silence_during_a_removal_counts_until_a_person_has_looked() {
        let once = asked(0..200, 30..40);
        for (from, meant) in [
            (None, "answers for 3m 20s"),
            (Some(at(10)), "Fail(\"was not ready for 9s until"),
            (Some(at(35)), "answers for 3m 20s"),
            (Some(at(100)), "answers for 3m 20s"),
        ] {
            let words = format!("{:?}", once.steady(from, at(200)));
            assert!(words.contains(meant), "{from:?}: {words}");
        }
    }
}
