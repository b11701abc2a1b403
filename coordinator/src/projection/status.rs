//! How far everything is: clusters, nodes and agents.

use rehull_proto::v1::{
    AgentStatus, ClusterStatus, EtcdResponse, ListAgentsResponse, NodeStatus, StatusResponse,
};
use rehull_shared::{
    ids::ClusterName,
    time::{Span, Timestamp},
};

use super::{View, states, time_of_day, waits::waits_for};
use crate::{
    domain::{
        fragility::Loudness,
        plan::Role,
        state::{Host, Migration, Node, Subject},
    },
    etcd::summary,
};

/// How old a look at etcd may be that is shown as it was: agents that are away are waited for.
const LOOK_MAX: Span = Span::from_secs(120);

/// The state of one cluster, or of all.
pub fn status(view: &View<'_>, cluster: Option<&ClusterName>) -> StatusResponse {
    let wanted = |name: &&ClusterName| cluster.is_none_or(|only| only == *name);
    let known = view.fleet.migrations.iter().filter(|(name, _)| wanted(name));
    StatusResponse {
        epoch: view.fleet.epoch.0,
        sequence: view.sequence,
        clusters: known.map(|(name, migration)| of_cluster(view, name, migration)).collect(),
    }
}

fn of_cluster(view: &View<'_>, name: &ClusterName, migration: &Migration) -> ClusterStatus {
    ClusterStatus {
        cluster: name.to_string(),
        migration: migration.id.to_string(),
        state: states::of_cluster(migration).to_owned(),
        source: migration.plan.source.to_string(),
        target: migration.plan.target.to_string(),
        started_at: migration.started_at.to_string(),
        started_by: migration.by.clone(),
        paused_by: migration.paused_by.clone().unwrap_or_default(),
        r#unsafe: migration.plan.unsafe_because.clone().unwrap_or_default(),
        nodes: migration.nodes.iter().map(|node| of_node(view, migration, node)).collect(),
        waits_for: waits_for(view, migration, &Subject::Cluster),
        unprotected_since: unprotected_since(migration),
        etcd: etcd(view, view.etcd.get(name), migration),
        api_servers: view.readiness.summary(migration),
    }
}

/// How the etcd is, if it was looked at lately, and for how long it has borne no loss.
fn etcd(
    view: &View<'_>,
    look: Option<&(Timestamp, EtcdResponse)>,
    migration: &Migration,
) -> String {
    let look = look.map(|(at, health)| match view.now.since(*at) > LOOK_MAX {
        true => format!("not looked at since {at}"),
        false => summary(health),
    });
    let policy = &migration.plan.policy;
    let fragile = migration.fragile().map(|(node, from)| {
        format!(
            "bears no loss since {} ({}), for {} is away; people are warned after {}, paged after {}",
            time_of_day(from),
            view.now.since(from),
            node.planned.name,
            policy.fragility_limit(Loudness::Warning),
            policy.fragility_limit(Loudness::Page)
        )
    });
    let so_far = migration.fragility(view.now);
    let over = (fragile.is_none() && !so_far.is_empty()).then(|| {
        let each = so_far.iter().map(|(node, span)| format!("{span} for {node}"));
        format!("bore no loss for {}", each.collect::<Vec<_>>().join(", "))
    });
    look.into_iter().chain(fragile).chain(over).collect::<Vec<_>>().join("; ")
}

/// Since when the deletion protection is off, or may be; empty if it is on, or if there is none.
pub(super) fn unprotected_since(migration: &Migration) -> String {
    migration.protection.off_since.map(|at| at.to_string()).unwrap_or_default()
}

fn of_node(view: &View<'_>, migration: &Migration, node: &Node) -> NodeStatus {
    let subject = Subject::Node(node.planned.name.clone());
    let cluster = &migration.plan.cluster;
    let deadline = view.fleet.deadline(cluster, &subject);
    NodeStatus {
        node: node.planned.name.to_string(),
        state: states::of_node(view.fleet, cluster, node).to_owned(),
        since: node.track.since.to_string(),
        attempt: node.attempt.0,
        waits_for: waits_for(view, migration, &subject),
        percent: states::percent(view.fleet, cluster, node),
        canary: migration.is_canary(node),
        deadline: deadline.map(|at| at.to_string()).unwrap_or_default(),
        first_control_plane: node.planned.role == Role::FirstControlPlane,
    }
}

/// The agents of one cluster, or of all.
pub fn agents(view: &View<'_>, cluster: Option<&ClusterName>) -> ListAgentsResponse {
    let wanted = |name: &ClusterName| cluster.is_none_or(|only| only == name);
    let hosts = view.fleet.hosts.iter().filter(|((name, _), _)| wanted(name));
    let agents = hosts.map(|(whom, host)| {
        let mut status = AgentStatus {
            cluster: whom.0.to_string(),
            node: whom.1.to_string(),
            generation: host.generation.0,
            revoked: host.revoked,
            os: os_of(host),
            ..AgentStatus::default()
        };
        if let Some(link) = view.connected.get(whom) {
            status.connected = true;
            status.version = link.version.clone();
            if let Some((at, beat)) = &link.beat {
                status.last_beat = at.to_string();
                status.pods = beat.pods.as_ref().map_or(0, |pods| pods.count);
                status.apiservers = u32::try_from(beat.apiservers.len()).unwrap_or(u32::MAX);
                status.kubelet_running = beat.kubelet_running;
                status.rss_kib = beat.agent_rss_kib;
                let name = beat.os.as_ref().map(|os| os.pretty_name.clone());
                status.os = name.filter(|name| !name.is_empty()).unwrap_or(status.os);
            }
        }
        status
    });
    ListAgentsResponse { agents: agents.collect() }
}

fn os_of(host: &Host) -> String {
    let os = host.identity.as_ref().map(|identity| &identity.os);
    os.map_or_else(String::new, |(id, version)| format!("{id} {version}"))
}
