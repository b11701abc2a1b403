//! Kubean's operator and the Jobs of its operations, as far as rehull can see them.
//!
//! The order and the marks are those that were observed of the real one: owner and label first,
//! then Job and pod, the actor annotation with the first poll that finds the pod running, the end by
//! polling the Job.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use rehull_shared::time::{Span, Timestamp};
use serde_json::{Value, json};

use super::{SECRETS, api::store::Store, faults::Fault, workloads::text, world::World};
use crate::{
    inventory::Inventory,
    kubean::{INVENTORY_KEY, annotation::MIGRATION},
};

/// How long the operator takes to find a running pod: its poll interval.
const POLL: Span = Span::from_secs(5);

/// What can go wrong with a removal that runs.
const REMOVALS: &[Fault] = &[
    Fault::SucceededDidNothing,
    Fault::FailedDidAll,
    Fault::SurvivingProcess,
    Fault::SurvivingKubelet,
    Fault::MemberOutlives,
];

/// The playbook that leaves the cluster's endpoint at the last of the inventory.
const UPGRADE: &str = "upgrade-cluster.yml";

/// One operation at work.
#[derive(Clone, Debug)]
struct Run {
    name: String,
    since: Timestamp,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Seen,
    Running,
    Acting,
    PodEnded { at: Timestamp, ok: bool },
    Over,
}

/// What the operator remembers, by UID.
#[derive(Default)]
pub(super) struct Operator {
    runs: BTreeMap<String, Run>,
    /// Nodes whose operations it does not see.
    pub(super) sleeps_over: BTreeSet<String>,
}

/// What an operation is to do.
enum Playbook {
    Remove(String),
    Join(String),
    /// Join control planes that are none, and name members of etcd by the order of the inventory.
    ControlPlanes,
    /// Publish the kubeconfig of the first control plane.
    Kubeconfig,
}

impl Operator {
    /// Operations that it has seen so far.
    pub(super) fn seen(&self) -> usize {
        self.runs.len()
    }
}

/// Moves every operation on.
pub(super) fn step(world: &mut World, now: Timestamp) -> io::Result<()> {
    let api = world.management.clone();
    let operations: Vec<Value> = api.store().list("clusteroperations").cloned().collect();
    // Those of others are as they are: history, or somebody's at work.
    let ours = |op: &&Value| !op["metadata"]["annotations"][MIGRATION].is_null();
    let alive = |op: &&Value| op["metadata"]["deletionTimestamp"].is_null();
    for operation in operations.iter().filter(ours).filter(alive) {
        let uid = text(&operation["metadata"]["uid"]);
        if let Some(Playbook::Remove(node)) = playbook(operation) {
            if world.strike(&node, &[Fault::OperatorDown]).is_some() {
                world.operator.sleeps_over.insert(node.clone());
            }
            if world.operator.sleeps_over.contains(&node) {
                continue;
            }
        }
        let name = text(&operation["metadata"]["name"]);
        let run = world.operator.runs.entry(uid.clone());
        let mut run = run.or_insert(Run { name, since: now, stage: Stage::Seen }).clone();
        run.stage = advance(world, &run, operation, now)?;
        world.operator.runs.insert(uid, run);
    }
    Ok(())
}

fn advance(world: &mut World, run: &Run, operation: &Value, now: Timestamp) -> io::Result<Stage> {
    let api = world.management.clone();
    let waited = now.since(run.since);
    Ok(match run.stage {
        Stage::Seen => {
            adopt(&mut api.store(), operation);
            Stage::Running
        }
        Stage::Running if waited >= POLL => {
            let pod = pod_of(&run.name);
            api.store().edit("clusteroperations", "", &run.name, |operation| {
                operation["metadata"]["annotations"]["kubean.io/actor"] = json!(pod);
            });
            Stage::Acting
        }
        Stage::Acting if waited >= world.length_of(operation) => {
            let ok = play(world, operation, now)?;
            end_pod(&mut world.management.store(), run, operation, ok);
            Stage::PodEnded { at: now, ok }
        }
        Stage::PodEnded { at, ok } if now > at => {
            let time = super::api::kubernetes_time(at);
            api.store().edit("clusteroperations", "", &run.name, |operation| {
                let word = if ok { "Succeeded" } else { "Failed" };
                operation["status"]["status"] = json!(word);
                operation["status"]["endTime"] = json!(time);
                operation["metadata"]["labels"]["hasCompleted"] = json!("done");
            });
            Stage::Over
        }
        stage => stage,
    })
}

fn pod_of(operation: &str) -> String {
    format!("kubean-{operation}-job-x7k2p")
}

/// The operator's namespace: that of its inputs.
fn home(operation: &Value) -> String {
    text(&operation["spec"]["hostsConfRef"]["namespace"])
}

