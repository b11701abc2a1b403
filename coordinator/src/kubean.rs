//! Kubean's objects as types, and the operations that rehull makes of them.
//!
//! No YAML is ever made from text here: an argument is a value of a closed grammar, a hook carries
//! its own arguments, and a name is a name of one host.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

mod arguments;
mod build;
mod images;
mod meaning;
mod stored;

pub use arguments::{Arg, BadArg, KubeVersion, RepoLine, line};
pub use build::{Identity, annotation, expected};
pub use images::{manages, mistakes};
pub use meaning::{same_meaning, spec_hash};
pub use stored::{Stored, stored, texts};

/// Key of the inventory in its ConfigMap.
pub const INVENTORY_KEY: &str = "hosts.yml";

/// Key of the variables in their ConfigMap.
pub const VARS_KEY: &str = "group_vars.yml";

/// Annotation by which Kubean names the pod that it has seen running: the proof of a start. An
/// operation that is made with it is suspended, so nothing here ever writes it.
pub const ACTOR: &str = "kubean.io/actor";

/// Label by which Kubean finds the operations of a cluster.
pub const CLUSTER_LABEL: &str = "clusterName";

/// A namespace and a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ref {
    /// Namespace.
    #[serde(default)]
    pub namespace: String,
    /// Name.
    #[serde(default)]
    pub name: String,
}

/// What a Kubean cluster is made of.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(group = "kubean.io", version = "v1alpha1", kind = "Cluster", schema = "disabled")]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// ConfigMap with the inventory.
    #[serde(default)]
    pub hosts_conf_ref: Ref,
    /// ConfigMap with the variables.
    #[serde(default)]
    pub vars_conf_ref: Ref,
    /// ConfigMap with an administrator's kubeconfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconf_ref: Option<Ref>,
    /// Secret with the ssh key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_auth_ref: Option<Ref>,
}

/// What an operation is to do.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "kubean.io",
    version = "v1alpha1",
    kind = "ClusterOperation",
    status = "OperationStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterOperationSpec {
    /// The Kubean cluster.
    #[serde(default)]
    pub cluster: String,
    /// Spray-job image.
    #[serde(default)]
    pub image: String,
    /// Always a playbook here.
    #[serde(default)]
    pub action_type: String,
    /// Name of the playbook.
    #[serde(default)]
    pub action: String,
    /// `builtin`, which is also the default, or `configmap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_source: Option<String>,
    /// Arguments of the playbook, on one line; a shell reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_args: Option<String>,
    /// Own copy of the inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts_conf_ref: Option<Ref>,
    /// Own copy of the variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vars_conf_ref: Option<Ref>,
    /// Secret with the ssh key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_auth_ref: Option<Ref>,
    /// Seconds after which the Job is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
    /// Run before, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre_hook: Vec<Hook>,
    /// Run after, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_hook: Vec<Hook>,
}

/// A playbook before or after the main one. It inherits no arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Always a playbook here.
    #[serde(default)]
    pub action_type: String,
    /// Name of the playbook.
    #[serde(default)]
    pub action: String,
    /// `builtin`, which is also the default, or `configmap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_source: Option<String>,
    /// Where a playbook of the source `configmap` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_source_ref: Option<Ref>,
    /// Arguments of the playbook, on one line; a shell reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_args: Option<String>,
}

/// What the operator says of an operation: a hint, never a fact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus {
    /// Empty, `Running`, `Succeeded` or `Failed`.
    #[serde(default)]
    pub status: String,
    /// The Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_ref: Option<Ref>,
    /// When the Job was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// Somebody changed what is to be run after it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_modified: Option<bool>,
}

impl ClusterOperation {
    /// Name of its Job. The operator adopts whatever has this name.
    pub fn job_of(operation: &str) -> String {
        format!("kubean-{operation}-job")
    }

    /// The word of its status; empty before it is Running, and for ever if it is stuck.
    pub fn word(&self) -> &str {
        self.status.as_ref().map_or("", |status| &status.status)
    }

    /// Whether the operator will never touch it again. Everything else may run or begin to run.
    pub fn is_over(&self) -> bool {
        matches!(self.word(), "Succeeded" | "Failed")
    }
}
