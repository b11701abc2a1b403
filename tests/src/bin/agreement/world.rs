//! The cluster as the scheduler sees it: objects are written, and pods find nodes or do not.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::watcher::{self, Event},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::control_plane::{ControlPlane, get};

/// Requests at a time.
const AT_ONCE: usize = 12;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(15);
/// How long the scheduler may take for everything that it has been given.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this node.
    On(String),
    /// On none, in the scheduler's words.
    Nowhere(String),
    /// On none, and the scheduler does not look at it.
    Gated,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(node) => write!(f, "now on {node}"),
            Self::Nowhere(words) => write!(f, "on no node: {words}"),
            Self::Gated => f.write_str("gated"),
        }
    }
}

/// Pods by `namespace/name`.
pub(crate) type Places = BTreeMap<String, Place>;

/// An API server and a scheduler, and what was seen of pods.
pub(crate) struct World {
    plane: ControlPlane,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    pods: HashMap<String, Pod>,
    gone: HashSet<String>,
    /// Those of a list that is being read.
    listed: HashMap<String, Pod>,
}

impl World {
    /// Starts it with the programs of a folder.
    pub(crate) async fn start(bin: &Path) -> Self {
        let plane = ControlPlane::start(bin).await;
        let seen = Arc::default();
        tokio::spawn(watch(plane.api.clone(), Arc::clone(&seen)));
        Self { plane, seen }
    }

    /// A client of the API server.
    pub(crate) fn client(&self) -> &Client {
        &self.plane.api
    }

    /// Creates objects of one kind after the other, those of a kind all at once.
    pub(crate) async fn create(&self, objects: &[Value]) {
        for alike in objects.chunk_by(|one, other| one["kind"] == other["kind"]) {
            let calls = alike.iter().map(|object| self.post(object));
            stream::iter(calls).for_each_concurrent(AT_ONCE, |call| call).await;
        }
    }

    async fn post(&self, object: &Value) {
        let request = http::Request::post(collection(object))
            .header("Content-Type", "application/json")
            .body(object.to_string().into_bytes())
            .expect("a request");
        if let Err(why) = self.plane.api.request::<Value>(request).await {
            panic!("the API server does not take {object:#}: {why}");
        }
    }

    /// Cordons a node as `kubectl cordon` does, and taints it as the node controller would.
    pub(crate) async fn cordon(&self, node: &str) {
        let taint = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
        let path = format!("/api/v1/nodes/{node}");
        let found = get(&self.plane.api, &path).await.expect("the node");
        let mut found: Value = serde_json::from_str(&found).expect("a Node");
        found["spec"]["unschedulable"] = json!(true);
        match &mut found["spec"]["taints"] {
            Value::Array(taints) => taints.push(taint),
            none => *none = json!([taint]),
        }
        let body = found.to_string().into_bytes();
        let request = http::Request::put(path).header("Content-Type", "application/json");
        let request = request.body(body).expect("a request");
        self.plane.api.request::<Value>(request).await.expect("the node is cordoned");
    }

    /// Deletes one pod at once.
    pub(crate) async fn delete(&self, pod: &str) {
        let (namespace, name) = pod.split_once('/').expect("namespace and name");
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.remove(&path).await;
    }

