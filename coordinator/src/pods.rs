//! What kinds of pods there are.

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};

/// `namespace/name`.
pub(crate) fn name(pod: &Pod) -> String {
    full_name(pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref())
}

/// `namespace/name` of anything in a namespace.
pub(crate) fn full_name(namespace: Option<&str>, name: Option<&str>) -> String {
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// Kind and name of the controller that would make an object anew.
pub(crate) fn controller(metadata: &ObjectMeta) -> Option<(&str, &str)> {
    let owners = metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    controllers.next().map(|owner| (owner.kind.as_str(), owner.name.as_str()))
}

/// `namespace/name` of the DaemonSet that the pod belongs to.
pub(crate) fn daemon_set(pod: &Pod) -> Option<String> {
    let (_, name) = controller(&pod.metadata).filter(|(kind, _)| *kind == "DaemonSet")?;
    Some(full_name(pod.metadata.namespace.as_deref(), Some(name)))
}

/// Whether it is over.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether it is made from a file on its host: what the API has is a mirror, which cannot be
/// evicted.
pub(crate) fn is_static(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"))
}

/// Whether it must be moved before the node can go: it belongs to no DaemonSet, is no static pod,
/// and is not over.
pub(crate) fn is_movable(pod: &Pod) -> bool {
    !is_static(pod) && daemon_set(pod).is_none() && !is_finished(pod)
}

/// Whether it is Ready and stays.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// What keeps it from running that will not pass by itself: `container: reason` of the first
/// container that fails again and again or cannot be made (the kubelet's own words).
pub(crate) fn failure(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref().filter(|_| pod.metadata.deletion_timestamp.is_none())?;
    let all = [&status.init_container_statuses, &status.container_statuses];
    all.into_iter().flatten().flatten().find_map(|container| {
        let waits = container.state.as_ref()?.waiting.as_ref()?.reason.as_deref()?;
        let fails =
            waits.ends_with("BackOff") || waits.starts_with("Err") || waits.ends_with("Error");
        fails.then(|| format!("{}: {waits}", container.name))
    })
}

/// What stays the same when a pod is made anew elsewhere: its controller, or itself if it has none.
pub(crate) fn origin(pod: &Pod) -> String {
    match controller(&pod.metadata) {
        Some((kind, owner)) => {
            format!("{kind} {}", full_name(pod.metadata.namespace.as_deref(), Some(owner)))
        }
        None => name(pod),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(owner: &str, annotations: Value, phase: &str) -> Pod {
        let owner = json!({"apiVersion": "v1", "kind": owner, "name": "a", "uid": "o",
            "controller": true});
        let metadata = json!({"name": "a-1", "annotations": annotations,
            "ownerReferences": [owner]});
        let pod = json!({"metadata": metadata, "spec": {"containers": []},
            "status": {"phase": phase}});
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn daemons_static_and_finished_pods_need_not_move() {
        assert!(is_movable(&pod("ReplicaSet", json!(null), "Running")));
        assert!(!is_movable(&pod("DaemonSet", json!(null), "Running")));
        let mark = json!({"kubernetes.io/config.mirror": "hash"});
        assert!(!is_movable(&pod("Node", mark, "Running")));
        assert!(!is_movable(&pod("Job", json!(null), "Failed")));
    }

    #[test]
    fn failures_are_what_does_not_pass_by_itself() {
        let judge = |reason: &str, deleted: bool| {
            let mut pod = pod("ReplicaSet", json!(null), "Running");
            let waits = json!({ "waiting": { "reason": reason } });
            let status = json!({ "name": "web", "image": "i", "imageID": "", "ready": false,
                "restartCount": 4, "state": waits });
            let status = json!({ "containerStatuses": [status] });
            pod.status = serde_json::from_value(status).unwrap();
            pod.metadata.deletion_timestamp =
                deleted.then(|| serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
            failure(&pod)
        };
        for reason in ["CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "RunContainerError"]
        {
            assert_eq!(judge(reason, false), Some(format!("web: {reason}")));
        }
        assert_eq!(judge("ContainerCreating", false), None);
        assert_eq!(judge("CrashLoopBackOff", true), None, "it is going");
        assert_eq!(origin(&pod("ReplicaSet", json!(null), "Running")), "ReplicaSet /a");
    }
}
