//! What clients of a rehearsed cluster may notice: workloads of which no pod was Ready for a while.

use std::collections::BTreeMap;

use rehull_shared::time::{Span, Timestamp};
use serde_json::Value;

use super::{
    api::store::Store,
    workloads::{key, text},
};

/// A workload: kind, namespace, name.
pub(super) type Workload = (String, String, String);

/// Workloads, and for how long they were away.
#[derive(Default)]
pub(super) struct Watch {
    /// Whether each has been seen to serve, and since when it does not.
    seen: BTreeMap<Workload, Option<Timestamp>>,
    away: BTreeMap<Workload, Span>,
}

impl Watch {
    /// Looks once.
    pub(super) fn look(&mut self, store: &Store, now: Timestamp) {
        for plural in ["deployments", "statefulsets", "replicasets"] {
            for set in store.list(plural) {
                let owned = set["metadata"]["ownerReferences"].as_array();
                if owned.is_some_and(|owners| !owners.is_empty()) {
                    continue; // its owner is looked at
                }
                let (namespace, name) = key(set);
                self.note((text(&set["kind"]), namespace, name), set, now);
            }
        }
    }

    fn note(&mut self, workload: Workload, set: &Value, now: Timestamp) {
        let ready = set["status"]["readyReplicas"].as_u64().unwrap_or(0) > 0;
        let known = self.seen.get(&workload).copied();
        match (known, ready) {
            (None | Some(None), true) => _ = self.seen.insert(workload, None),
            (Some(None), false) => _ = self.seen.insert(workload, Some(now)),
            (Some(Some(since)), true) => {
                let away = self.away.entry(workload.clone()).or_default();
                *away = *away + now.since(since);
                self.seen.insert(workload, None);
            }
            (None | Some(Some(_)), false) => (),
        }
    }

    /// What was away, for how long in all, and whether it still is.
    pub(super) fn away(&self, now: Timestamp) -> Vec<(Workload, Span, bool)> {
        let mut away = self.away.clone();
        for (workload, since) in &self.seen {
            if let Some(since) = since {
                let sum = away.entry(workload.clone()).or_default();
                *sum = *sum + now.since(*since);
            }
        }
        let still = |workload: &Workload| matches!(self.seen.get(workload), Some(Some(_)));
        away.into_iter()
            .map(|(workload, span)| {
                let still = still(&workload);
                (workload, span, still)
            })
            .collect()
    }
}
