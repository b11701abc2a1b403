//! What is told of an event, if people want to know of it.

use rehull_shared::ids::NodeName;
use serde::Serialize;

use crate::{
    domain::{
        event::{Event, Recorded},
        state::Subject,
    },
    projection::sentence,
};

/// One notification, the same at every try.
pub(super) struct Message {
    id: String,
    body: Vec<u8>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    sequence: u64,
    cluster: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    words: String,
    command: String,
}

impl Message {
    /// The notification of an event; `None` if it is none that people are told of.
    ///
    /// The id is that of the event: its number, its time (a log that was restored from a backup
    /// gives numbers again) and the coordinator.
    pub(super) fn of(coordinator: &str, sequence: u64, recorded: &Recorded) -> Option<Self> {
        let kind = kind(&recorded.event)?;
        let cluster = recorded.cluster.as_ref()?.as_str();
        let node = recorded.event.node().map(NodeName::as_str);
        let command = match node {
            Some(node) => format!("rehull explain {cluster} {node}"),
            None => format!("rehull explain {cluster}"),
        };
        let words = sentence(recorded);
        let data = Data { sequence, cluster, node, words, command };
        let body = Body { r#type: kind, timestamp: recorded.at.to_string(), data };
        let body = serde_json::to_vec(&body).expect("texts and a number can be written");
        Some(Self { id: format!("{sequence}-{}-{coordinator}", recorded.at.as_millis()), body })
    }

    /// The same for every delivery of the same event.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// JSON.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}

/// The type of a notification; never renamed.
fn kind(event: &Event) -> Option<&'static str> {
    match event {
        Event::Held { subject: Subject::Node(_), .. } => Some("node.held"),
        Event::Held { subject: Subject::Cluster, .. } => Some("migration.held"),
        Event::FragilityExceeded { page: false, .. } => Some("etcd.fragile"),
        Event::FragilityExceeded { page: true, .. } => Some("etcd.fragile.page"),
        Event::QuorumAtRisk { .. } => Some("etcd.at-risk.page"),
        Event::NodeFinished { .. } => Some("node.done"),
        Event::NodeAborted { .. } => Some("node.aborted"),
        Event::MigrationCompleted => Some("migration.done"),
        Event::MigrationAborted => Some("migration.aborted"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rehull_shared::{ids::Epoch, time::Timestamp};
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{gate::Blocker, state::Step};

    fn recorded(event: Event) -> Recorded {
        let (at, cluster) = (Timestamp::from_millis(1_700_000_000_123), "prod".parse().unwrap());
        Recorded { at, epoch: Epoch(4), cluster: Some(cluster), event }
    }

    #[test]
    fn what_people_want_to_know_is_told_with_the_command_that_says_more() {
        let node: NodeName = "worker1".parse().unwrap();
        let why = vec![Blocker::NotEnrolled { announced: false }];
        let subject = Subject::Node(node.clone());
        let held = Event::Held { subject, why: why.clone(), resume: Step::Reinstall };
        let message = Message::of("cafe", 7, &recorded(held.clone())).unwrap();
        assert_eq!(message.id(), "7-1700000000123-cafe");
        let body: Value = serde_json::from_slice(message.body()).unwrap();
        let words = sentence(&recorded(held));
        assert_eq!(
            body,
            json!({"type": "node.held", "timestamp": "2023-11-14T22:13:20.123Z", "data": {
                "sequence": 7, "cluster": "prod", "node": "worker1", "words": words,
                "command": "rehull explain prod worker1",
            }})
        );
        let held = Event::Held { subject: Subject::Cluster, why, resume: Step::Work };
        let at_risk = Event::QuorumAtRisk { node: node.clone(), why: "m3 is silent".into() };
        for (event, meant) in [
            (at_risk, Some("etcd.at-risk.page")),
            (held, Some("migration.held")),
            (Event::NodeFinished { node: node.clone() }, Some("node.done")),
            (Event::NodeAborted { node: node.clone() }, Some("node.aborted")),
            (Event::MigrationAborted, Some("migration.aborted")),
            (Event::MigrationCompleted, Some("migration.done")),
            (Event::NodeStarted { node }, None),
            (Event::LeadershipTaken, None),
        ] {
            let contract = include_str!("../../../deploy/webhook.md");
            assert!(meant.is_none_or(|kind| contract.contains(&format!("`{kind}`"))), "{meant:?}");
            let message = Message::of("cafe", 7, &recorded(event));
            let body = message.map(|message| serde_json::from_slice(message.body()).unwrap());
            let kind = body.map(|body: Value| body["type"].as_str().unwrap().to_owned());
            assert_eq!(kind.as_deref(), meant);
        }
    }
}
