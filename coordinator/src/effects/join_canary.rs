//! The join canary: one pod on the node that has come back and one elsewhere, each of which is Ready
//! only while it fetches from the other by its DNS name, through its Service. So the network is
//! tried both ways, with DNS, Services, the pull of an image, and more bytes than one packet holds.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use rehull_shared::{ids::NodeName, text::sha256_hex};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    Pass, Requests, Trouble,
    api::{Failure, call, get},
};
use crate::{
    domain::{plan::JoinCanary, state::Migration},
    pods,
};

/// Where the pods are made: `rbac-workload.yaml` has it, and the right to make them there.
pub(super) const NAMESPACE: &str = "rehull-canary";

/// On each of the pods and Services: which it is.
const LABEL: &str = "rehull.dev/join-canary";

const PORT: u16 = 8080;

/// What is fetched, in bytes: some dozens of packets, so that one that is too large is missed.
const PAYLOAD: usize = 65_536;

/// The objects of one node's join canary.
pub(super) struct Canary<'a> {
    planned: &'a JoinCanary,
    migration: String,
    node: &'a NodeName,
    base: String,
}

impl<'a> Canary<'a> {
    /// The one that is planned for a node; `None` if none is.
    pub(super) fn of(migration: &'a Migration, node: &'a NodeName) -> Option<Self> {
        let planned = migration.plan.join_canary.as_ref()?;
        let id = migration.id.to_string();
        let hash = sha256_hex(format!("{id}/{node}").as_bytes());
        Some(Self { planned, migration: id, node, base: format!("canary-{}", &hash[..10]) })
    }

    /// The pod on the node, and its Service.
    pub(super) fn here(&self) -> String {
        format!("{}-here", self.base)
    }

    /// The pod elsewhere, and its Service.
    pub(super) fn there(&self) -> String {
        format!("{}-there", self.base)
    }

    pub(super) fn objects(&self) -> Result<(Vec<Service>, Vec<Pod>), Trouble> {
        let understood = |why| Trouble::new("the join canary", why);
        let services = [self.service(&self.here()), self.service(&self.there())];
        let services = services.into_iter().collect::<Result<_, _>>().map_err(understood)?;
        let pods = [
            self.pod(&self.here(), &self.there(), json!({"nodeName": self.node})),
            self.pod(&self.there(), &self.here(), self.elsewhere()),
        ];
        let pods = pods.into_iter().collect::<Result<_, _>>().map_err(understood)?;
        Ok((services, pods))
    }

    /// A pod that is not Ready must be found, too: it becomes so by being found.
    fn service(&self, name: &str) -> serde_json::Result<Service> {
        serde_json::from_value(json!({
            "metadata": self.metadata(name),
            "spec": {
                "selector": {LABEL: name}, "publishNotReadyAddresses": true,
                "ports": [{"name": "http", "port": PORT, "targetPort": PORT}],
            },
        }))
    }

    /// Any node but this one, a control plane if there is no other.
    fn elsewhere(&self) -> serde_json::Value {
        let other = json!({"key": "metadata.name", "operator": "NotIn", "values": [self.node]});
        let terms = json!({"nodeSelectorTerms": [{"matchFields": [other]}]});
        let planes = ["control-plane", "master"].map(|role| {
            let key = format!("node-role.kubernetes.io/{role}");
            json!({"key": key, "operator": "Exists", "effect": "NoSchedule"})
        });
        let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": terms});
        json!({"affinity": {"nodeAffinity": required}, "tolerations": planes})
    }

    fn metadata(&self, name: &str) -> serde_json::Value {
        let annotations =
            json!({"rehull.dev/migration": self.migration, "rehull.dev/node": self.node});
        json!({
            "name": name, "namespace": NAMESPACE, "labels": {LABEL: name},
            "annotations": annotations,
        })
    }

