//! The operations of nodes, as the corrected runbook has them.
//!
//! Domain reference 1 (S1, S3, S4), with its errata impossible by construction: a hook that touches hosts
//! is limited to the one host that is meant (E6, E7, E8), the image and the version are pinned
//! (E10, E16), and every attempt has a name, an inventory and variables of its own (E18, E21).

use std::collections::BTreeMap;

use rehull_shared::{
    ids::{Epoch, NodeName},
    text::sha256_hex,
};

use super::{
    Arg, BadArg, CLUSTER_LABEL, ClusterOperation, ClusterOperationSpec, Hook, KubeVersion, Ref,
    RepoLine, line, spec_hash,
};
use crate::domain::{
    plan::{Plan, Role},
    state::{Kind, OperationIntent},
};

/// Names of the annotations that mark what is ours.
pub mod annotation {
    /// Leadership under which it was made.
    pub const EPOCH: &str = "rehull.dev/epoch";
    /// The migration; also a label of the ConfigMaps, by which they are found again.
    pub const MIGRATION: &str = "rehull.dev/migration";
    /// The node it is about.
    pub const NODE: &str = "rehull.dev/node";
    /// Which attempt it is.
    pub const ATTEMPT: &str = "rehull.dev/attempt";
    /// What it is to do, as a hash.
    pub const SPEC_HASH: &str = "rehull.dev/spec-hash";
    /// The operation for which a ConfigMap was made.
    pub const OPERATION: &str = "rehull.dev/operation";
    /// W3C trace context.
    pub const TRACEPARENT: &str = "rehull.dev/traceparent";
}

/// Which operations Kubean keeps when there are too many: those of the lowest score, and among
/// equals the newest. It deletes waiting ones too, so the newest of ours must come first always:
/// the same score for all of ours, and lower than anybody gives by hand. A score that falls from
/// one operation to the next would let those of an old migration push out those of a new one.
const SCORE: (&str, &str) = ("kubean.io/eliminate-score", "-1000");

/// Whose operation it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The migration.
    pub migration: uuid::Uuid,
    /// Under whose leadership it is made.
    pub epoch: Epoch,
    /// The node.
    pub node: &'a NodeName,
    /// What it is to its cluster.
    pub role: Role,
}

/// The operation as it was intended.
///
/// # Errors
/// [`BadArg`] if the plan holds a version or a repository that is no argument: its document would
/// have been refused.
pub fn expected(
    plan: &Plan,
    intent: &OperationIntent,
    whose: Identity<'_>,
) -> Result<ClusterOperation, BadArg> {
    let node = || whose.node.clone();
    let version = Arg::KubeVersion(KubeVersion::try_from(plan.kube_version_arg.as_str())?);
    let (action, args, pre, post) = match intent.kind {
        Kind::Remove => (
            "remove-node.yml",
            vec![Arg::Node(node())],
            // Its gathering of service facts is what lets kubespray stop the containers (3.1).
            vec![hook("disable-firewalld.yml", &[Arg::Limit(node())])],
            vec![hook("cluster-info.yml", &[])],
        ),
        Kind::Kubeconfig => ("kubeconfig.yml", vec![], vec![], vec![]),
        Kind::Reorder => {
            let (pre, post) = (vec![hook("ping.yml", &[])], vec![hook("cluster-info.yml", &[])]);
            // Where etcd is a service of the hosts, its members get other names and restart, and then all
            // API servers (domain reference 3.3). `cluster.yml` ends all of them together; an upgrade takes
            // one control plane after the other, but for etcd, which only forks can put in a row.
            let mut args = upgrade(version);
            args.push(Arg::OneByOne);
            (UPGRADE, args, pre, post)
        }
        Kind::Join | Kind::Rejoin if whose.role.is_control_plane() => {
            let repos: &[String] = if intent.kind == Kind::Join { &plan.repos } else { &[] };
            let pre = before_join(plan.facts_hook, repos, whose.node)?;
            let post = after_control_plane_join(version.clone());
            ("cluster.yml", on_control_planes(version), pre, post)
        }
        Kind::Join | Kind::Rejoin => {
            // The repositories of the plan are the target's: an old system keeps its own.
            let repos: &[String] = if intent.kind == Kind::Join { &plan.repos } else { &[] };
            let pre = before_join(plan.facts_hook, repos, whose.node)?;
            ("scale.yml", vec![Arg::Limit(node()), version], pre, vec![])
        }
    };
    let reference = |name: &str| Ref { namespace: plan.namespace.clone(), name: name.to_owned() };
    let spec = ClusterOperationSpec {
        cluster: plan.cluster.to_string(),
        image: plan.image.clone(),
        action_type: "playbook".to_owned(),
        action: action.to_owned(),
        action_source: None,
        extra_args: line(&args),
        hosts_conf_ref: Some(reference(&intent.inputs.inventory)),
        vars_conf_ref: Some(reference(&intent.inputs.vars)),
        ssh_auth_ref: intent.inputs.ssh_secret.as_deref().map(reference),
        active_deadline_seconds: Some(plan.policy.operation_deadline.as_secs().into()),
        pre_hook: pre,
        post_hook: post,
    };
    let mut operation = ClusterOperation::new(&intent.name, spec);
    operation.metadata.annotations = Some(marks(intent, whose, &operation.spec));
    let label = (CLUSTER_LABEL.to_owned(), plan.cluster.to_string());
    operation.metadata.labels = Some(BTreeMap::from([label]));
    Ok(operation)
}

