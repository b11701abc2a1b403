//! What API servers say about a node that is back.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    certificates::v1::CertificateSigningRequest,
    core::v1::{Node as NodeObject, Pod},
};
use rehull_proto::v1::Identity;
use rehull_shared::{evidence::Verdict, ids::NodeName};

use super::{
    super::{
        api::few,
        metadata::{self, is_cordoned},
    },
    cluster::{is_ready, kubelet_version, os_image, timestamp},
    node::uid,
};
use crate::pods;

/// The Node is not the one that was recorded.
pub(super) fn is_new(node: &NodeObject, name: &NodeName, recorded: &str) -> Verdict {
    let made = node.metadata.creation_timestamp.as_ref().map(timestamp).unwrap_or_default();
    let words = format!("Node {name} was made at {made} (uid {})", uid(node));
    match uid(node) {
        "" => Verdict::unknown(format!("Node {name} has no uid")),
        same if same == recorded => Verdict::fail(format!("{words}: it is the old one")),
        _ => Verdict::pass(words),
    }
}

/// No pod on the node fails whose like did not fail before.
pub(super) fn no_failures(on_node: &[Pod], before: &BTreeSet<String>) -> Verdict {
    let new = on_node.iter().filter(|pod| !before.contains(&pods::origin(pod)));
    let failing: Vec<String> = new
        .filter_map(|pod| Some(format!("{} ({})", pods::name(pod), pods::failure(pod)?)))
        .collect();
    match failing.is_empty() {
        true => Verdict::pass("no pod on it fails that did not before"),
        false => Verdict::fail(format!("pods fail: {}", few(failing))),
    }
}

/// The Node is cordoned, so that nothing is put on it that its labels and taints would keep away.
pub(super) fn held_back(node: &NodeObject, name: &NodeName) -> Verdict {
    match is_cordoned(node) {
        true => Verdict::pass(format!("Node {name} is cordoned")),
        false => Verdict::fail(format!("Node {name} takes pods before it is what it was")),
    }
}

/// The Node is Ready.
pub(super) fn ready(node: &NodeObject, name: &NodeName) -> Verdict {
    if is_ready(node) {
        return Verdict::pass(format!("Node {name} is Ready"));
    }
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|one| one.type_ == "Ready");
    let why = ready.and_then(|one| one.message.as_deref()).unwrap_or("it has never said it was");
    Verdict::fail(format!("Node {name} is not Ready: {why}"))
}

/// The Node shows the target OS.
pub(super) fn shows_os(node: &NodeObject, name: &NodeName, image: &str) -> Verdict {
    let os = os_image(node);
    Verdict::when(os.starts_with(image), format!("Node {name} shows {os:?}"))
}

/// The Node shows the kubelet version of the plan.
pub(super) fn version_kept(node: &NodeObject, name: &NodeName, wanted: &str) -> Verdict {
    let version = kubelet_version(node);
    let words = format!("Node {name} runs kubelet {version}; the plan says {wanted}");
    Verdict::when(version == wanted, words)
}

/// The addresses of a Node inside its cluster; none if it has not said.
pub(super) fn internal_addresses(node: &NodeObject) -> Vec<String> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    internal.map(|address| address.address.clone()).collect()
}

/// The Node has the address of the inventory.
pub(super) fn address_kept(node: &NodeObject, name: &NodeName, wanted: &str) -> Verdict {
    let internal = internal_addresses(node);
    let kept = internal.iter().any(|address| address == wanted);
    let words = format!("Node {name} has InternalIP {}; planned is {wanted}", internal.join(", "));
    Verdict::when(kept, words)
}

/// The kubelet and the agent run in the same boot of the same installation.
pub(super) fn is_host(node: &NodeObject, name: &NodeName, host: &Identity) -> Verdict {
    let Some(info) = node.status.as_ref().and_then(|status| status.node_info.as_ref()) else {
        return Verdict::unknown(format!("Node {name} does not say which machine it is"));
    };
    let same = |what: &str, node: &str, host: &str| {
        (node != host).then(|| format!("{what} of the Node is {node}, of the host {host}"))
    };
    let different: Vec<String> = [
        same("boot id", &info.boot_id, &host.boot_id),
        same("machine id", &info.machine_id, &host.machine_id),
    ]
    .into_iter()
    .flatten()
    .collect();
    match different.is_empty() {
        true => Verdict::pass(format!("Node {name} and its agent name the same boot and machine")),
        false => Verdict::fail(few(different)),
    }
}

