//! The etcd of a cluster, asked through the agents of its control planes.

use std::time::Duration;

use futures::future::join_all;
use rehull_proto::v1::{Collect, EtcdResponse, to_agent};
use rehull_shared::{ids::ClusterName, time::Timestamp};

use super::{Heard, health};
use crate::{
    agents::{Agents, Answer, Connected, Whom, addressed},
    domain::state::Fleet,
};

/// How long an agent may take: a connection and four questions of 2 s at most, and a hash of 10 s.
const ANSWER_MAX: Duration = Duration::from_secs(25);

/// Agents that are asked: more control planes than that has nobody.
const ASKED_MAX: usize = 32;

/// Whether the content of the stores is compared: every member must read all of its own for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stores {
    /// At the last revision that all have.
    Compared,
    /// Not this time.
    Left,
}

/// Asks every member through its agent, and once more to compare the stores. `None` if no agent on a
/// control plane is connected.
pub async fn ask(
    agents: &Agents,
    fleet: &Fleet,
    cluster: &ClusterName,
    now: Timestamp,
    stores: Stores,
) -> Option<EtcdResponse> {
    let connected = agents.connected();
    let whom: Vec<&Whom> = connected
        .iter()
        .filter(|((of, _), agent)| of == cluster && may_be_control_plane(agent))
        .map(|(whom, _)| whom)
        .take(ASKED_MAX)
        .collect();
    if whom.is_empty() {
        return None;
    }
    let first = round(agents, fleet, &whom, 0, now).await;
    let revisions = first.iter().filter_map(|heard| Some(heard.said.as_ref().ok()?.revision));
    let heard = match revisions.min().filter(|_| stores == Stores::Compared) {
        Some(revision) => round(agents, fleet, &whom, revision, now).await,
        None => first,
    };
    Some(health(cluster, &heard))
}

/// An API server ran there at its last sign of life.
fn may_be_control_plane(agent: &Connected) -> bool {
    agent.beat.as_ref().is_none_or(|(_, beat)| !beat.apiservers.is_empty())
}

async fn round(
    agents: &Agents,
    fleet: &Fleet,
    whom: &[&Whom],
    revision: i64,
    now: Timestamp,
) -> Vec<Heard> {
    let now = now.as_millis();
    let asked = whom.iter().map(async |whom| {
        let (cluster, node) = whom;
        let nonce = format!("etcd/{cluster}/{node}/{revision}/{now}");
        let collect =
            Collect { nonce, etcd: true, etcd_hash_revision: revision, ..Collect::default() };
        let said = match fleet.agent_of(cluster, node) {
            None => Err("its agent was revoked".to_owned()),
            Some(generation) => {
                let order = to_agent::Order::Collect(collect);
                let order = addressed(fleet.epoch, generation, order);
                let answer = agents.ask(whom, order, ANSWER_MAX).await;
                match answer {
                    Ok(Answer::Report(mut report)) => report.etcd.take().ok_or_else(|| {
                        let mut gaps = report.unread.into_iter();
                        let gap = gaps.find(|gap| gap.part == "etcd").map(|gap| gap.why);
                        gap.unwrap_or_else(|| "its agent is too old to ask etcd".to_owned())
                    }),
                    Ok(Answer::Done(done)) => Err(done.seen),
                    Err(silence) => Err(silence.to_string()),
                }
            }
        };
        Heard { node: node.clone(), said }
    });
    join_all(asked).await
}
