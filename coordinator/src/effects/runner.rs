//! Runs passes of everything that is due, side by side, until it is no longer due.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::task::AbortHandle;

use super::{Context, pass};
use crate::{
    domain::{
        command::Command,
        effect::{Effect, due},
    },
    engine::{Error, Handle},
};

/// A pass that takes longer is cut short and begun again: no call of it may hang for ever.
const PASS_MAX: Duration = Duration::from_secs(120);

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
    loop {
        let fleet = handle.published().fleet;
        let Some(migration) = fleet.migrations.get(&effect.cluster) else { return };
        let pause = migration.plan.policy.poll_interval.as_duration();
        let outcome = tokio::time::timeout(PASS_MAX, pass(&effect, &fleet, &context)).await;
        let trouble = match outcome {
            Ok(Ok(requests)) => {
                let of = |request| Command::Of(effect.cluster.clone(), request);
                let commands = requests.into_iter().map(of).collect();
                let Ok(answers) = handle.submit_all(commands).await else { return };
                for refusal in answers.into_iter().filter_map(Result::err) {
                    tracing::debug!(%refusal, "a report came too late");
                }
                None
            }
            Ok(Err(trouble)) => Some(trouble.to_string()),
            Err(_) => Some(format!("a pass took longer than {} s", PASS_MAX.as_secs())),
        };
        if let Some(trouble) = &trouble {
            tracing::warn!(cluster = %effect.cluster, work = ?effect.work, trouble);
        }
        troubles.note(&effect, trouble);
        tokio::time::sleep(pause).await;
    }
}