/// Every pod of a DaemonSet on the node is Ready, and every DaemonSet that had a pod on the node
/// before (`before`, namespace/name) has one again. A set that chooses nodes by labels that the
/// node lacks so far is not expected yet, nor is one with node affinity, which is not evaluated.
pub(super) fn daemon_pods(
    node: &NodeObject,
    sets: &[DaemonSet],
    on_node: &[Pod],
    before: &BTreeSet<String>,
) -> Verdict {
    let daemons: Vec<(String, &Pod)> = on_node
        .iter()
        .filter(|pod| !pods::is_finished(pod))
        .filter_map(|pod| Some((pods::daemon_set(pod)?, pod)))
        .collect();
    let down = daemons
        .iter()
        .filter(|(_, pod)| !pods::is_ready(pod))
        .map(|(_, pod)| format!("{} is not Ready", pods::name(pod)));
    let missing = sets
        .iter()
        .filter(|set| chooses(set, node))
        .map(|set| {
            let (namespace, name) = (&set.metadata.namespace, &set.metadata.name);
            pods::full_name(namespace.as_deref(), name.as_deref())
        })
        .filter(|set| before.contains(set) && !daemons.iter().any(|(owner, _)| owner == set))
        .map(|set| format!("{set} has no pod here"));
    let wrong: Vec<String> = down.chain(missing).collect();
    match wrong.is_empty() {
        true => Verdict::pass(format!("{} pods of DaemonSets are Ready", daemons.len())),
        false => Verdict::fail(few(wrong)),
    }
}

/// No certificate request of the kubelet waits for an approval.
pub(super) fn no_requests(all: &[CertificateSigningRequest], name: &NodeName) -> Verdict {
    let user = format!("system:node:{name}");
    let undecided = |one: &&CertificateSigningRequest| {
        let status = one.status.as_ref();
        status.is_none_or(|status| status.conditions.as_ref().is_none_or(Vec::is_empty))
    };
    let waiting: Vec<&str> = all
        .iter()
        .filter(|one| one.spec.username.as_deref() == Some(&user))
        .filter(undecided)
        .map(|one| one.metadata.name.as_deref().unwrap_or_default())
        .collect();
    match waiting.is_empty() {
        true => Verdict::pass(format!("no certificate request of {name} is pending")),
        false => Verdict::fail(format!("certificate requests are pending: {}", few(waiting))),
    }
}

/// The Node carries what it carried before.
pub(super) fn restored(node: &NodeObject, name: &NodeName, before: &NodeObject) -> Verdict {
    let missing = metadata::missing(before, node).names();
    match missing.is_empty() {
        true => Verdict::pass(format!("Node {name} carries all that it carried before")),
        false => Verdict::fail(format!("Node {name} lacks {}", few(missing))),
    }
}

/// The Node is schedulable exactly if it was.
pub(super) fn schedulable(node: &NodeObject, name: &NodeName, was_cordoned: bool) -> Verdict {
    let word = |cordoned| if cordoned { "cordoned" } else { "schedulable" };
    let (is, was) = (word(is_cordoned(node)), word(was_cordoned));
    Verdict::when(is == was, format!("Node {name} is {is}; it was {was} before"))
}