/// Owner, label, Job, pod, status: what the operator writes before anything runs.
fn adopt(store: &mut Store, operation: &Value) {
    let name = text(&operation["metadata"]["name"]);
    let cluster = text(&operation["spec"]["cluster"]);
    let reference = |kind: &str, version: &str, name: &str, uid: &Value| {
        json!([{ "apiVersion": version, "kind": kind, "name": name, "uid": uid,
                 "controller": true, "blockOwnerDeletion": true }])
    };
    let uid = &operation["metadata"]["uid"];
    let ours = reference("ClusterOperation", "kubean.io/v1alpha1", &name, uid);
    let home = home(operation);
    let job = format!("kubean-{name}-job");
    let owner = store.get("clusters", "", &cluster).map(|found| found["metadata"]["uid"].clone());
    let time = store.time();
    let labels = json!({ "job-name": job, "batch.kubernetes.io/job-name": job });
    store.put(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": job, "namespace": home, "labels": labels, "ownerReferences": ours,
        },
        "spec": { "backoffLimit": 0, "template": { "spec": { "containers": [] } } },
        "status": { "active": 1, "startTime": time },
    }));
    let made = store.get("jobs", &home, &job).map(|made| made["metadata"]["uid"].clone());
    let image = &operation["spec"]["image"];
    store.put(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod_of(&name), "namespace": home, "labels": labels,
            "ownerReferences": reference("Job", "batch/v1", &job, &json!(made)),
        },
        "spec": { "nodeName": "management1", "restartPolicy": "Never",
                  "containers": [{ "name": "kubean", "image": image }] },
        "status": {
            "phase": "Running", "startTime": time,
            "containerStatuses": [{
                "name": "kubean", "image": image, "ready": true, "restartCount": 0,
                "imageID": "registry.example/spray-job@sha256:9b1f",
                "state": { "running": { "startedAt": time } },
            }],
        },
    }));
    store.edit("clusteroperations", "", &name, |op| {
        op["metadata"]["ownerReferences"] =
            reference("Cluster", "kubean.io/v1alpha1", &cluster, &json!(owner));
        op["metadata"]["labels"]["clusterName"] = json!(cluster);
        op["spec"]["entrypointSHRef"] =
            json!({ "name": format!("{name}-entrypoint"), "namespace": home });
        op["status"] = json!({
            "status": "Running", "action": op["spec"]["action"], "startTime": time,
            "jobRef": { "name": job, "namespace": home },
        });
    });
}

/// Runs the playbook of an operation. False if it fails.
fn play(world: &mut World, operation: &Value, now: Timestamp) -> io::Result<bool> {
    let cluster = text(&operation["spec"]["cluster"]);
    let inventory = inventory(&world.management.store(), operation);
    let (Some(playbook), Some(inventory)) = (playbook(operation), inventory) else {
        return Ok(false);
    };
    match playbook {
        // Ansible knows a host only if the operation's own inventory names it.
        Playbook::Remove(node) | Playbook::Join(node) if !has(&inventory, &node) => Ok(false),
        Playbook::Remove(node) => remove(world, &cluster, &node),
        Playbook::Join(node) => join(world, &cluster, &node, now),
        Playbook::ControlPlanes => set_up_control_planes(world, operation, &inventory, now),
        Playbook::Kubeconfig => Ok(publish(world, &cluster, &inventory)),
    }
}

fn remove(world: &mut World, cluster: &str, node: &str) -> io::Result<bool> {
    let fault = world.strike(node, REMOVALS);
    let survivors: &[&str] = match fault {
        Some(Fault::SucceededDidNothing) => return Ok(true),
        Some(Fault::SurvivingProcess) => &["/kube-proxy", "/containerd-shim-runc-v2"],
        Some(Fault::SurvivingKubelet) => &["/kubelet", "/containerd"],
        _ => &[],
    };
    if let Some(site) = world.site(cluster) {
        site.remove(node, survivors, fault == Some(Fault::MemberOutlives))?;
    }
    Ok(fault != Some(Fault::FailedDidAll))
}

fn join(world: &mut World, cluster: &str, node: &str, now: Timestamp) -> io::Result<bool> {
    world.check_join(cluster, node);
    let stuck = world.strike(node, &[Fault::PodsDoNotStart]).is_some();
    if let Some(site) = world.site(cluster) {
        if stuck {
            site.let_start(node, false);
        }
        site.join(node, now)?;
    }
    Ok(true)
}

/// What `cluster.yml` does to control planes, and [`UPGRADE`], by itself or behind it.
fn set_up_control_planes(
    world: &mut World,
    operation: &Value,
    inventory: &Inventory,
    now: Timestamp,
) -> io::Result<bool> {
    let cluster = text(&operation["spec"]["cluster"]);
    let is_away = |world: &mut World, name: &str| {
        let host = world.site(&cluster).and_then(|site| site.host(name));
        host.is_some_and(|host| host.machine.is_clean())
    };
    for (place, name) in inventory.control_planes.iter().enumerate() {
        if !is_away(world, name.as_str()) {
            continue;
        }
        if place == 0 {
            // kubeadm init: there is nobody to ask.
            world.violations.push(format!("{name} is made the first of a new cluster"));
        }
        join(world, &cluster, name.as_str(), now)?;
        world.meet_authorities(&cluster, name.as_str())?;
    }
    let address = |name| Some(inventory.host(name)?.address()?.to_owned());
    let Some(site) = world.site(&cluster) else { return Ok(false) };
    let members: Vec<String> = inventory.etcd.iter().filter_map(address).collect();
    site.control_planes.name_members(&members);
    let spec = &operation["spec"];
    let mut hooks = spec["postHook"].as_array().into_iter().flatten();
    if spec["action"] == UPGRADE || hooks.any(|hook| hook["action"] == UPGRADE) {
        let last = inventory.control_planes.last().and_then(address).unwrap_or_default();
        site.control_planes.upgraded(&mut site.api.store(), &last);
    }
    Ok(true)
}