    /// It serves `PAYLOAD` bytes, and is Ready while it gets as many from its peer. It fulfils the Pod
    /// Security Standard `restricted`.
    fn pod(&self, name: &str, peer: &str, place: serde_json::Value) -> serde_json::Result<Pod> {
        let directory = format!("/tmp/{name}");
        let serve = format!(
            "mkdir -p {directory} && head -c {PAYLOAD} /dev/zero > {directory}/payload && \
             exec busybox httpd -f -p {PORT} -h {directory}"
        );
        let fetch = format!(
            "test $(busybox wget -q -O - http://{peer}:{PORT}/payload | wc -c) -eq {PAYLOAD}"
        );
        let resources = json!({"cpu": "50m", "memory": "32Mi"});
        let container = json!({
            "name": "canary", "image": self.planned.image, "command": ["sh", "-c", serve],
            "ports": [{"containerPort": PORT}],
            "readinessProbe": {
                "exec": {"command": ["sh", "-c", fetch]},
                "periodSeconds": 2, "timeoutSeconds": 8, "failureThreshold": 1,
            },
            "resources": {"requests": resources, "limits": resources},
            "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            },
        });
        let mut spec = json!({
            "containers": [container], "automountServiceAccountToken": false,
            "enableServiceLinks": false, "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65_534, "runAsGroup": 65_534,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        });
        if let (Some(spec), Some(place)) = (spec.as_object_mut(), place.as_object()) {
            spec.extend(place.clone());
        }
        serde_json::from_value(json!({"metadata": self.metadata(name), "spec": spec}))
    }
}

impl Pass<'_> {
    /// Makes what is not there yet, and removes a pod that is over, so that the next pass makes it
    /// anew.
    pub(super) async fn start_join_canary(&self, node: &NodeName) -> Result<Requests, Trouble> {
        let Some(canary) = Canary::of(self.migration, node) else { return Ok(Requests::new()) };
        let client = self.workload().await?;
        let (services, all) = canary.objects()?;
        let (service_api, pod_api) = apis(&client);
        for service in &services {
            let made = make(&service_api, service, false).await;
            made.map_err(|failure| failure.with(named(service)))?;
        }
        for pod in &all {
            let found = get(&pod_api, &pod.name_any()).await;
            match found.map_err(|failure| failure.with(named(pod)))? {
                Some(old) if pods::is_finished(&old) => remove(&pod_api, &old).await?,
                Some(_) => (),
                None => {
                    let made = make(&pod_api, pod, false).await;
                    made.map_err(|failure| failure.with(named(pod)))?;
                }
            }
        }
        Ok(Requests::new())
    }

    /// Removes everything of it.
    pub(super) async fn remove_join_canary(&self, node: &NodeName) -> Result<Requests, Trouble> {
        let Some(canary) = Canary::of(self.migration, node) else { return Ok(Requests::new()) };
        let (service_api, pod_api) = apis(&self.workload().await?);
        for name in [canary.here(), canary.there()] {
            let pod = get(&pod_api, &name).await.map_err(|failure| failure.with(&name))?;
            if let Some(pod) = pod.filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
                remove(&pod_api, &pod).await?;
            }
            let service = get(&service_api, &name).await.map_err(|failure| failure.with(&name))?;
            if let Some(service) = service {
                remove(&service_api, &service).await?;
            }
        }
        Ok(Requests::new())
    }
}

/// Services and pods of the namespace of join canaries.
pub(super) fn apis(client: &Client) -> (Api<Service>, Api<Pod>) {
    (Api::namespaced(client.clone(), NAMESPACE), Api::namespaced(client.clone(), NAMESPACE))
}

/// Creates an object unless it is there. A dry run only has the API server look whether it could.
pub(super) async fn make<K>(api: &Api<K>, object: &K, dry: bool) -> Result<(), Failure>
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let how = PostParams { dry_run: dry, ..PostParams::default() };
    match call(api.create(&how, object)).await {
        Ok(_) => Ok(()),
        Err(Failure::Refused(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// `namespace/name`.
pub(super) fn named<K: Resource>(object: &K) -> String {
    format!("{NAMESPACE}/{}", object.name_any())
}

async fn remove<K>(api: &Api<K>, object: &K) -> Result<(), Trouble>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let preconditions = Preconditions { uid: object.uid(), ..Preconditions::default() };
    let how = DeleteParams::background().preconditions(preconditions);
    match call(api.delete(&object.name_any(), &how)).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_absence() => Ok(()),
        Err(failure) => Err(failure.with(named(object))),
    }
}
