//! What API servers say about the join canary of a node.

use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::ResourceExt;
use rehull_shared::{evidence::Verdict, ids::NodeName};

use super::{
    super::{
        Trouble,
        api::{Failure, few, get},
        join_canary::{Canary, NAMESPACE, apis, make, named},
    },
    server::{Reading, Server},
};
use crate::pods;

/// The API server would make its objects: a dry run.
pub(super) async fn possible(server: &Server, canary: &Canary<'_>) -> Reading<Verdict> {
    let (services, all) = canary.objects().map_err(unknown)?;
    let (service_api, pod_api) = apis(server.client()?);
    for service in &services {
        if let Err(why) = make(&service_api, service, true).await {
            return refused(why, named(service));
        }
    }
    for pod in &all {
        if let Err(why) = make(&pod_api, pod, true).await {
            return refused(why, named(pod));
        }
    }
    Ok(Verdict::pass(format!("pods and Services could be made in {NAMESPACE}")))
}

fn refused(why: Failure, what: String) -> Reading<Verdict> {
    let words = why.with(what).to_string();
    match why {
        Failure::Refused(_) => Ok(Verdict::fail(words)),
        Failure::Silent(_) => Err(Verdict::unknown(words)),
    }
}

/// Why the pods do not serve one another; `Ok` says which ones do.
pub(super) async fn serves(
    server: &Server,
    canary: &Canary<'_>,
    node: &NodeObject,
) -> Reading<Result<String, String>> {
    let (_, pod_api) = apis(server.client()?);
    let mut found = Vec::new();
    for name in [canary.here(), canary.there()] {
        let pod = get(&pod_api, &name).await;
        found.push((pod.map_err(|failure| unknown(failure.with(&name)))?, name));
    }
    Ok(judged(&found, &node.name_any()))
}

/// Judges the pod on the node, which is the first, and the one elsewhere.
fn judged(found: &[(Option<Pod>, String)], node: &str) -> Result<String, String> {
    let mut wrong = Vec::new();
    let mut places = Vec::new();
    for (index, (pod, name)) in found.iter().enumerate() {
        let Some(pod) = pod else {
            wrong.push(format!("{name} does not exist yet"));
            continue;
        };
        let place = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        match (trouble(pod), place) {
            (_, Some(place)) if (index == 0) != (place == node) => {
                wrong.push(format!("{name} is on {place}"));
            }
            (Some(why), _) => {
                wrong.push(format!("{name} on {}: {why}", place.unwrap_or("no node")))
            }
            (None, place) => places.push(place.unwrap_or_default()),
        }
    }
    match wrong.is_empty() {
        true => Ok(format!(
            "pods on {} fetch from one another, by DNS name and Service",
            places.join(" and ")
        )),
        false => Err(few(wrong)),
    }
}

/// Why a pod is not Ready; `None` if it is.
fn trouble(pod: &Pod) -> Option<String> {
    if pods::is_ready(pod) {
        return None;
    }
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let mut unscheduled =
        conditions.filter(|one| one.type_ == "PodScheduled" && one.status == "False");
    if let Some(message) = unscheduled.next().and_then(|one| one.message.clone()) {
        return Some(message);
    }
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let state = containers.into_iter().flatten().next().and_then(|one| one.state.as_ref());
    let waiting = state.and_then(|state| state.waiting.as_ref());
    match (waiting, state.and_then(|state| state.running.as_ref())) {
        (Some(waits), _) => {
            let words =
                [&waits.reason, &waits.message].map(|word| word.clone().unwrap_or_default());
            Some(words.join(" ").trim().to_owned())
        }
        (None, Some(_)) => {
            Some("runs, but does not get what the other serves, by its name and Service".to_owned())
        }
        (None, None) => Some("has not started".to_owned()),
    }
}

/// None of its objects is left.
pub(super) async fn removed(
    server: &Server,
    canary: &Canary<'_>,
    name: &NodeName,
) -> Reading<Verdict> {
    let (service_api, pod_api) = apis(server.client()?);
    let mut left = Vec::new();
    for name in [canary.here(), canary.there()] {
        let pod = get(&pod_api, &name).await.map_err(|failure| unknown(failure.with(&name)))?;
        let service = get(&service_api, &name).await;
        let service = service.map_err(|failure| unknown(failure.with(&name)))?;
        left.extend(pod.map(|_| format!("pod {name}")));
        left.extend(service.map(|_| format!("Service {name}")));
    }
    Ok(match left.is_empty() {
        true => Verdict::pass(format!("nothing is left of the join canary of {name}")),
        false => Verdict::fail(format!("{NAMESPACE} still has {}", few(left))),
    })
}

fn unknown(trouble: Trouble) -> Verdict {
    Verdict::unknown(trouble.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::effects::testing::from;

    fn pod(node: Option<&str>, status: Value) -> Option<Pod> {
        let metadata = json!({"name": "c", "namespace": NAMESPACE});
        Some(from(json!({"metadata": metadata, "status": status,
            "spec": {"containers": [], "nodeName": node}})))
    }

    fn ready() -> Value {
        json!({"conditions": [{"type": "Ready", "status": "True"}]})
    }

    fn words(here: Option<Pod>, there: Option<Pod>) -> String {
        let found = [(here, "c-here".to_owned()), (there, "c-there".to_owned())];
        judged(&found, "worker1").unwrap_or_else(|why| why)
    }

    #[test]
    fn both_pods_must_be_in_their_place_and_ready() {
        let on = |node, status| pod(Some(node), status);
        let good = "pods on worker1 and worker2 fetch from one another";
        assert!(words(on("worker1", ready()), on("worker2", ready())).starts_with(good));
        assert_eq!(
            words(on("worker2", ready()), on("worker1", ready())),
            "c-here is on worker2, c-there is on worker1"
        );
        assert_eq!(
            words(None, on("worker2", json!({}))),
            "c-here does not exist yet, c-there on worker2: has not started"
        );
    }

    #[test]
    fn why_a_pod_is_not_ready_is_said_in_the_clusters_own_words() {
        let container = |state: Value| {
            json!({"containerStatuses": [{"name": "canary", "image": "i", "imageID": "",
                "ready": false, "restartCount": 0, "state": state}]})
        };
        let pulls = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}});
        let runs = json!({"running": {}});
        let homeless = json!({"conditions": [{"type": "PodScheduled", "status": "False",
            "message": "0/2 nodes are available"}]});
        for (status, seen) in [
            (container(pulls), "c-there on worker2: ImagePullBackOff no such host"),
            (container(runs), "runs, but does not get what the other serves"),
        ] {
            let words = words(pod(Some("worker1"), ready()), pod(Some("worker2"), status));
            assert!(words.contains(seen), "{words}");
        }
        let words = words(pod(Some("worker1"), ready()), pod(None, homeless));
        assert_eq!(words, "c-there on no node: 0/2 nodes are available");
    }
}