/// What `kubeconfig.yml` does: the kubeconfig leads to the first control plane.
fn publish(world: &mut World, cluster: &str, inventory: &Inventory) -> bool {
    let first = inventory.control_planes.first().and_then(|name| inventory.host(name));
    let Some(address) = first.and_then(|host| host.address()) else { return false };
    let store = &mut *world.management.store();
    let Some((namespace, name)) = kept(store, cluster) else { return false };
    store.edit("configmaps", &namespace, &name, |map| {
        let mut config = parsed(map);
        config["clusters"][0]["cluster"]["server"] = json!(format!("https://{address}:6443"));
        map["data"]["config"] = json!(config.to_string());
    })
}

/// `host:port` to which the kubeconfig leads that Kubean keeps of a cluster.
pub(super) fn kept_server(store: &Store, cluster: &str) -> Option<String> {
    let (namespace, name) = kept(store, cluster)?;
    let config = parsed(store.get("configmaps", &namespace, &name)?);
    let server = config["clusters"][0]["cluster"]["server"].as_str()?;
    Some(server.strip_prefix("https://")?.trim_end_matches('/').to_owned())
}

/// Namespace and name of the ConfigMap with the kubeconfig of a cluster.
fn kept(store: &Store, cluster: &str) -> Option<(String, String)> {
    let reference = &store.get("clusters", "", cluster)?["spec"]["kubeconfRef"];
    Some((text(&reference["namespace"]), text(&reference["name"])))
}

/// A rehearsal writes kubeconfigs as JSON, which is YAML, too.
fn parsed(map: &Value) -> Value {
    let config = map["data"]["config"].as_str().unwrap_or_default();
    serde_json::from_str(config).unwrap_or_default()
}

fn playbook(operation: &Value) -> Option<Playbook> {
    let args = operation["spec"]["extraArgs"].as_str().unwrap_or_default();
    let mut words = args.split_whitespace();
    match operation["spec"]["action"].as_str()? {
        "kubeconfig.yml" => Some(Playbook::Kubeconfig),
        "remove-node.yml" => {
            words.find_map(|w| w.strip_prefix("node=")).map(|n| Playbook::Remove(n.into()))
        }
        "scale.yml" => {
            words.find_map(|w| w.strip_prefix("--limit=")).map(|n| Playbook::Join(n.into()))
        }
        "cluster.yml" | UPGRADE => Some(Playbook::ControlPlanes),
        _ => None,
    }
}

/// The inventory that an operation reads.
fn inventory(store: &Store, operation: &Value) -> Option<Inventory> {
    let name = text(&operation["spec"]["hostsConfRef"]["name"]);
    let map = store.get("configmaps", &home(operation), &name)?;
    Inventory::parse(map["data"][INVENTORY_KEY].as_str()?).ok()
}

fn has(inventory: &Inventory, node: &str) -> bool {
    node.parse().is_ok_and(|name| inventory.host(&name).is_some())
}

fn end_pod(store: &mut Store, run: &Run, operation: &Value, ok: bool) {
    let (time, home) = (store.time(), home(operation));
    let action = text(&operation["spec"]["action"]);
    *store.log_of(&home, &pod_of(&run.name)) = format!(
        "PLAY [{action}] ****\nTASK [rehearsed : nothing is really done] ****\nok: [all]\n\
         login at registry.example with {}\nok: [all] => {{\"ansible_become_pass\": \"{}\"}}\n\
         ok: [all] => ansible_become_password: VAULT;{}\nPLAY RECAP ****\n{}\n",
        SECRETS[1],
        SECRETS[4],
        SECRETS[0],
        if ok { "failed=0" } else { "failed=1: could not match supplied host pattern" }
    );
    store.edit("pods", &home, &pod_of(&run.name), |pod| {
        pod["status"]["phase"] = json!(if ok { "Succeeded" } else { "Failed" });
        pod["status"]["containerStatuses"][0]["state"] =
            json!({ "terminated": { "exitCode": i32::from(!ok), "finishedAt": time } });
    });
    store.edit("jobs", &home, &format!("kubean-{}-job", run.name), |job| {
        let kind = if ok { "Complete" } else { "Failed" };
        job["status"] = json!({
            "startTime": job["status"]["startTime"], "completionTime": time,
            "conditions": [{
                "type": kind, "status": "True", "lastTransitionTime": time,
                "reason": if ok { "CompletionsReached" } else { "BackoffLimitExceeded" },
            }],
        });
    });
}
