//! What was last seen of each cluster's etcd: looked at again and again while a migration runs, for
//! people to see. In memory only, and proof of nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rehull_proto::v1::EtcdResponse;
use rehull_shared::{ids::ClusterName, time::Timestamp};

use super::ask::{Stores, ask};
use crate::{agents::Agents, effects::Clock, engine::Handle};

/// Between two looks.
const AGAIN: Duration = Duration::from_secs(20);

/// When each cluster's etcd was looked at last, and how it was.
pub type Looks = BTreeMap<ClusterName, (Timestamp, EtcdResponse)>;

/// The last looks; cheap to clone.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Looks>>);

impl Seen {
    /// All of them.
    pub fn all(&self) -> Looks {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
                looks.insert(cluster.clone(), (now, health));
            }
        }
        *seen.0.lock().unwrap_or_else(PoisonError::into_inner) = looks;
        tokio::time::sleep(AGAIN).await;
    }
}
