//! The `Migration` document: what an operator writes, and how it becomes a plan.

use kube::CustomResource;
use rehull_shared::ids::{ClusterName, NodeName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        calendar::{Freeze, Window},
        policy::Policy,
        profile::ProfileId,
    },
    yaml::{self, Tree},
};

mod nodes;
mod understand;

pub(crate) use nodes::stacked;

pub use crate::yaml::Fault;
pub use understand::{planned, understand};

/// One cluster's move to another operating system.
///
/// The object is cluster-scoped, as Kubean's own are, and a cluster has one migration at a time.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "rehull.dev",
    version = "v1alpha1",
    kind = "Migration",
    status = "MigrationStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name": "Cluster", "type": "string", "jsonPath": ".spec.cluster"}"#,
    printcolumn = r#"{"name": "State", "type": "string", "jsonPath": ".status.state"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MigrationSpec {
    /// Name of the Kubean Cluster.
    #[schemars(with = "String")]
    pub cluster: ClusterName,
    /// The cluster where Kubean's objects live.
    #[serde(default)]
    pub management: Reach,
    /// The cluster whose nodes are migrated.
    #[serde(default)]
    pub workload: Workload,
    /// Namespace of Kubean's operator.
    #[serde(default = "namespace")]
    pub namespace: String,
    /// The operating system to leave, as in centos-7.9.
    #[schemars(with = "String")]
    pub source: ProfileId,
    /// The operating system to reach, as in ubuntu-22.04.
    #[schemars(with = "String")]
    pub target: ProfileId,
    /// What operations are made of.
    pub operations: Operations,
    /// Which workers, and in which order. All of them, in the inventory's, if not given.
    #[serde(default)]
    pub nodes: Nodes,
    /// What becomes of the control planes.
    pub control_planes: ControlPlanes,
    /// How hosts are reinstalled.
    pub installer: Installer,
    /// What protects the cluster from deletion, if anything does: it is switched off before the first
    /// node is touched, and on again before the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<DeletionProtection>,
    /// Two pods that prove the network of a node that has come back, before it takes any other. None
    /// if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_canary: Option<JoinCanary>,
    /// How patient and how strict; production values if not given.
    #[serde(default)]
    pub policy: Policy,
    /// Why values of the policy under their floor are accepted; shown wherever the migration is.
    #[serde(default, rename = "unsafe", skip_serializing_if = "Option::is_none")]
    pub unsafe_because: Option<String>,
    /// When nodes may begin: one does only if it is expected to end in the same window. Always, if
    /// none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// When no node may be under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<Freeze>,
}

/// How a migration is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// Its state, in one word.
    #[serde(default)]
    pub state: String,
}

/// Where a kubeconfig is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reach {
    /// Absolute path on the coordinator's machine. If not given: the service account of the
    /// coordinator's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// Context in it; the current one if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

/// How the workload cluster is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    /// Absolute path on the coordinator's machine. If not given: the kubeconfig that Kubean keeps
    /// in the management cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// Context in it; the current one if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// host:port of every API server. If not given: port 6443 of every control plane of the
    /// inventory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_servers: Vec<String>,
    /// Host or address of a load balancer before the API servers, or of an address that moves between
    /// them. If not given: clients know the API servers themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// What operations are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operations {
    /// The spray-job image of the last deployment, with its tag or digest.
    pub image: String,
    /// The running version of Kubernetes, as kubelets report it, as in v1.27.5.
    pub kubernetes_version: String,
    /// The same as kubespray takes it, where that differs: without the v from kubespray 2.27 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_version_arg: Option<String>,
    /// Whether the image needs facts of all hosts before a join: from kubespray 2.27 on.
    #[serde(default)]
    pub facts_hook: bool,
    /// Package repositories of the target, where hosts do not reach the public ones: address,
    /// suite and components, as in `http://minio:9000/kubean/ubuntu jammy main`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repos: Vec<String>,
}

/// Which workers, and in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nodes {
    /// Only these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub include: Vec<NodeName>,
    /// All but these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub exclude: Vec<NodeName>,
    /// These first, in this order; the others follow in the order of the inventory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub order: Vec<NodeName>,
    /// The one that goes first of all, alone, and is watched longer. If not given: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub canary: Option<NodeName>,
}

/// What becomes of the control planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ControlPlanes {
    /// They are left as they are: the migration ends with the workers.
    Exclude,
    /// They are migrated behind the workers, one by one, the first of the inventory last.
    Include,
}

/// How hosts are reinstalled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Installer {
    /// By a person, who says so by typing the name of the node.
    Manual {},
    /// By a program of the site.
    Command {
        /// Absolute path on the coordinator's machine.
        program: String,
        /// Its arguments. Node and target are in its environment.
        #[serde(default)]
        args: Vec<String>,
    },
}

/// What the pods of join canaries are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinCanary {
    /// An image with a shell and busybox that nodes can pull, with its tag or digest, as in
    /// registry.example/busybox:1.36.
    pub image: String,
}

/// How the deletion protection of a cluster is switched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum DeletionProtection {
    /// By the program that deletionProtection of the coordinator's config.yaml names.
    Hook {
        /// Its arguments, in front of on or off and the name of the cluster.
        #[serde(default)]
        args: Vec<String>,
    },
}

fn namespace() -> String {
    "kubean-system".to_owned()
}

/// Keys of the document itself.
const KEYS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Reads a document.
///
/// # Errors
/// A [`Fault`] with line, column and the path of the field: an unknown field is one.
pub fn parse(text: &str) -> Result<Migration, Fault> {
    let tree = Tree::parse(text)?;
    for entry in tree.entries() {
        if !KEYS.contains(&entry.key.as_ref()) {
            let why = format!("a Migration has only the fields {}", KEYS.join(", "));
            let (line, column, path) = (entry.line, entry.column, entry.key.clone().into_owned());
            return Err(Fault { line, column, path, why });
        }
    }
    for (key, meant) in [("apiVersion", "rehull.dev/v1alpha1"), ("kind", "Migration")] {
        if tree.get(key).and_then(Tree::text) != Some(meant) {
            return Err(Fault::of(key, format!("must be {meant}")));
        }
    }
    if tree.get("metadata").and_then(|metadata| metadata.get("name")).is_none() {
        return Err(Fault::of("metadata.name", "is missing"));
    }
    yaml::read(text)
}

/// The custom resource definition, generated from these types.
pub fn crd_yaml() -> String {
    use kube::CustomResourceExt;
    let mut crd = serde_json::to_value(Migration::crd()).expect("a definition can be written");
    allow_additional(&mut crd);
    serde_saphyr::to_string(&crd).expect("JSON can be written as YAML")
}

/// Takes every `additionalProperties: false` out: an API server refuses definitions with it, and
/// drops unknown fields by itself.
fn allow_additional(schema: &mut serde_json::Value) {
    match schema {
        serde_json::Value::Object(fields) => {
            fields.retain(|key, value| key != "additionalProperties" || *value != false);
            fields.values_mut().for_each(allow_additional);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(allow_additional),
        _ => (),
    }
}

#[cfg(test)]
mod tests;
