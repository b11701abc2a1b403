//! Hosts: who they are, who they were, and who may speak for them.

use rehull_shared::{ids::Generation, time::Timestamp};
use serde::{Deserialize, Serialize};

/// What a node was before it was touched: the part that the rules need. The whole is kept in the
/// store of snapshots under its content hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// UID of the Node object.
    pub node_uid: String,
    /// Whether it was cordoned before.
    pub unschedulable: bool,
    /// Hash of the stored Kubernetes objects.
    pub objects_sha256: String,
    /// Hash of the stored facts of the host.
    pub host_sha256: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// `/sys/class/dmi/id/product_uuid`; empty if the machine has none.
    pub product_uuid: String,
    /// Hardware addresses of the network cards that carry the node's addresses.
    pub macs: Vec<String>,
}

/// A host and its agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The latest enrolment; 0 before the first.
    pub generation: Generation,
    /// Whether a person has revoked that enrolment: nothing of it counts any more.
    pub revoked: bool,
    /// The one token that is open.
    pub token: Option<Token>,
    /// Who enrolled last.
    pub identity: Option<HostIdentity>,
}

/// An invitation to enrol: only its hash is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// SHA-256 of the secret.
    pub sha256: String,
    /// Not valid from here on.
    pub expires: Timestamp,
}

/// What an enrolling host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostIdentity {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `/sys/class/dmi/id/product_uuid`; empty if the machine has none.
    pub product_uuid: String,
    /// `ID` and `VERSION_ID` of `/etc/os-release`.
    pub os: (String, String),
}
