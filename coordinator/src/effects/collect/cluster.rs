//! What API servers say about the whole cluster.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment},
        coordination::v1::Lease,
        core::v1::{Node as NodeObject, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use rehull_shared::{
    evidence::Verdict,
    ids::NodeName,
    time::{Span, Timestamp},
};

use super::{
    super::{api::few, metadata::is_cordoned},
    server::SYSTEM,
};
use crate::{
    domain::state::{Migration, Phase},
    pods,
};

/// How long a pod that has a node may take to start: images are pulled in that time (F20).
const PENDING_MAX: Span = Span::from_mins(5);

/// A pod that does not run yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    name: String,
    has_node: bool,
    since: Option<Timestamp>,
}

/// What is kept of a pending pod.
pub(super) fn pending(pod: Pod) -> Option<Pending> {
    let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let since = pod.metadata.creation_timestamp.as_ref().map(timestamp);
    Some(Pending { name: pods::name(&pod), has_node, since })
}

/// A time of the API as ours.
pub(super) fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_millis(time.0.as_millisecond())
}

/// Whether a node says that it is Ready.
pub(super) fn is_ready(node: &NodeObject) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Every planned node that is not out is there, and everything that is there and not out is Ready.
pub(super) fn nodes_ready(nodes: &[NodeObject], migration: &Migration) -> Verdict {
    let absent = absent(migration);
    let there: BTreeSet<&str> = nodes.iter().map(name).collect();
    let planned = migration.nodes.iter().map(|node| node.planned.name.as_str());
    let missing = planned
        .filter(|planned| !absent.contains(planned) && !there.contains(planned))
        .map(|name| format!("{name} does not exist"));
    let expected = || nodes.iter().filter(|node| !absent.contains(name(node)));
    let down = expected()
        .filter(|node| !is_ready(node))
        .map(|node| format!("{} is not Ready", name(node)));
    let wrong: Vec<String> = missing.chain(down).collect();
    match wrong.is_empty() {
        true => Verdict::pass(format!("{} nodes are Ready", expected().count())),
        false => Verdict::fail(few(wrong)),
    }
}

/// Kubelets renew their leases, as this API server shows them: of every node that it shows Ready and
/// that is not out there is a lease of the last two windows. Where the leases stand still its answers
/// are stale (it has lost its etcd, or is a copy), or nobody takes notice of kubelets that die.
pub(super) fn answers_fresh(
    nodes: &[NodeObject],
    leases: &[Lease],
    migration: &Migration,
    now: Timestamp,
) -> Verdict {
    let absent = absent(migration);
    let expected = nodes.iter().filter(|node| is_ready(node) && !absent.contains(name(node)));
    let limit = migration.plan.policy.lease_window.times(2);
    let renewed: BTreeMap<&str, Timestamp> = leases
        .iter()
        .filter_map(|lease| {
            let renewed = lease.spec.as_ref()?.renew_time.as_ref()?;
            let at = Timestamp::from_millis(renewed.0.as_millisecond());
            Some((lease.metadata.name.as_deref()?, at))
        })
        .collect();
    let stale = expected.clone().filter_map(|node| match renewed.get(name(node)) {
        Some(at) if now.since(*at) <= limit => None,
        Some(at) => Some(format!("that of {} at {at}", name(node))),
        None => Some(format!("that of {} never", name(node))),
    });
    let stale: Vec<String> = stale.collect();
    match stale.is_empty() {
        true => Verdict::pass(format!("{} kubelets renew their leases", expected.count())),
        false => Verdict::fail(format!("leases of Ready nodes were last renewed: {}", few(stale))),
    }
}

/// Every node that is not out runs the recorded kubelet version.
pub(super) fn kubelet_versions(nodes: &[NodeObject], migration: &Migration) -> Verdict {
    let absent = absent(migration);
    let wanted = &migration.plan.kubernetes_version;
    let expected = nodes.iter().filter(|node| !absent.contains(name(node)));
    let other: Vec<String> = expected
        .map(|node| (name(node), kubelet_version(node)))
        .filter(|(_, version)| version != wanted)
        .map(|(name, version)| format!("{name} runs {version:?}"))
        .collect();
    match other.is_empty() {
        true => Verdict::pass(format!("every kubelet is {wanted}")),
        false => Verdict::fail(format!("the plan says {wanted}, but {}", few(other))),
    }
}