fn chooses(set: &DaemonSet, node: &NodeObject) -> bool {
    let Some(template) = set.spec.template.spec.as_ref() else {
        return false;
    };
    let affinity = template.affinity.as_ref().and_then(|all| all.node_affinity.as_ref());
    let labels = node.metadata.labels.as_ref();
    let mut wanted = template.node_selector.iter().flatten();
    affinity.is_none()
        && wanted.all(|(key, value)| labels.and_then(|all| all.get(key)) == Some(value))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::effects::testing::{from, node_object, pod, says, worker1};

    #[test]
    fn the_old_node_is_not_taken_for_a_new_one() {
        let mut node = node_object("worker1");
        says(&is_new(&node, &worker1(), "uid-0"), "pass", "made at 2023-11-14T22:00:00.000Z");
        says(&is_new(&node, &worker1(), "uid-worker1"), "fail", "it is the old one");
        node.metadata.uid = None;
        says(&is_new(&node, &worker1(), "uid-0"), "unknown", "has no uid");
    }

    #[test]
    fn readiness_comes_with_its_reason() {
        let mut node = node_object("worker1");
        says(&ready(&node, &worker1()), "pass", "is Ready");
        let condition = json!([{"type": "Ready", "status": "False", "message": "no CNI"}]);
        node.status.as_mut().unwrap().conditions = from(condition);
        says(&ready(&node, &worker1()), "fail", "no CNI");
        node.status = None;
        says(&ready(&node, &worker1()), "fail", "it has never said it was");
    }

    #[test]
    fn os_version_and_address_are_those_of_the_plan() {
        let mut node = node_object("worker1");
        says(&shows_os(&node, &worker1(), "CentOS Linux 7"), "pass", "CentOS Linux 7 (Core)");
        says(&shows_os(&node, &worker1(), "Ubuntu 22.04"), "fail", "CentOS Linux 7 (Core)");
        says(&version_kept(&node, &worker1(), "v1.27.5"), "pass", "v1.27.5");
        says(&version_kept(&node, &worker1(), "v1.27.6"), "fail", "kubelet v1.27.5");
        says(&address_kept(&node, &worker1(), "10.0.0.1"), "pass", "10.0.0.1");
        says(&address_kept(&node, &worker1(), "10.0.0.2"), "fail", "InternalIP 10.0.0.1");
        node.status = None;
        says(&shows_os(&node, &worker1(), "Ubuntu 22.04"), "fail", "shows \"\"");
    }

    #[test]
    fn node_and_agent_must_name_the_same_boot_and_machine() {
        let mut node = node_object("worker1");
        let mut host = Identity {
            boot_id: "boot-1".into(),
            machine_id: "machine-1".into(),
            ..Identity::default()
        };
        says(&is_host(&node, &worker1(), &host), "pass", "the same boot and machine");
        host.boot_id = "boot-2".into();
        says(&is_host(&node, &worker1(), &host), "fail", "boot id of the Node is boot-1");
        node.status = None;
        says(&is_host(&node, &worker1(), &host), "unknown", "does not say which machine");
    }

    #[test]
    fn every_daemon_set_that_was_there_must_be_back() {
        let set = |name: &str, spec: Value| -> DaemonSet {
            from(json!({"metadata": {"name": name, "namespace": "default"},
                "spec": {"selector": {}, "template": {"spec": spec}}}))
        };
        let plain = json!({"containers": []});
        let picky = json!({"containers": [], "nodeSelector": {"disk": "ssd"}});
        let sets = [set("proxy", plain), set("disks", picky)];
        let before = BTreeSet::from(["default/proxy".to_owned(), "default/disks".to_owned()]);
        let mut node = node_object("worker1");
        let mut proxy = pod("proxy-1", "worker1", "DaemonSet");
        let judge = |node: &NodeObject, pods: &[Pod]| daemon_pods(node, &sets, pods, &before);
        says(&judge(&node, std::slice::from_ref(&proxy)), "pass", "1 pods of DaemonSets");
        says(&judge(&node, &[]), "fail", "default/proxy has no pod here");
        node.metadata.labels = from(json!({"disk": "ssd"}));
        let both = judge(&node, std::slice::from_ref(&proxy));
        says(&both, "fail", "default/disks has no pod here");
        proxy.status = None;
        says(&judge(&node, &[proxy]), "fail", "default/proxy-1 is not Ready");
    }

    #[test]
    fn failures_are_named_unless_their_like_failed_before() {
        let mut web = pod("web-2", "worker1", "ReplicaSet");
        let before = BTreeSet::from([pods::origin(&web)]);
        says(&no_failures(&[web.clone()], &BTreeSet::new()), "pass", "no pod on it fails");
        let waits = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        web.status = from(json!({"containerStatuses": [{"name": "web", "image": "i",
            "imageID": "", "ready": false, "restartCount": 3, "state": waits}]}));
        let seen = "default/web-2 (web: CrashLoopBackOff)";
        says(&no_failures(&[web.clone()], &BTreeSet::new()), "fail", seen);
        says(&no_failures(&[web], &before), "pass", "no pod on it fails");
    }

    #[test]
    fn undecided_certificate_requests_are_named() {
        let request = |user: &str, status: Value| -> CertificateSigningRequest {
            from(json!({"metadata": {"name": "csr-1"}, "status": status, "spec": {"request": "",
                "signerName": "kubernetes.io/kubelet-serving", "username": user}}))
        };
        let judge = |user, status| no_requests(&[request(user, status)], &worker1());
        let approved = json!({"conditions": [{"type": "Approved", "status": "True"}]});
        says(&judge("system:node:worker1", approved), "pass", "no certificate request");
        says(&judge("system:node:worker2", json!({})), "pass", "no certificate request");
        says(&judge("system:node:worker1", json!({})), "fail", "csr-1");
    }

    #[test]
    fn what_the_node_lacks_is_named() {
        let (mut before, node) = (node_object("worker1"), node_object("worker1"));
        says(&restored(&node, &worker1(), &before), "pass", "carries all");
        before.metadata.labels = from(json!({"disk": "ssd"}));
        says(&restored(&node, &worker1(), &before), "fail", "lacks label disk");
        says(&schedulable(&node, &worker1(), false), "pass", "is schedulable");
        says(&schedulable(&node, &worker1(), true), "fail", "it was cordoned before");
    }
}
