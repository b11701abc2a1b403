//! A backup, ordered from the agent of a control plane.

use std::{
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use rehull_proto::v1::{BackUp, to_agent};

use super::{Backups, Beside, Taken};
use crate::{
    agents::{Agents, Answer, Whom, addressed},
    domain::state::Fleet,
};

/// How long a backup may take: an etcd of some GiB over a slow line.
pub const BACKUP_MAX: Duration = Duration::from_secs(3_600);

/// A backup that was ordered, and comes in.
pub struct Ordered {
    /// Bytes that have come so far.
    pub bytes: Arc<AtomicU64>,
    /// What comes of it; why there is none, in words. When nobody waits for it any more, it is refused.
    pub outcome: Pin<Box<dyn Future<Output = Result<Taken, String>> + Send>>,
}

/// Waits no longer for what it was made for.
struct Expected(Backups, String);

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.forget(&self.1);
    }
}

/// Orders a backup from the agent of a node, for somebody, with some files beside what it sends. The id
/// must be new each time.
///
/// # Errors
/// If no agent speaks for the node, in words.
pub fn order(
    backups: &Backups,
    agents: &Agents,
    fleet: &Fleet,
    whom: &Whom,
    (id, by): (String, String),
    beside: Vec<Beside>,
) -> Result<Ordered, String> {
    let (cluster, node) = whom;
    let generation = fleet.agent_of(cluster, node).ok_or_else(|| {
        format!("no agent has enrolled as {node}: `rehull agent token {cluster} {node}`")
    })?;
    let id = format!("backup/{id}");
    let (bytes, outcome) = backups.expect(&id, whom.clone(), by, beside);
    let order = to_agent::Order::BackUp(BackUp { id: id.clone() });
    let order = addressed(fleet.epoch, generation, order);
    let (agents, whom) = (agents.clone(), whom.clone());
    let expected = Expected(backups.clone(), id);
    let outcome = Box::pin(async move {
        let answer = agents.ask(&whom, order, BACKUP_MAX).await;
        drop(expected); // if it has not come by now, it does not
        let node = &whom.1;
        match (answer, outcome.await) {
            (_, Ok(Ok(taken))) => Ok(taken),
            // Either may know why, and the other one only that it was cut off.
            (Ok(Answer::Done(done)), Ok(Err(why))) if !done.seen.contains(&why) => {
                Err(format!("{node}: {}; the coordinator says: {why}", done.seen))
            }
            (Ok(Answer::Done(done)), _) => Err(format!("{node}: {}", done.seen)),
            (_, Ok(Err(why))) => Err(format!("{node}: {why}")),
            (Err(silence), _) => Err(format!("{node}: {silence}")),
            (Ok(Answer::Report(_)), _) => {
                Err(format!("{node}: its agent answered another question"))
            }
        }
    });
    Ok(Ordered { bytes, outcome })
}