    /// Deletes everything that is made for a cluster, and waits until no pod is seen any more.
    pub(crate) async fn clear(&self, namespaces: &[&str]) {
        for namespace in namespaces {
            self.remove(&format!("/api/v1/namespaces/{namespace}/pods")).await;
            self.remove(&format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims")).await;
        }
        self.remove("/api/v1/persistentvolumes").await;
        self.remove("/apis/storage.k8s.io/v1/csinodes").await;
        self.remove("/api/v1/nodes").await;
        let cleared = self.settled(&BTreeSet::new()).await;
        cleared.unwrap_or_else(|why| panic!("pods that were deleted are still known: {why}"));
    }

    async fn remove(&self, path: &str) {
        let request = http::Request::delete(format!("{path}?gracePeriodSeconds=0"));
        let request = request.body(Vec::new()).expect("a request");
        self.plane.api.request::<Value>(request).await.expect("it is deleted");
    }

    /// Waits until the scheduler has done all it can for exactly these pods, and there are no
    /// others; those that it made go are missing.
    ///
    /// # Errors
    /// If it does not come to rest, with what it still holds.
    pub(crate) async fn settled(&self, pods: &BTreeSet<String>) -> Result<Places, String> {
        let began = Instant::now();
        let mut was_quiet = false;
        loop {
            let state = match self.places(pods) {
                Ok(places) => self.quiet(&places).await.map(|()| places),
                Err(why) => Err(why),
            };
            // Once could be just before it hears of the last change.
            match state {
                Ok(places) if was_quiet => return Ok(places),
                Err(why) if began.elapsed() > PATIENCE => return Err(why),
                _ => was_quiet = state.is_ok(),
            }
            sleep(PAUSE).await;
        }
    }

    /// Where these pods are, if all of them have been seen and decided on.
    fn places(&self, pods: &BTreeSet<String>) -> Result<Places, String> {
        let seen = self.seen.lock().expect("no panic");
        if let Some(other) = seen.pods.keys().find(|name| !pods.contains(*name)) {
            return Err(format!("{other} is still there"));
        }
        let mut places = Places::new();
        for name in pods.iter().filter(|name| !seen.gone.contains(*name)) {
            let pod = seen.pods.get(name).ok_or_else(|| format!("{name} is not seen yet"))?;
            places.insert(
                name.clone(),
                place(pod).ok_or_else(|| format!("{name} waits: {:?}", pod.status))?,
            );
        }
        Ok(places)
    }

    /// Whether the scheduler has given up on all of those that are nowhere, and holds no others.
    async fn quiet(&self, places: &Places) -> Result<(), String> {
        let metrics = get(&self.plane.scheduler, "/metrics").await.expect("metrics");
        let queue = |name: &str| {
            let key = format!("scheduler_pending_pods{{queue=\"{name}\"}} ");
            let value = metrics.lines().find_map(|line| line.strip_prefix(&key));
            value.and_then(|value| value.parse::<usize>().ok()).expect("the length of a queue")
        };
        let count = |is: fn(&Place) -> bool| places.values().filter(|place| is(place)).count();
        let want = [
            ("active", 0),
            ("backoff", 0),
            ("unschedulable", count(|place| matches!(place, Place::Nowhere(_)))),
            ("gated", count(|place| matches!(place, Place::Gated))),
        ];
        match want.into_iter().find(|(name, count)| queue(name) != *count) {
            Some((name, count)) => Err(format!("queue {name}: {}, not {count}", queue(name))),
            None => Ok(()),
        }
    }
}

/// Where the scheduler has put a pod; `None` while it has not said.
fn place(pod: &Pod) -> Option<Place> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = &spec.node_name {
        return Some(Place::On(node.clone()));
    }
    let status = pod.status.as_ref()?;
    // Others are on their way out for it.
    if status.nominated_node_name.is_some() {
        return None;
    }
    let conditions = status.conditions.as_ref()?;
    let condition = conditions.iter().find(|one| one.type_ == "PodScheduled")?;
    match condition.reason.as_deref()? {
        "SchedulingGated" => Some(Place::Gated),
        _ => Some(Place::Nowhere(condition.message.clone().unwrap_or_default())),
    }
}

/// Keeps what is seen up to date, as long as the process lives.
async fn watch(api: Client, seen: Arc<Mutex<Seen>>) {
    let name = |pod: &Pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let events = watcher::watcher(Api::<Pod>::all(api), watcher::Config::default());
    let mut events = Box::pin(events);
    loop {
        let event = events.try_next().await;
        let mut seen = seen.lock().expect("no panic");
        match event {
            Ok(Some(Event::Init)) => seen.listed.clear(),
            Ok(Some(Event::InitApply(pod))) => {
                seen.listed.insert(name(&pod), pod);
            }
            Ok(Some(Event::InitDone)) => {
                let listed = std::mem::take(&mut seen.listed);
                let old = std::mem::replace(&mut seen.pods, listed);
                let gone: Vec<_> =
                    old.into_keys().filter(|name| !seen.pods.contains_key(name)).collect();
                seen.gone.extend(gone);
            }
            Ok(Some(Event::Apply(pod))) => {
                seen.pods.insert(name(&pod), pod);
            }
            Ok(Some(Event::Delete(pod))) => {
                seen.pods.remove(&name(&pod));
                seen.gone.insert(name(&pod));
            }
            Ok(None) => return,
            Err(_) => (), // the watcher begins anew by itself
        }
    }
}

/// Where objects like this are created.
fn collection(object: &Value) -> String {
    let namespaced = |kind: &str| {
        let namespace = object["metadata"]["namespace"].as_str().expect("a namespace");
        format!("/api/v1/namespaces/{namespace}/{kind}")
    };
    match object["kind"].as_str().expect("a kind") {
        "Namespace" => "/api/v1/namespaces".to_owned(),
        "Node" => "/api/v1/nodes".to_owned(),
        "Pod" => namespaced("pods"),
        "PersistentVolumeClaim" => namespaced("persistentvolumeclaims"),
        "PersistentVolume" => "/api/v1/persistentvolumes".to_owned(),
        "CSINode" => "/apis/storage.k8s.io/v1/csinodes".to_owned(),
        "PriorityClass" => "/apis/scheduling.k8s.io/v1/priorityclasses".to_owned(),
        "RuntimeClass" => "/apis/node.k8s.io/v1/runtimeclasses".to_owned(),
        kind => panic!("nobody said where objects of kind {kind} are created"),
    }
}
