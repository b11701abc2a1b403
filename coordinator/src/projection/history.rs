//! What has happened, in words: the whole log of a cluster, or the part of it that is asked for.

use std::collections::BTreeSet;

use rehull_proto::v1::HistoryEntry;
use rehull_shared::{
    evidence::Verdict,
    ids::{ClusterName, NodeName},
    time::Timestamp,
};

use super::sentences::sentence;
use crate::domain::event::{Event, Recorded};

/// Which part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Of this cluster.
    pub cluster: ClusterName,
    /// About this node; about anything if there is none.
    pub node: Option<NodeName>,
    /// From this moment on.
    pub since: Option<Timestamp>,
    /// Events of these names; all but those that only confirm if there are none.
    pub events: BTreeSet<String>,
}

impl Filter {
    /// An event as an entry, if it is asked for.
    pub fn entry(&self, sequence: u64, recorded: &Recorded) -> Option<HistoryEntry> {
        let Recorded { at, epoch, cluster, event } = recorded;
        let wanted = cluster.as_ref() == Some(&self.cluster)
            && self.node.as_ref().is_none_or(|node| event.node() == Some(node))
            && self.since.is_none_or(|since| *at >= since)
            && match self.events.is_empty() {
                true => !is_noise(event),
                false => self.events.contains(event.name()),
            };
        wanted.then(|| HistoryEntry {
            sequence,
            at: at.to_string(),
            epoch: epoch.0,
            node: event.node().map(ToString::to_string).unwrap_or_default(),
            event: event.name().to_owned(),
            words: sentence(recorded),
        })
    }
}

/// Whether an event says nothing to a reader: pieces of archived operations, and confirmations.
pub(super) fn is_noise(event: &Event) -> bool {
    match event {
        Event::OperationCopied { .. } => true,
        Event::EvidenceRecorded { evidence, .. } => matches!(evidence.verdict, Verdict::Pass(_)),
        _ => false,
    }
}
