//! Runs passes of everything that is due, side by side, until it is no longer due.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rehull_shared::{
    text::{SEEN_BYTES_MAX, bounded},
    time::{self, Timestamp},
};
use tokio::task::AbortHandle;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::{Context, pass};
use crate::{
    backups::BACKUP_MAX,
    domain::{
        command::{Command, Report, Request},
        effect::{Effect, Work, due},
        state::Fleet,
    },
    engine::{Error, Handle},
    telemetry,
};

/// A pass that takes longer is cut short and begun again: no call of it may hang for ever.
const PASS_MAX: Duration = Duration::from_secs(120);

/// What has failed for so long is told to the log: whoever is held by it must find it there.
const LASTS: time::Span = time::Span::from_secs(30);

/// What is told of an installer.
const INSTALLER: &str = "the installer has failed, again and again: its last lines are in the journal of \
                         the coordinator";

/// What stood in the way of the last pass of each effect, for `explain`; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Troubles {
    last: Arc<Mutex<BTreeMap<Effect, String>>>,
}

impl Troubles {
    /// Notes what stood in the way, or that nothing did.
    pub fn note(&self, effect: &Effect, trouble: Option<String>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(trouble) => last.insert(effect.clone(), trouble),
            None => last.remove(effect),
        };
    }

    /// What stands in the way now.
    pub fn all(&self) -> BTreeMap<Effect, String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs effects until the engine stops.
///
/// # Errors
/// [`Error::Stopped`], always: it ends with the engine.
pub async fn run(handle: Handle, context: Context, troubles: Troubles) -> Result<(), Error> {
    let mut watched = handle.watch();
    let mut running: BTreeMap<Effect, AbortHandle> = BTreeMap::new();
    loop {
        let wanted = due(&watched.borrow_and_update().fleet);
        running.retain(|effect, task| {
            let stays = wanted.contains(effect) && !task.is_finished();
            if !stays {
                task.abort();
                troubles.note(effect, None);
            }
            stays
        });
        for effect in wanted {
            running.entry(effect.clone()).or_insert_with(|| {
                let (handle, context, troubles) =
                    (handle.clone(), context.clone(), troubles.clone());
                tokio::spawn(repeat(effect, handle, context, troubles)).abort_handle()
            });
        }
        watched.changed().await.map_err(|_| Error::Stopped)?;
    }
}

/// Repeats passes of one effect until it is aborted.
async fn repeat(effect: Effect, handle: Handle, context: Context, troubles: Troubles) {
    let mut failing: Option<Timestamp> = None;
    loop {
        let fleet = handle.published().fleet;
        let Some(migration) = fleet.migrations.get(&effect.cluster) else { return };
        let pause = migration.plan.policy.poll_interval.as_duration();
        let (span, began) = (span_of(&effect, migration.id), (context.clock)());
        let reported = report_pass(&effect, &fleet, &handle, &context).instrument(span);
        let Ok(trouble) = reported.await else { return };
        if let Some(trouble) = &trouble {
            tracing::warn!(cluster = %effect.cluster, work = ?effect.work, trouble);
        }
        let now = (context.clock)();
        failing = trouble.as_ref().map(|_| failing.unwrap_or(began));
        if failing.is_some_and(|since| now.since(since) >= LASTS)
            && let Some(told) = told(&effect, &fleet, trouble.as_deref())
            && handle.submit_all(vec![told]).await.is_err()
        {
            return;
        }
        troubles.note(&effect, trouble);
        tokio::time::sleep(pause).await;
    }
}

/// What stands in the way, or that nothing does any more, if the log does not say so.
fn told(effect: &Effect, fleet: &Fleet, trouble: Option<&str>) -> Option<Command> {
    let (subject, work) = (effect.work.subject(), effect.work.name().to_owned());
    let why = trouble.map(|why| match effect.work {
        // The output of a program of others may hold what must never be in the log.
        Work::Install { .. } => INSTALLER.to_owned(),
        _ => bounded(why, SEEN_BYTES_MAX),
    });
    let track = fleet.migrations.get(&effect.cluster)?.track(&subject)?;
    let known = track.troubles.get(&work).map(|(known, _)| known);
    let report = Report::Trouble { subject, work, why: why.clone() };
    let command = Command::Of(effect.cluster.clone(), Request::Report(report));
    (known != why.as_ref()).then_some(command)
}

/// One pass, and the engine's taking note of what it saw. Returns what stood in its way.
async fn report_pass(
    effect: &Effect,
    fleet: &Fleet,
    handle: &Handle,
    context: &Context,
) -> Result<Option<String>, Error> {
    let longest = longest(&effect.work);
    match tokio::time::timeout(longest, pass(effect, fleet, context)).await {
        Ok(Ok(requests)) => {
            let of = |request| Command::Of(effect.cluster.clone(), request);
            // With them: they may end what is due, and with it this pass.
            let over = told(effect, fleet, None);
            let commands = over.into_iter().chain(requests.into_iter().map(of)).collect();
            for refusal in handle.submit_all(commands).await?.into_iter().filter_map(Result::err) {
                tracing::debug!(%refusal, "a report came too late");
            }
            Ok(None)
        }
        Ok(Err(trouble)) => Ok(Some(trouble.to_string())),
        Err(_) => Ok(Some(format!("a pass took longer than {} s", longest.as_secs()))),
    }
}

/// How long one pass may take: a backup as long as its store is large.
fn longest(work: &Work) -> Duration {
    match work {
        Work::TakeBackup { .. } => BACKUP_MAX,
        // A kubelet ends an API server with patience.
        Work::SwitchApiServer { .. } => 2 * PASS_MAX,
        _ => PASS_MAX,
    }
}

/// The span of one pass, in the trace of its migration.
fn span_of(effect: &Effect, migration: Uuid) -> Span {
    let (work, subject) = (effect.work.name(), effect.work.subject());
    let span = tracing::info_span!("pass", otel.name = work, cluster = %effect.cluster, %subject);
    telemetry::belongs_to(&span, migration);
    span
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::stage::{Stage, worker1};

    #[test]
    fn what_stands_in_the_way_is_told_once_and_again_when_it_has_gone() {
        let mut stage = Stage::new();
        let cluster = stage.migration().plan.cluster.clone();
        let work = Work::Cordon { node: worker1() };
        let subject = work.subject();
        let effect = Effect { cluster, work };
        assert_eq!(told(&effect, &stage.fleet, None), None, "nothing was told");
        let trouble = |why: Option<&str>| {
            let (subject, why) = (subject.clone(), why.map(str::to_owned));
            let report = Report::Trouble { subject, work: "cordon".into(), why };
            Some(Command::Of(effect.cluster.clone(), Request::Report(report)))
        };
        assert_eq!(told(&effect, &stage.fleet, Some("a timeout")), trouble(Some("a timeout")));
        let known = ("a timeout".to_owned(), Timestamp::default());
        stage.node("worker1").track.troubles.insert("cordon".into(), known);
        assert_eq!(told(&effect, &stage.fleet, Some("a timeout")), None, "it is known");
        assert_eq!(told(&effect, &stage.fleet, Some("refused")), trouble(Some("refused")));
        assert_eq!(told(&effect, &stage.fleet, None), trouble(None));
    }
}
