//! The last events of each cluster, kept in memory for operators: the log itself holds them all.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use rehull_shared::ids::ClusterName;

use crate::domain::event::Recorded;

/// Events kept for each cluster.
const KEPT: usize = 512;

/// One event with its number.
pub type Numbered = (u64, Arc<Recorded>);

type ByCluster = BTreeMap<Option<ClusterName>, VecDeque<Numbered>>;

/// The last events; cheap to clone, all clones are one.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Arc<Mutex<ByCluster>>,
}

impl History {
    /// Takes an event in that is on disk.
    pub fn add(&self, seq: u64, recorded: Recorded) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let of_cluster = events.entry(recorded.cluster.clone()).or_default();
        if of_cluster.len() == KEPT {
            of_cluster.pop_front();
        }
        of_cluster.push_back((seq, Arc::new(recorded)));
    }

    /// The last events of a cluster, oldest first.
    pub fn of(&self, cluster: &ClusterName) -> Vec<Numbered> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.get(&Some(cluster.clone())).into_iter().flatten().cloned().collect()
    }
}