/// The version of a node's kubelet; empty if it has not said.
pub(super) fn kubelet_version(node: &NodeObject) -> &str {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.map(|info| info.kubelet_version.as_str()).unwrap_or_default()
}

/// The OS that a node shows; empty if it has not said.
pub(super) fn os_image(node: &NodeObject) -> &str {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.map(|info| info.os_image.as_str()).unwrap_or_default()
}

/// The workloads of the system have all the pods that they want. DaemonSets want one on each node
/// that exists, so a node that is out does not count against them.
pub(super) fn system_pods(daemon_sets: &[DaemonSet], deployments: &[Deployment]) -> Verdict {
    let system = |namespace: &Option<String>| namespace.as_deref() == Some(SYSTEM);
    let daemons = daemon_sets.iter().filter(|set| system(&set.metadata.namespace));
    let short_of = |name: &Option<String>, ready: i32, wanted: i32| {
        let name = name.as_deref().unwrap_or_default();
        (ready < wanted).then(|| format!("{name} has {ready} of {wanted} pods"))
    };
    let short_daemons = daemons.clone().filter_map(|set| {
        let status = set.status.clone().unwrap_or_default();
        let ready = status.number_ready.min(status.number_available.unwrap_or(0));
        short_of(&set.metadata.name, ready, status.desired_number_scheduled)
    });
    let short_deployments = deployments.iter().filter_map(|deployment| {
        let wanted = deployment.spec.replicas.unwrap_or(1);
        let status = deployment.status.as_ref();
        let ready = status.and_then(|status| status.available_replicas).unwrap_or(0);
        short_of(&deployment.metadata.name, ready, wanted)
    });
    let short: Vec<String> = short_daemons.chain(short_deployments).collect();
    match short.is_empty() {
        true => Verdict::pass(format!(
            "{} DaemonSets and {} Deployments of {SYSTEM} are complete",
            daemons.count(),
            deployments.len()
        )),
        false => Verdict::fail(few(short)),
    }
}

/// No pod that ran before waits now: without a node at all, or on one for too long.
pub(super) fn no_new_pending(
    pending: &[Pending],
    baseline: &BTreeSet<String>,
    now: Timestamp,
) -> Verdict {
    let late = |pod: &&Pending| pod.since.is_none_or(|since| since + PENDING_MAX < now);
    let waits: Vec<String> = pending
        .iter()
        .filter(|pod| !baseline.contains(&pod.name))
        .filter(|pod| !pod.has_node || late(pod))
        .map(|pod| match pod.has_node {
            false => format!("{} has no node", pod.name),
            true => format!("{} has not started within {PENDING_MAX}", pod.name),
        })
        .collect();
    match waits.is_empty() {
        true => Verdict::pass("no pod waits that ran before"),
        false => Verdict::fail(few(waits)),
    }
}

/// Every planned node is there with the target OS.
pub(super) fn nodes_on_target(nodes: &[NodeObject], migration: &Migration) -> Verdict {
    // Whoever was given up is no longer planned.
    let planned = migration.nodes.iter().filter(|node| node.track.phase != Phase::Aborted);
    on_target(planned.map(|node| &node.planned.name), nodes, migration)
}

/// Every control plane but this one is there with the target OS, whichever migration has brought it: this
/// one is the last that knows the old order.
pub(super) fn others_done(nodes: &[NodeObject], own: &NodeName, migration: &Migration) -> Verdict {
    let others = migration.plan.control_planes.iter().map(|one| &one.name);
    on_target(others.filter(|name| *name != own), nodes, migration)
}

fn on_target<'a>(
    names: impl Iterator<Item = &'a NodeName> + Clone,
    nodes: &[NodeObject],
    migration: &Migration,
) -> Verdict {
    let target = migration.plan.target.profile().os_image;
    let other = names.clone().filter_map(|wanted| {
        match nodes.iter().find(|node| name(node) == wanted.as_str()).map(os_image) {
            None => Some(format!("{wanted} does not exist")),
            Some(os) if os.starts_with(target) => None,
            Some(os) => Some(format!("{wanted} runs {os:?}")),
        }
    });
    let other: Vec<String> = other.collect();
    match other.is_empty() {
        true => Verdict::pass(format!("{} nodes run {target}", names.count())),
        false => Verdict::fail(few(other)),
    }
}

