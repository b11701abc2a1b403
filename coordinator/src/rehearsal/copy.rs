//! Reads somebody's cluster once, to rehearse on a copy of it: gets and lists, and nothing else.
//!
//! Of pods is kept what schedulers and budgets see, not what they run with, since environments hold
//! passwords. No Secret is asked for, and the kubeconfig that Kubean keeps is replaced by one that
//! opens nothing.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde_json::{Value, json};

use super::{
    api::kinds::{KINDS, Kind},
    cluster::Original,
    machine::Os,
};
use crate::{
    clients::{Clients, Endpoint, Trouble, calls, server_of},
    domain::plan::{Plan, PlannedNode},
    effects::EXPORTED,
    kubean::{Cluster, stored},
};

/// Kinds of the workload cluster that are read whole, by their plurals.
const WORKLOAD: [&str; 15] = [
    "namespaces",
    "nodes",
    "pods",
    "persistentvolumes",
    "persistentvolumeclaims",
    "storageclasses",
    "csinodes",
    "volumeattachments",
    "priorityclasses",
    "poddisruptionbudgets",
    "daemonsets",
    "deployments",
    "replicasets",
    "statefulsets",
    "certificatesigningrequests",
];

/// The namespace that every cluster has.
const SYSTEM: &str = "kube-system";

/// Fields of a container that are kept.
const CONTAINER: [&str; 5] = ["name", "image", "resources", "ports", "restartPolicy"];

/// Told while lists are read: the kind, and how many objects of it so far.
pub(super) type Tell<'a> = &'a mut (dyn FnMut(&'static str, usize) + Send);

/// Reads what the document of a plan is about.
///
/// # Errors
/// A [`Trouble`] that names what could not be read: half a cluster would rehearse nothing.
pub(super) async fn copy(
    document: &str,
    plan: &Plan,
    nodes: &[PlannedNode],
    clients: &Clients,
    tell: Tell<'_>,
) -> Result<Original, Trouble> {
    let system = |profile| Os::of(profile).map_err(|why| Trouble::new("its hosts", why));
    let systems = (system(&plan.source)?, system(&plan.target)?);
    let management = management(plan, clients, tell).await?;
    let client = clients.get(plan, Endpoint::Workload).await?;
    let mut workload = Vec::new();
    for plural in WORKLOAD {
        workload.extend(all(&client, plural, &mut |object| slim(object), tell).await?);
    }
    for (_, namespace, name) in EXPORTED {
        let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
        workload.extend(config_map(&maps, name).await?);
    }
    if !plan.control_planes.is_empty() {
        workload.extend(control_planes(&client, tell).await?);
    }
    for node in nodes {
        let is_there = |object: &&Value| {
            object["kind"] == "Node" && object["metadata"]["name"] == node.name.as_str()
        };
        if !workload.iter().any(|object| is_there(&object)) {
            let why = "the inventory has it, and the cluster has no Node of this name";
            return Err(Trouble::new(&node.name, why));
        }
    }
    Ok(Original {
        name: plan.cluster.clone(),
        document: document.to_owned(),
        nodes: nodes.to_vec(),
        control_planes: plan.control_planes.clone(),
        servers: plan.api_servers.clone(),
        systems,
        management,
        workload,
    })
}

/// What leads to the API servers, beside what is exported.
async fn control_planes(client: &Client, tell: Tell<'_>) -> Result<Vec<Value>, Trouble> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), SYSTEM);
    let mut found = Vec::from_iter(config_map(&maps, "kube-proxy").await?);
    let (kind, resource) = kind("endpointslices");
    let slices = Api::<DynamicObject>::namespaced_with(client.clone(), "default", &resource);
    found.extend(listed(&slices, kind, &mut |object| slim(object), tell).await?);
    Ok(found)
}

/// What Kubean has of the cluster, and who uses it.
async fn management(plan: &Plan, clients: &Clients, tell: Tell<'_>) -> Result<Vec<Value>, Trouble> {
    let client = clients.get(plan, Endpoint::Management).await?;
    let found = stored(&client, &plan.namespace, &plan.cluster).await?;
    let cluster: &Cluster = &found.cluster;
    let mut objects = vec![json!({
        "apiVersion": "kubean.io/v1alpha1", "kind": "Cluster",
        "metadata": { "name": cluster.name_any(), "uid": cluster.uid() }, "spec": cluster.spec,
    })];
    let maps = Api::<ConfigMap>::namespaced(client.clone(), &plan.namespace);
    for of in [&cluster.spec.hosts_conf_ref, &cluster.spec.vars_conf_ref] {
        objects.extend(config_map(&maps, &of.name).await?);
    }
    if let Some(kept) = &cluster.spec.kubeconf_ref {
        let server = server_of(plan, clients).await?;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "copy",
            "clusters": [{ "name": "copy", "cluster": { "server": server } }],
            "contexts": [{ "name": "copy", "context": { "cluster": "copy", "user": "nobody" } }],
            "users": [{ "name": "nobody", "user": {} }],
        });
        objects.push(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": kept.name, "namespace": kept.namespace },
            "data": { "config": kubeconfig.to_string() },
        }));
    }
    let ours =
        |object: Value| (object["spec"]["cluster"] == plan.cluster.as_str()).then_some(object);
    objects.extend(all(&client, "clusteroperations", &mut |one| ours(slim(one)?), tell).await?);
    // By its UID one cluster is told from another.
    let system = calls::get(&Api::<Namespace>::all(client), SYSTEM).await;
    let system = system.map_err(|failure| failure.with(format!("Namespace {SYSTEM}")))?;
    objects.extend(system.map(|found| {
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": SYSTEM, "uid": found.uid() },
        })
    }));
    Ok(objects)
}

