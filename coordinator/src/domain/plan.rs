//! What was agreed on at the start of a migration: it does not change while it runs.

use rehull_shared::ids::{ClusterName, NodeName};
use serde::{Deserialize, Serialize};

use super::{calendar::Calendar, policy::Policy, profile::ProfileId};

/// One migration, as its document was understood. Nodes are planned by events of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Kubean `Cluster`.
    pub cluster: ClusterName,
    /// How to reach the management cluster.
    pub management: Access,
    /// How to reach the workload cluster.
    pub workload: Access,
    /// Namespace of Kubean's operator; operations and their ConfigMaps live there.
    pub namespace: String,
    /// Addresses (`host:port`) of every API server of the workload cluster.
    pub api_servers: Vec<String>,
    /// The OS to leave.
    pub source: ProfileId,
    /// The OS to reach.
    pub target: ProfileId,
    /// Spray-job image of every operation, pinned by tag or digest.
    pub image: String,
    /// The running Kubernetes version, as kubelets report it (`v1.27.5`).
    pub kubernetes_version: String,
    /// `kube_version` as the pinned kubespray wants it: with or without the `v` (errata E16).
    pub kube_version_arg: String,
    /// Whether the pinned image has `facts.yml` (Kubean from 0.22.2 on) and wants it before a join.
    pub facts_hook: bool,
    /// Lines of `enable-repo.yml` for the target OS; empty where hosts reach their repositories.
    pub repos: Vec<String>,
    /// How hosts are reinstalled.
    pub installer: Installer,
    /// Windows, soaks, deadlines, budgets.
    pub policy: Policy,
    /// Why values under their floor are accepted; shown wherever the migration is.
    pub unsafe_because: Option<String>,
    /// Control planes are left as they are: the migration ends with the workers.
    pub control_planes_excluded: bool,
    /// When nodes may begin.
    #[serde(default)]
    pub calendar: Calendar,
    /// How the deletion protection of the cluster is switched off while it is migrated; `None` where
    /// nothing protects it.
    #[serde(default)]
    pub protection: Option<Hook>,
    /// What the pods of join canaries are made of; `None` where nodes come back without one.
    #[serde(default)]
    pub join_canary: Option<JoinCanary>,
    /// Every control plane of the cluster in the order of its inventory, migrated or not. None in plans
    /// of logs older than their migration.
    #[serde(default)]
    pub control_planes: Vec<ControlPlane>,
    /// Host of what stands before the API servers: a load balancer, or an address that moves between
    /// them. `None` where clients know the API servers themselves.
    #[serde(default)]
    pub endpoint: Option<String>,
}

impl Plan {
    /// The control plane of this name.
    pub fn control_plane(&self, name: &NodeName) -> Option<&ControlPlane> {
        self.control_planes.iter().find(|one| one.name == *name)
    }
}

/// A control plane, as the inventory has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlane {
    /// Inventory host, and name of the Node object.
    pub name: NodeName,
    /// Address of the host: that of its member of etcd, too.
    pub address: String,
    /// `host:port` of its API server, one of [`Plan::api_servers`].
    pub api_server: String,
}

/// What a node is to its cluster.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Role {
    /// It runs pods.
    #[default]
    Worker,
    /// An API server and a member of etcd run there, too.
    ControlPlane,
    /// A control plane that playbooks take for the one to ask, because it is the first of the
    /// inventory: it hands that over before it goes.
    FirstControlPlane,
}

impl Role {
    /// Whether an API server and a member of etcd run there.
    pub const fn is_control_plane(self) -> bool {
        matches!(self, Role::ControlPlane | Role::FirstControlPlane)
    }

    /// What it is, as people say it.
    pub const fn words(self) -> &'static str {
        match self {
            Role::Worker => "worker",
            Role::ControlPlane => "control plane",
            Role::FirstControlPlane => "first control plane",
        }
    }
}

/// What the pods of a join canary are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinCanary {
    /// An image with a shell and busybox, pinned by tag or digest.
    pub image: String,
}

/// The coordinator's program for something of its site: which one it is, its own settings say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Arguments of this migration, in front of what is to be done.
    pub args: Vec<String>,
}

/// Where a kubeconfig is. Paths and names only: no credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Path of a kubeconfig on the coordinator's machine; `None` takes the one that Kubean keeps
    /// (workload) or the coordinator's own service account (management).
    pub kubeconfig: Option<String>,
    /// Context in it; `None` takes the current one.
    pub context: Option<String>,
}

/// How hosts are reinstalled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Installer {
    /// A person does it, and says so by typing the name of the node.
    Manual,
    /// A program of the site is run with these arguments.
    Command {
        /// Path of the program on the coordinator's machine.
        program: String,
        /// Its arguments; node and target are in its environment.
        args: Vec<String>,
    },
}

/// One node to be migrated, in the order of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedNode {
    /// Inventory host, and name of the Node object.
    pub name: NodeName,
    /// Address by which Ansible and the cluster reach it; it does not change.
    pub address: String,
    /// The first one is watched longer.
    pub canary: bool,
    /// What it is to its cluster.
    #[serde(default)]
    pub role: Role,
}
