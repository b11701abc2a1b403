//! What API servers say about a node that leaves.

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node as NodeObject, Pod},
    storage::v1::VolumeAttachment,
};
use rehull_shared::{
    evidence::Verdict,
    ids::NodeName,
    time::{Span, Timestamp},
};

use super::{
    super::{api::few, metadata::is_cordoned},
    cluster::is_ready,
};
use crate::{domain::approval::Item, pods};

/// The Node object that must be there.
pub(super) fn present<'a>(
    node: Option<&'a NodeObject>,
    name: &NodeName,
) -> Result<&'a NodeObject, Verdict> {
    node.ok_or_else(|| Verdict::fail(format!("Node {name} does not exist")))
}

/// There is no such Node: the API server itself says so.
pub(super) fn absent(node: Option<&NodeObject>, name: &NodeName) -> Verdict {
    match node {
        None => Verdict::pass(format!("there is no Node {name} (404)")),
        Some(node) => {
            let ready = if is_ready(node) { "Ready" } else { "not Ready" };
            Verdict::fail(format!("Node {name} exists (uid {}, {ready})", uid(node)))
        }
    }
}

/// The very node that was recorded is cordoned.
pub(super) fn cordoned(node: &NodeObject, name: &NodeName, recorded: &str) -> Verdict {
    if uid(node) != recorded {
        let uid = uid(node);
        return Verdict::fail(format!("Node {name} is a new one: uid {uid}, not {recorded}"));
    }
    match is_cordoned(node) {
        true => Verdict::pass(format!("Node {name} is cordoned")),
        false => Verdict::fail(format!("Node {name} takes new pods")),
    }
}

/// Nothing that must move is left on the node.
pub(super) fn drained(on_node: &[Pod], open: impl Fn(&Pod) -> Option<Item>) -> Verdict {
    let left = on_node.iter().filter(|pod| pods::is_movable(pod));
    let mut left: Vec<(Option<Item>, &Pod)> = left.map(|pod| (open(pod), pod)).collect();
    // Those that wait for a person are told first.
    left.sort_by_key(|(open, _)| open.is_none());
    match left.is_empty() {
        true => Verdict::pass("only pods of DaemonSets and static pods are left"),
        false => {
            let words = |(open, pod): &(Option<Item>, &Pod)| {
                open.as_ref().map_or_else(|| pods::name(pod), Item::words)
            };
            Verdict::fail(format!("pods are left: {}", few(left.iter().map(words))))
        }
    }
}

/// No volume is attached to the node.
pub(super) fn volumes_detached(all: &[VolumeAttachment], name: &NodeName) -> Verdict {
    let mine = all.iter().filter(|one| one.spec.node_name == name.as_str());
    let names: Vec<&str> = mine
        .map(|one| {
            let volume = one.spec.source.persistent_volume_name.as_deref();
            volume.or(one.metadata.name.as_deref()).unwrap_or_default()
        })
        .collect();
    match names.is_empty() {
        true => Verdict::pass(format!("no VolumeAttachment names {name}")),
        false => Verdict::fail(format!("volumes are attached to {name}: {}", few(names))),
    }
}

/// The kubelet no longer renews its lease: it is gone, or it is older than the window by our clock
/// and the same as when it was last looked at. The second look makes the clock of the kubelet
/// irrelevant: one that runs behind writes old times, but it writes new ones all the time.
/// `last` is how the same server confirmed this check before; every break begins the window anew.
pub(super) fn lease_stopped(
    lease: Option<&Lease>,
    name: &str,
    window: Span,
    now: Timestamp,
    last: Option<&str>,
) -> Verdict {
    let Some(lease) = lease else { return Verdict::pass(format!("{name} has no lease (404)")) };
    let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
    let Some(renewed) = renewed.map(|time| time.0) else {
        return Verdict::unknown(format!("the lease of {name} does not say when it was renewed"));
    };
    let age = now.since(Timestamp::from_millis(renewed.as_millisecond()));
    let words = format!("the lease of {name} was renewed at {renewed}");
    if last.is_some_and(|last| !last.contains(&words)) {
        Verdict::fail(format!("{words}, after the last look"))
    } else if age < window {
        Verdict::fail(format!("{words}, {age} ago"))
    } else {
        Verdict::pass(format!("{words}, and no more"))
    }
}

