//! Which control planes are to be there at a moment, and what tells the cluster from any other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Gate, Kind, Migration, Node, Step, Subject};
use crate::domain::{gate::Blocker, plan::ControlPlane};

/// What tells a cluster from any other, and from one that was made anew in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// Id of etcd's cluster, in hexadecimal.
    pub etcd_cluster: String,
    /// SHA-256 of each authority's certificate or key, by its name below the certificates' directory.
    pub authorities: BTreeMap<String, String>,
}

/// A backup of a control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupTaken {
    /// Its name in the store of backups.
    pub name: String,
    /// SHA-256 of etcd's snapshot in it.
    pub snapshot_sha256: String,
    /// Its length in bytes.
    pub snapshot_bytes: u64,
}

/// What a person has seen of a backup: an etcd was made of its snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupProof {
    /// Its name in the store of backups.
    pub backup: String,
    /// SHA-256 of etcd's snapshot in it.
    pub snapshot_sha256: String,
    /// How many objects of Kubernetes that etcd held.
    pub objects: u64,
    /// How many of them were Nodes.
    pub nodes: u32,
}

/// What was done about a member of etcd that outlived the removal of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MemberRemoval {
    /// Nothing.
    #[default]
    Untouched,
    /// An agent of another control plane was ordered to remove it.
    Ordered {
        /// Id of the order.
        order: String,
        /// The member.
        member: Member,
    },
    /// It has answered; what came of it, a new look tells.
    Answered,
}

/// A member of etcd. Its name tells nothing: kubespray gives names by place in the inventory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Its id, in hexadecimal.
    pub id: String,
    /// Where the others reach it.
    pub peer_url: String,
}

impl Migration {
    /// Whether a pause or a hold may take effect before this step: with an API server out of service
    /// for its removal it takes effect behind the removal. Where another member of etcd has ailed
    /// meanwhile, not even a removal is tried again.
    pub fn may_rest(&self, subject: &Subject, next: Step) -> bool {
        let withdrawn = self.bench(subject).role.is_control_plane() && next.removes();
        let frozen = subject.node().and_then(|name| self.node(name)).is_some_and(Node::is_frozen);
        next.is_safe_to_rest_before() && (!withdrawn || frozen)
    }

    /// The API server that nobody may count on: its control plane was taken out of service for its
    /// removal, or is away, and is not proved to be back.
    pub fn apart(&self) -> Option<&str> {
        let node = self.nodes.iter().find(|node| node.is_apart())?;
        Some(self.plan.control_plane(&node.planned.name)?.api_server.as_str())
    }

    /// The control planes whose members of etcd are to be there now. One that is asked whether it is
    /// back is.
    pub fn standing(&self) -> impl Iterator<Item = &ControlPlane> {
        let away = |one: &&ControlPlane| self.node(&one.name).is_some_and(Node::is_away);
        self.plan.control_planes.iter().filter(move |one| !away(one))
    }

    /// The control plane whose removal is about to be tried once more: how far the one before it came
    /// nobody knows, so its member of etcd may be there or not.
    pub fn going_again(&self) -> Option<&ControlPlane> {
        let removes = |node: &Node| node.track.phase.step().is_some_and(Step::removes);
        let node = self.nodes.iter().find(|node| node.is_past_return() && removes(node))?;
        self.plan.control_plane(&node.planned.name)
    }

    /// The control plane that is away, or not yet proved to be back: nobody may ail beside it.
    pub fn away(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.is_missed())
    }

    /// The control planes whose API servers are to serve clients now.
    pub fn serving(&self) -> impl Iterator<Item = &ControlPlane> {
        let withdrawn = |one: &&ControlPlane| {
            self.node(&one.name).is_some_and(|node| node.is_apart() && !node.is_coming_back())
        };
        self.plan.control_planes.iter().filter(move |one| !withdrawn(one))
    }
}

impl Node {
    /// Whether the first remove operation was intended: the point of no return lies behind it.
    pub fn is_past_return(&self) -> bool {
        self.operations.iter().any(|operation| operation.intent.kind == Kind::Remove)
    }

    /// Whether it is a control plane whose API server is stopped, or may be, or is away: until it is
    /// proved to be back.
    pub fn is_apart(&self) -> bool {
        let leaving = |step: Step| step == Step::Ask(Gate::Withdraw) || step.removes();
        self.planned.role.is_control_plane()
            && (self.is_absent() || self.track.phase.step().is_some_and(leaving))
    }

    /// Whether it is a control plane whose member of etcd is not to be there now.
    pub fn is_away(&self) -> bool {
        self.is_missed() && !self.is_coming_back()
    }

    /// Whether it is a control plane without which the cluster must do until it is proved to be back.
    pub fn is_missed(&self) -> bool {
        self.planned.role.is_control_plane() && self.is_absent()
    }

    /// Whether another member of etcd ails while this one is away, or has, and no person has looked since.
    pub fn is_frozen(&self) -> bool {
        self.at_risk || matches!(self.track.hold, Some(Blocker::QuorumAtRisk { .. }))
    }

    /// Whether it is looked at whether its join has brought it back.
    fn is_coming_back(&self) -> bool {
        let looks = [Gate::Join, Gate::Rejoin].map(Step::Ask);
        self.track.phase.step().is_some_and(|step| looks.contains(&step))
    }
}
