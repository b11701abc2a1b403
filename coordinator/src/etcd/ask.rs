//! The etcd of a cluster, asked through the agents of its control planes.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use rehull_proto::v1::{Collect, EtcdResponse, Identity, to_agent};
use rehull_shared::{ids::ClusterName, time::Timestamp};

use super::{Heard, health};
use crate::{
    agents::{Agents, Answer, Connected, Whom, addressed},
    domain::state::{Fleet, Node},
};

/// How long an agent may take: a connection and four questions of 2 s at most, and a hash of 10 s.
const ANSWER_MAX: Duration = Duration::from_secs(25);

/// Agents that are asked: more control planes than that has nobody.
const ASKED_MAX: usize = 32;

/// How the etcd of a cluster is, its stores compared unless a control plane is on its way out or back:
/// then each read of a whole store may cost clients their requests, and the gates compare them in their
/// own time. `None` if nobody could be asked.
pub async fn ask(
    agents: &Agents,
    fleet: &Fleet,
    cluster: &ClusterName,
    now: Timestamp,
) -> Option<EtcdResponse> {
    let whom = all(agents, fleet, cluster);
    let heard = hear(agents, fleet, &whom, now).await;
    let migration = fleet.migrations.get(cluster);
    let moves = |node: &Node| node.planned.role.is_control_plane() && node.is_active();
    let heard = match migration.is_some_and(|it| it.nodes.iter().any(moves)) {
        true => heard,
        false => compare(agents, fleet, &whom, now, heard).await,
    };
    (!heard.is_empty()).then(|| health(cluster, &heard))
}

/// Whose members are asked: those that are to be there, where a migration knows them, and those on whose
/// hosts an API server runs.
pub(super) fn all(agents: &Agents, fleet: &Fleet, cluster: &ClusterName) -> Vec<Whom> {
    let migration = fleet.migrations.get(cluster);
    let planned = migration.into_iter().flat_map(|migration| migration.standing());
    let planned = planned.map(|one| (cluster.clone(), one.name.clone()));
    let connected = agents.connected();
    let found = connected
        .iter()
        .filter(|(whom, agent)| whom.0 == *cluster && may_be_control_plane(agent))
        .map(|(whom, _)| whom.clone());
    let whom: BTreeSet<Whom> = planned.chain(found).take(ASKED_MAX).collect();
    Vec::from_iter(whom)
}

/// Asks these control planes what they are and what their members of etcd say, side by side.
pub async fn hear(agents: &Agents, fleet: &Fleet, whom: &[Whom], now: Timestamp) -> Vec<Heard> {
    round(agents, fleet, whom, 0, now).await
}

/// Asks them once more, to compare the content of their stores at the last revision that all have: every
/// member must read all of its own for that.
pub async fn compare(
    agents: &Agents,
    fleet: &Fleet,
    whom: &[Whom],
    now: Timestamp,
    heard: Vec<Heard>,
) -> Vec<Heard> {
    let revisions = heard.iter().filter_map(|heard| Some(heard.said.as_ref().ok()?.revision));
    match revisions.min() {
        Some(revision) => round(agents, fleet, whom, revision, now).await,
        None => heard,
    }
}

/// An API server ran there at its last sign of life.
fn may_be_control_plane(agent: &Connected) -> bool {
    agent.beat.as_ref().is_none_or(|(_, beat)| !beat.apiservers.is_empty())
}

fn addresses(host: &Identity) -> Vec<String> {
    host.nics.iter().flat_map(|nic| nic.addresses.iter().cloned()).collect()
}

async fn round(
    agents: &Agents,
    fleet: &Fleet,
    whom: &[Whom],
    revision: i64,
    now: Timestamp,
) -> Vec<Heard> {
    let now = now.as_millis();
    let asked = whom.iter().map(async |whom| {
        let (cluster, node) = whom;
        let nonce = format!("etcd/{cluster}/{node}/{revision}/{now}");
        let collect = Collect {
            nonce,
            etcd: true,
            etcd_hash_revision: revision,
            control_plane: true,
            ..Collect::default()
        };
        let report = match fleet.agent_of(cluster, node) {
            None => Err("no agent speaks for it: none has enrolled, or it was revoked".to_owned()),
            Some(generation) => {
                let order = to_agent::Order::Collect(collect);
                let order = addressed(fleet.epoch, generation, order);
                match agents.ask(whom, order, ANSWER_MAX).await {
                    Ok(Answer::Report(report)) => Ok(report),
                    Ok(Answer::Done(done)) => Err(done.seen),
                    Err(silence) => Err(silence.to_string()),
                }
            }
        };
        let node = node.clone();
        match report {
            Err(why) => Heard {
                node,
                said: Err(why.clone()),
                control_plane: Err(why.clone()),
                certificates: Err(why.clone()),
                addresses: Err(why),
            },
            Ok(mut report) => {
                let (said, control_plane) = (report.etcd.take(), report.control_plane.take());
                let certificates = report.certificates.take();
                let gap = |part: &str| {
                    let mut gaps = report.unread.iter();
                    let gap = gaps.find(|gap| gap.part == part).map(|gap| gap.why.clone());
                    gap.unwrap_or_else(|| format!("its agent is too old to report its {part}"))
                };
                let said = said.ok_or_else(|| gap("etcd"));
                let known = |part: &str| !report.unread.iter().any(|gap| gap.part == part);
                let control_plane = control_plane
                    .filter(|_| known("control_plane"))
                    .ok_or_else(|| gap("control_plane"));
                let certificates = certificates
                    .filter(|_| known("certificates"))
                    .ok_or_else(|| gap("certificates"));
                let addresses = report.identity.as_ref().map(addresses);
                let addresses = addresses.ok_or_else(|| gap("identity"));
                Heard { node, said, control_plane, certificates, addresses }
            }
        }
    });
    join_all(asked).await
}