/// No other node is cordoned that was not before: an upgrade cordons each node that it works on, and one
/// that fails leaves it so.
pub(super) fn others_schedulable(
    nodes: &[NodeObject],
    own: &NodeName,
    before: &BTreeSet<String>,
) -> Verdict {
    let others = || nodes.iter().filter(|node| name(node) != own.as_str());
    let cordoned = others().filter(|node| is_cordoned(node) && !before.contains(name(node)));
    let cordoned: Vec<String> = cordoned.map(|node| name(node).to_owned()).collect();
    match cordoned.is_empty() {
        true => Verdict::pass(format!("none of {} other nodes was cordoned", others().count())),
        false => Verdict::fail(format!("cordoned, and were not before: {}", few(cordoned))),
    }
}

fn name(node: &NodeObject) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

fn absent(migration: &Migration) -> BTreeSet<&str> {
    // The kubelet of a control plane asks the API server of its own host.
    let out = migration.nodes.iter().filter(|node| node.is_absent() || node.is_apart());
    out.map(|node| node.planned.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        domain::{gate::Gate, plan::ControlPlane},
        effects::testing::{NOW, from, migration, node_object, out, says},
    };

    fn nodes() -> Vec<NodeObject> {
        ["control1", "worker1", "worker2"].map(node_object).into()
    }

    #[test]
    fn nodes_are_ready_but_for_those_that_are_out() {
        let mut plan = migration();
        let mut all = nodes();
        says(&nodes_ready(&all, &plan), "pass", "3 nodes are Ready");
        all[1].status = None;
        all.pop();
        let verdict = nodes_ready(&all, &plan);
        says(&verdict, "fail", "worker2 does not exist, worker1 is not Ready");
        out(&mut plan.nodes[0], Gate::Removal);
        out(&mut plan.nodes[1], Gate::Join);
        says(&nodes_ready(&all, &plan), "pass", "1 nodes are Ready");
        out(&mut plan.nodes[1], Gate::Soak); // it is back, so it counts again
        says(&nodes_ready(&all, &plan), "fail", "worker2 does not exist");
    }

    #[test]
    fn a_server_that_shows_no_lease_of_the_last_minutes_is_stale() {
        let mut plan = migration();
        let lease = |node: &str, time: &str| -> Lease {
            from(json!({"metadata": {"name": node}, "spec": {"renewTime": time}}))
        };
        let fresh = "2023-11-14T22:13:10.000000Z"; // ten seconds before the looks
        let mut leases: Vec<_> = ["control1", "worker1"].map(|node| lease(node, fresh)).into();
        let judge = |leases: &[Lease], plan: &Migration| answers_fresh(&nodes(), leases, plan, NOW);
        says(&judge(&leases, &plan), "fail", "last renewed: that of worker2 never");
        leases.push(lease("worker2", "2023-11-14T22:11:19.000000Z"));
        says(&judge(&leases, &plan), "fail", "that of worker2 at 2023-11-14T22:11:19.000Z");
        leases[2] = lease("worker2", "2023-11-14T22:11:20.000000Z");
        says(&judge(&leases, &plan), "pass", "3 kubelets renew");
        leases.pop();
        out(&mut plan.nodes[1], Gate::Join);
        says(&judge(&leases, &plan), "pass", "2 kubelets renew");
    }

    #[test]
    fn a_node_that_was_cordoned_meanwhile_is_named() {
        let mut all = nodes();
        let own = "worker1".parse().unwrap();
        let none = BTreeSet::new();
        for node in &mut all[1..] {
            node.spec.get_or_insert_default().unschedulable = Some(true);
        }
        says(&others_schedulable(&all, &own, &none), "fail", "not before: worker2");
        let before = BTreeSet::from(["worker2".to_owned()]);
        says(&others_schedulable(&all, &own, &before), "pass", "none of 2 other nodes");
        let own = "worker2".parse().unwrap();
        says(&others_schedulable(&all, &own, &before), "fail", "worker1");
    }

    #[test]
    fn one_other_kubelet_version_is_named() {
        let mut all = nodes();
        says(&kubelet_versions(&all, &migration()), "pass", "v1.27.5");
        let info = all[2].status.as_mut().unwrap().node_info.as_mut().unwrap();
        info.kubelet_version = "v1.28.0".into();
        says(&kubelet_versions(&all, &migration()), "fail", "worker2 runs \"v1.28.0\"");
        all[2].status = None;
        says(&kubelet_versions(&all, &migration()), "fail", "worker2 runs \"\"");
    }

    #[test]
    fn system_workloads_must_be_complete() {
        let daemons = |ready: i32| -> Vec<DaemonSet> {
            let status = json!({"desiredNumberScheduled": 3, "currentNumberScheduled": 3,
                "numberMisscheduled": 0, "numberReady": ready, "numberAvailable": ready});
            let set = |namespace| {
                json!({"metadata": {"name": "proxy", "namespace": namespace},
                "status": status})
            };
            vec![from(set("kube-system")), from(set("elsewhere"))]
        };
        let dns = |available: i32| -> Vec<Deployment> {
            vec![from(json!({"metadata": {"name": "dns"},
                "spec": {"replicas": 2, "selector": {}, "template": {}},
                "status": {"availableReplicas": available}}))]
        };
        says(&system_pods(&daemons(3), &dns(2)), "pass", "1 DaemonSets and 1 Deployments");
        says(&system_pods(&daemons(2), &dns(2)), "fail", "proxy has 2 of 3 pods");
        says(&system_pods(&daemons(3), &dns(0)), "fail", "dns has 0 of 2 pods");
    }

    #[test]
    fn new_pending_pods_are_named_and_old_ones_forgiven() {
        let waits = |name: &str, node: Option<&str>, created: &str| {
            pending(from(json!({
                "metadata": {"name": name, "namespace": "default", "creationTimestamp": created},
                "spec": {"nodeName": node, "containers": []},
            })))
            .unwrap()
        };
        let baseline = BTreeSet::from(["default/old".to_owned()]);
        let judge = |pod| no_new_pending(&[pod], &baseline, NOW);
        says(&judge(waits("old", None, "2023-11-14T10:00:00Z")), "pass", "no pod waits");
        says(&judge(waits("a", Some("n"), "2023-11-14T22:10:00Z")), "pass", "no pod waits");
        says(&judge(waits("a", Some("n"), "2023-11-14T22:08:00Z")), "fail", "default/a has not");
        says(&judge(waits("a", None, "2023-11-14T22:13:19Z")), "fail", "default/a has no node");
    }

    #[test]
    fn the_end_is_reached_when_every_planned_node_runs_the_target() {
        let mut all = nodes();
        says(&nodes_on_target(&all, &migration()), "fail", "worker1 runs \"CentOS Linux 7");
        for node in &mut all[1..] {
            let info = node.status.as_mut().unwrap().node_info.as_mut().unwrap();
            info.os_image = "Ubuntu 22.04.5 LTS".into();
        }
        says(&nodes_on_target(&all, &migration()), "pass", "2 nodes run Ubuntu 22.04");
        all.pop();
        let mut plan = migration();
        says(&nodes_on_target(&all, &plan), "fail", "worker2 does not exist");
        plan.nodes[1].track.phase = Phase::Aborted;
        says(&nodes_on_target(&all, &plan), "pass", "1 nodes run Ubuntu 22.04");
    }

    #[test]
    fn the_first_control_plane_waits_for_the_others_whichever_migration_has_brought_them() {
        let mut all = nodes();
        let mut plan = migration();
        let planes = ["m1", "worker1", "worker2"].map(|name| ControlPlane {
            name: name.parse().unwrap(),
            address: String::new(),
            api_server: String::new(),
        });
        plan.plan.control_planes = planes.into();
        let judge = |all: &[NodeObject]| others_done(all, &"m1".parse().unwrap(), &plan);
        says(&judge(&all), "fail", "worker1 runs \"CentOS Linux 7");
        for node in &mut all {
            let info = node.status.as_mut().unwrap().node_info.as_mut().unwrap();
            info.os_image = "Ubuntu 22.04.5 LTS".into();
        }
        says(&judge(&all), "pass", "2 nodes run Ubuntu 22.04");
        all.pop();
        says(&judge(&all), "fail", "worker2 does not exist");
    }
}