async fn config_map(maps: &Api<ConfigMap>, name: &str) -> Result<Option<Value>, Trouble> {
    let found = calls::get(maps, name).await;
    let found = found.map_err(|failure| failure.with(format!("ConfigMap {name}")))?;
    Ok(found.map(|map| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": map.namespace(), "uid": map.uid() },
            "data": map.data,
        })
    }))
}

/// A kind by its plural, as it is asked for.
fn kind(plural: &str) -> (&'static Kind, ApiResource) {
    let kind = KINDS.iter().find(|kind| kind.plural == plural);
    let kind: &Kind = kind.expect("the kinds above are rows");
    let resource = ApiResource {
        group: kind.group().to_owned(),
        version: kind.version.rsplit('/').next().unwrap_or_default().to_owned(),
        api_version: kind.version.to_owned(),
        kind: kind.kind.to_owned(),
        plural: plural.to_owned(),
    };
    (kind, resource)
}

/// What `keep` keeps of every object of a kind.
async fn all(
    client: &Client,
    plural: &'static str,
    keep: &mut (dyn FnMut(Value) -> Option<Value> + Send),
    tell: Tell<'_>,
) -> Result<Vec<Value>, Trouble> {
    let (kind, resource) = kind(plural);
    listed(&Api::<DynamicObject>::all_with(client.clone(), &resource), kind, keep, tell).await
}

async fn listed(
    api: &Api<DynamicObject>,
    kind: &Kind,
    keep: &mut (dyn FnMut(Value) -> Option<Value> + Send),
    tell: Tell<'_>,
) -> Result<Vec<Value>, Trouble> {
    let plural = kind.plural;
    let mut count = 0;
    let kept = |object: DynamicObject| {
        count += 1;
        if count % 100 == 1 {
            tell(plural, count);
        }
        let mut value = serde_json::to_value(object).ok()?;
        // Items of lists do not say what they are.
        value["apiVersion"] = json!(kind.version);
        value["kind"] = json!(kind.kind);
        keep(value)
    };
    let listed = calls::list(api, ListParams::default(), kept).await;
    listed.map_err(|failure| failure.with(format!("the list of {plural}")))
}

/// An object without what nobody looks at, and without what may be secret.
fn slim(mut object: Value) -> Option<Value> {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        // Whoever would take it off again does not live in a copy.
        metadata.remove("finalizers");
    }
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    if object["kind"] == "CertificateSigningRequest"
        && let Some(spec) = object["spec"].as_object_mut()
    {
        spec.remove("request");
    }
    for at in ["/spec", "/spec/template/spec"] {
        let Some(spec) = object.pointer_mut(at) else { continue };
        for field in ["containers", "initContainers", "ephemeralContainers"] {
            for container in spec[field].as_array_mut().into_iter().flatten() {
                if let Some(fields) = container.as_object_mut() {
                    fields.retain(|name, _| CONTAINER.contains(&name.as_str()));
                }
            }
            // Asking for a field that is not there has put a null in its place.
            if let Some(fields) = spec.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
        }
    }
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_runs_with_is_not_kept() {
        let container = json!({
            "name": "web", "image": "web:1", "env": [{ "name": "PASSWORD", "value": "hunter2" }],
            "command": ["web", "--password=hunter2"], "resources": { "requests": { "cpu": "1" } },
        });
        let template = json!({ "spec": { "containers": [container] } });
        let kept = slim(json!({
            "kind": "Deployment",
            "metadata": { "name": "web", "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "hunter2", "team": "shop",
            } },
            "spec": { "template": template },
        }));
        let kept = kept.unwrap();
        assert!(!kept.to_string().contains("hunter2"), "{kept}");
        let container = &kept["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["resources"]["requests"]["cpu"], "1");
        assert_eq!(kept["metadata"]["annotations"]["team"], "shop");
        assert!(kept["spec"]["template"]["spec"].get("initContainers").is_none());
    }
}