/// No pod is bound to the node, finished ones included.
pub(super) fn no_pods(on_node: &[Pod], name: &NodeName) -> Verdict {
    match on_node.is_empty() {
        true => Verdict::pass(format!("no pod is bound to {name}")),
        false => {
            let names = few(on_node.iter().map(pods::name));
            Verdict::fail(format!("pods are bound to {name}: {names}"))
        }
    }
}

/// The UID of a Node; empty if it has none.
pub(super) fn uid(node: &NodeObject) -> &str {
    node.metadata.uid.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        effects::testing::{NOW, from, node_object, pod, says, worker1},
        items,
    };

    #[test]
    fn an_absence_is_said_by_the_server_and_a_presence_is_described() {
        says(&absent(None, &worker1()), "pass", "there is no Node worker1 (404)");
        let node = node_object("worker1");
        says(&absent(Some(&node), &worker1()), "fail", "exists (uid uid-worker1, Ready)");
        says(&present(None, &worker1()).unwrap_err(), "fail", "Node worker1 does not exist");
    }

    #[test]
    fn only_the_recorded_node_counts_as_cordoned() {
        let mut node = node_object("worker1");
        says(&cordoned(&node, &worker1(), "uid-worker1"), "fail", "takes new pods");
        node.spec = from(json!({"unschedulable": true}));
        says(&cordoned(&node, &worker1(), "uid-worker1"), "pass", "is cordoned");
        says(&cordoned(&node, &worker1(), "uid-0"), "fail", "is a new one");
    }

    #[test]
    fn a_node_is_drained_when_nothing_movable_is_left() {
        let daemon = pod("proxy-1", "worker1", "DaemonSet");
        let web = pod("web-1", "worker1", "ReplicaSet");
        let says_of = |pods: &[Pod], word, part| says(&drained(pods, items::of_bare), word, part);
        says_of(std::slice::from_ref(&daemon), "pass", "only pods of DaemonSets");
        says_of(&[daemon.clone(), web.clone()], "fail", "pods are left: default/web-1");
        let lone = pod("lone", "worker1", "");
        let words = items::of_bare(&lone).unwrap().words();
        let words = format!("pods are left: {words}, default/web-1");
        says_of(&[web, lone], "fail", &words);
        says(&no_pods(&[daemon], &worker1()), "fail", "default/proxy-1");
        says(&no_pods(&[], &worker1()), "pass", "no pod is bound to worker1");
    }

    #[test]
    fn attached_volumes_are_named() {
        let attached = |node: &str| -> VolumeAttachment {
            from(json!({"metadata": {"name": "csi-1"}, "spec": {"attacher": "csi",
                "nodeName": node, "source": {"persistentVolumeName": "pv-7"}}}))
        };
        says(&volumes_detached(&[attached("worker2")], &worker1()), "pass", "no VolumeAttachment");
        says(&volumes_detached(&[attached("worker1")], &worker1()), "fail", "pv-7");
    }

    #[test]
    fn a_lease_has_stopped_when_it_is_old_and_stands_still() {
        let renewed =
            |time: &str| -> Lease { from(json!({"metadata": {}, "spec": {"renewTime": time}})) };
        let judge = |lease: Option<&Lease>, last: Option<&str>| {
            lease_stopped(lease, worker1().as_str(), Span::from_secs(60), NOW, last)
        };
        says(&judge(None, None), "pass", "has no lease (404)");
        let fresh = renewed("2023-11-14T22:13:10.000000Z");
        says(&judge(Some(&fresh), None), "fail", "10s ago");
        let old = renewed("2023-11-14T22:12:00.000000Z");
        let first = judge(Some(&old), None);
        says(&first, "pass", "and no more");
        says(&judge(Some(&old), Some(first.seen())), "pass", "and no more");
        // A kubelet whose clock is behind: its lease always looks old, but it moves.
        let moved = renewed("2023-11-14T22:12:10.000000Z");
        says(&judge(Some(&moved), Some(first.seen())), "fail", "after the last look");
        // It was gone, and is back.
        says(&judge(Some(&old), Some("worker1 has no lease (404)")), "fail", "after the last");
        let ahead = renewed("2023-11-14T23:00:00.000000Z");
        says(&judge(Some(&ahead), None), "fail", "0s ago");
        says(&judge(Some(&from(json!({"metadata": {}}))), None), "unknown", "does not say");
    }
}