/// `cluster.yml` for control planes alone: the others are there, and stay as they are.
fn on_control_planes(version: Arg) -> Vec<Arg> {
    vec![Arg::LimitControlPlanes, Arg::IgnoreAssertErrors, version, Arg::SkipMultus]
}

/// The playbook by which all control planes learn of a change, one after the other.
const UPGRADE: &str = "upgrade-cluster.yml";

/// What an upgrade to the same version is told.
fn upgrade(version: Arg) -> Vec<Arg> {
    vec![Arg::LimitControlPlanes, Arg::IgnoreAssertErrors, version, Arg::NoDrain]
}

/// The other API servers and members of etcd learn of the new one by an upgrade to the same version
/// (kubespray `docs/nodes.md`, "Adding an etcd node").
fn after_control_plane_join(version: Arg) -> Vec<Hook> {
    vec![hook(UPGRADE, &upgrade(version)), hook("cluster-info.yml", &[])]
}

/// What a host needs before kubespray's own play.
fn before_join(facts: bool, repos: &[String], node: &NodeName) -> Result<Vec<Hook>, BadArg> {
    let mut hooks = vec![hook("ping.yml", &[])];
    if facts {
        hooks.push(hook("facts.yml", &[])); // of all hosts: kubespray from 2.27 on reads them
    }
    if !repos.is_empty() {
        let lines: Result<Vec<RepoLine>, BadArg> =
            repos.iter().map(|line| RepoLine::try_from(line.as_str())).collect();
        let args = [Arg::Limit(node.clone()), Arg::RepoList(lines?)];
        hooks.push(hook("enable-repo.yml", &args));
    }
    hooks.push(hook("disable-firewalld.yml", &[Arg::Limit(node.clone())]));
    Ok(hooks)
}

fn hook(action: &str, args: &[Arg]) -> Hook {
    Hook {
        action_type: "playbook".to_owned(),
        action: action.to_owned(),
        extra_args: line(args),
        ..Hook::default()
    }
}

fn marks(
    intent: &OperationIntent,
    whose: Identity<'_>,
    spec: &ClusterOperationSpec,
) -> BTreeMap<String, String> {
    // The trace of a migration is its id; the span is one that the name of the operation gives.
    let span = &sha256_hex(intent.name.as_bytes())[..16];
    let traceparent = format!("00-{}-{span}-01", whose.migration.simple());
    [
        (annotation::EPOCH, whose.epoch.to_string()),
        (annotation::MIGRATION, whose.migration.to_string()),
        (annotation::NODE, whose.node.to_string()),
        (annotation::ATTEMPT, intent.attempt.to_string()),
        (annotation::SPEC_HASH, spec_hash(spec)),
        (annotation::TRACEPARENT, traceparent),
        (SCORE.0, SCORE.1.to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

#[cfg(test)]
mod tests;
