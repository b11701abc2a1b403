//! Everything that has happened. Past tense; appended once, never changed.
//!
//! How events grow: a new kind of event is a new variant; a new fact of an old event is a new field
//! at the end of its variant or struct, with `#[serde(default)]`. Names of variants are stored:
//! never rename one. A sample of every event ever released replays in a test for ever.

use rehull_shared::{
    evidence::Evidence,
    ids::{Attempt, ClusterName, Epoch, Generation, NodeName, Round},
    time::{Span, Timestamp},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    approval::Item,
    gate::{Blocker, Gate, Proof},
    plan::{Plan, PlannedNode},
    state::{
        BackupProof, BackupTaken, ClusterIdentity, Drain, Extent, HostIdentity, Inputs, Member,
        OperationIntent, Outcome, Process, Snapshot, Step, Subject, Token,
    },
};

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// When it was decided.
    pub at: Timestamp,
    /// Under whose leadership.
    pub epoch: Epoch,
    /// Whose stream; `None` for the coordinator itself.
    pub cluster: Option<ClusterName>,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A coordinator has begun to write, under the epoch of the record.
    LeadershipTaken,

    /// A migration was asked for and understood; so many `NodePlanned` follow. Before the last of
    /// them nothing of it is begun: a crash may have fallen between them.
    MigrationStarted {
        id: Uuid,
        plan: Box<Plan>,
        by: String,
        #[serde(default)]
        nodes: u32,
    },
    /// A node belongs to it, next in order.
    NodePlanned { node: PlannedNode },
    /// No new step is begun from here on; what runs goes on to its next safe point.
    MigrationPaused { by: String },
    /// Steps are begun again.
    MigrationResumed { by: String },
    /// The objects that a recovery needs are stored under this content hash.
    ObjectsExported { sha256: String },
    /// The site's program for its deletion protection is to be run, to switch it on or off.
    ProtectionIntended { on: bool },
    /// It was run, or could not be: whether it has done what it was to do, and what it said.
    ProtectionAnswered { on: bool, done: bool, seen: String },
    /// The nodes may begin.
    WorkBegun,
    /// Nothing is left to do.
    MigrationCompleted,
    /// A person has given a node up, or with the cluster all that are not past the point of no
    /// return.
    AbortRequested { subject: Subject, by: String },
    /// Every node is over and nothing is left behind; those that were given up are as they were.
    MigrationAborted,

    /// A node's turn has come.
    NodeStarted { node: NodeName },
    /// A gate was asked.
    EvidenceRequested { subject: Subject, gate: Gate, round: Round },
    /// An answer arrived that says something new.
    EvidenceRecorded { subject: Subject, evidence: Evidence },
    /// A gate was passed.
    GatePassed { subject: Subject, proof: Proof },
    /// A person is needed.
    Held { subject: Subject, why: Vec<Blocker>, resume: Step },
    /// A person wants it to be held at its next safe point.
    HoldRequested { subject: Subject, why: String, by: String },
    /// A person has taken a hold back that had not taken effect.
    HoldWithdrawn { subject: Subject, by: String },
    /// A person has asked to go on.
    RetryRequested { subject: Subject, resubmit: bool, by: String },

    /// A person has accepted something that speaks against a check, for a while.
    Approved { subject: Subject, item: Item, by: String, why: String, until: Timestamp },
    /// An approval counts for nothing any more: `by` has taken it back, or its time has come. `item`
    /// is the number of what was accepted.
    ApprovalEnded { subject: Subject, item: String, by: Option<String> },

    /// What the node was is stored.
    SnapshotRecorded { node: NodeName, snapshot: Snapshot },
    /// The eviction of its pods has come further.
    DrainProgressed { node: NodeName, drain: Drain },
    /// Inputs of the next operation are stored.
    InputsPrepared { node: NodeName, inputs: Inputs },
    /// An operation will be created under this name. For a removal: the point of no return.
    OperationIntended { node: NodeName, attempt: Attempt, intent: OperationIntent },
    /// It exists.
    OperationSubmitted { node: NodeName, name: String, uid: String, others: u32 },
    /// It did not start in time; it will be deleted unless it starts before.
    OperationWithdrawn { node: NodeName, name: String },
    /// A pod of it has started.
    OperationStarted {
        node: NodeName,
        name: String,
        pod: String,
        pod_node: String,
        image_id: String,
    },
    /// It is over, or nobody knows.
    OperationEnded {
        node: NodeName,
        name: String,
        outcome: Outcome,
        seen: String,
        #[serde(default)]
        extent: Extent,
    },
    /// It said that it failed, or nobody knows, but evidence proves what it was for.
    AcceptedByEvidence { node: NodeName, name: String, outcome: Outcome },
    /// It has done nothing, so another attempt is made by itself: the how manieth.
    OperationResubmitted { node: NodeName, name: String, number: u32 },
    /// A piece of what it left behind, before retention deletes it.
    OperationCopied { node: NodeName, name: String, part: CopiedPart, number: u32, text: String },
    /// All that could be kept of it is kept.
    OperationArchived {
        node: NodeName,
        name: String,
        seen: String,
        #[serde(default)]
        extent: Extent,
    },
    /// An operation that is not ours was seen beside ours.
    ForeignOperationSeen { node: NodeName, name: String },

    /// The agent is to kill these processes.
    LeftoversOrdered { node: NodeName, order: String, processes: Vec<Process> },
    /// The agent has answered.
    LeftoversAnswered { node: NodeName, order: String, seen: String },
    /// A person wants the Node object deleted that outlived its removal.
    NodeDeletionRequested { node: NodeName, by: String },
    /// The Node object of this UID, and no other, is to be deleted: its host is clean.
    NodeDeletionOrdered { node: NodeName, uid: String, by: String },
    /// The API server has answered.
    NodeDeletionAnswered { node: NodeName, uid: String, seen: String },
    /// A person wants a removed node back as it was: with the system that it still has.
    RollbackRequested { node: NodeName, by: String },
    /// The agent of the old installation has said farewell.
    FarewellSaid { node: NodeName, generation: Generation },
    /// The host may be reinstalled: the data on it is given up.
    ReinstallAuthorized { node: NodeName },
    /// The installer has said how far it is.
    InstallerProgressed { node: NodeName, percent: u8, seen: String },
    /// A person or the installer says that the new system is installed.
    ReinstallAnnounced { node: NodeName, by: String },

    /// A host was invited to enrol.
    TokenIssued { node: NodeName, token: Token, by: String },
    /// A host has enrolled.
    AgentEnrolled { node: NodeName, generation: Generation, identity: HostIdentity },
    /// A person has declared the certificate of this generation, the latest, and an open invitation
    /// worthless.
    AgentRevoked { node: NodeName, generation: Generation, by: String },

    /// What tells the cluster from any other, before anything of it is touched.
    ClusterIdentified { identity: ClusterIdentity },
    /// A backup of the cluster was taken before this control plane is removed.
    BackupRecorded { node: NodeName, backup: BackupTaken },
    /// Another member than that of the node leads etcd from here on.
    LeaderMoved { node: NodeName, seen: String },
    /// What rehull itself is to do for a subject has failed for a while, or does so no more.
    Troubled { subject: Subject, work: String, why: Option<String> },
    /// An object is to be changed, if it is still at this revision: who ends before it is known what came
    /// of that leaves a trace of it.
    ChangeIntended { node: NodeName, object: String, revision: String, change: String },
    /// What is sent to this control plane no more, in which object, and where it is sent instead.
    EndpointMoved { node: NodeName, object: String, from: String, to: String },
    /// The node comes last in the inventory of the Cluster; by the hashes of its text, which is kept.
    InventoryReordered { node: NodeName, before_sha256: String, after_sha256: String },
    /// The agent has taken the API server of its host out of service, or put it back.
    ApiServerSwitched { node: NodeName, on: bool, seen: String },
    /// The agent of another control plane is to remove this very member of etcd.
    MemberRemovalOrdered { node: NodeName, order: String, member: Member },
    /// It has answered.
    MemberRemovalAnswered { node: NodeName, order: String, seen: String },
    /// Etcd has borne no loss for longer than it may, because this control plane is away: people are
    /// warned, or paged.
    FragilityExceeded { node: NodeName, since: Timestamp, limit: Span, page: bool },
    /// While this control plane is away, another member of etcd has ailed for too long: nothing goes on
    /// behind the next safe point without a person.
    QuorumAtRisk { node: NodeName, why: String },
    /// The others are all well again. What is held stays so.
    QuorumRestored { node: NodeName },

    /// A node is finished.
    NodeFinished { node: NodeName },
    /// A node that was given up is as it was before.
    NodeAborted { node: NodeName },

    /// A person has made an etcd of a backup of the cluster, and says what it held.
    BackupProved { proof: BackupProof, by: String },
}

/// Which piece of an operation was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CopiedPart {
    /// The `ClusterOperation`, as JSON.
    Operation,
    /// Its Job, as JSON.
    Job,
    /// Its Pod, as JSON.
    Pod,
    /// The log of its pod.
    Log,
}

impl Event {
    /// Name of the variant, as it is stored.
    pub fn name(&self) -> &'static str {
        match self {
            Event::LeadershipTaken => "LeadershipTaken",
            Event::MigrationStarted { .. } => "MigrationStarted",
            Event::NodePlanned { .. } => "NodePlanned",
            Event::MigrationPaused { .. } => "MigrationPaused",
            Event::MigrationResumed { .. } => "MigrationResumed",
            Event::ObjectsExported { .. } => "ObjectsExported",
            Event::ProtectionIntended { .. } => "ProtectionIntended",
            Event::ProtectionAnswered { .. } => "ProtectionAnswered",
            Event::WorkBegun => "WorkBegun",
            Event::MigrationCompleted => "MigrationCompleted",
            Event::AbortRequested { .. } => "AbortRequested",
            Event::MigrationAborted => "MigrationAborted",
            Event::NodeStarted { .. } => "NodeStarted",
            Event::EvidenceRequested { .. } => "EvidenceRequested",
            Event::EvidenceRecorded { .. } => "EvidenceRecorded",
            Event::GatePassed { .. } => "GatePassed",
            Event::Held { .. } => "Held",
            Event::HoldRequested { .. } => "HoldRequested",
            Event::HoldWithdrawn { .. } => "HoldWithdrawn",
            Event::RetryRequested { .. } => "RetryRequested",
            Event::Approved { .. } => "Approved",
            Event::ApprovalEnded { .. } => "ApprovalEnded",
            Event::SnapshotRecorded { .. } => "SnapshotRecorded",
            Event::DrainProgressed { .. } => "DrainProgressed",
            Event::InputsPrepared { .. } => "InputsPrepared",
            Event::OperationIntended { .. } => "OperationIntended",
            Event::OperationSubmitted { .. } => "OperationSubmitted",
            Event::OperationWithdrawn { .. } => "OperationWithdrawn",
            Event::OperationStarted { .. } => "OperationStarted",
            Event::OperationEnded { .. } => "OperationEnded",
            Event::AcceptedByEvidence { .. } => "AcceptedByEvidence",
            Event::OperationResubmitted { .. } => "OperationResubmitted",
            Event::OperationCopied { .. } => "OperationCopied",
            Event::OperationArchived { .. } => "OperationArchived",
            Event::ForeignOperationSeen { .. } => "ForeignOperationSeen",
            Event::LeftoversOrdered { .. } => "LeftoversOrdered",
            Event::LeftoversAnswered { .. } => "LeftoversAnswered",
            Event::NodeDeletionRequested { .. } => "NodeDeletionRequested",
            Event::NodeDeletionOrdered { .. } => "NodeDeletionOrdered",
            Event::NodeDeletionAnswered { .. } => "NodeDeletionAnswered",
            Event::RollbackRequested { .. } => "RollbackRequested",
            Event::FarewellSaid { .. } => "FarewellSaid",
            Event::ReinstallAuthorized { .. } => "ReinstallAuthorized",
            Event::InstallerProgressed { .. } => "InstallerProgressed",
            Event::ReinstallAnnounced { .. } => "ReinstallAnnounced",
            Event::TokenIssued { .. } => "TokenIssued",
            Event::AgentEnrolled { .. } => "AgentEnrolled",
            Event::AgentRevoked { .. } => "AgentRevoked",
            Event::ClusterIdentified { .. } => "ClusterIdentified",
            Event::BackupRecorded { .. } => "BackupRecorded",
            Event::LeaderMoved { .. } => "LeaderMoved",
            Event::Troubled { .. } => "Troubled",
            Event::ChangeIntended { .. } => "ChangeIntended",
            Event::EndpointMoved { .. } => "EndpointMoved",
            Event::InventoryReordered { .. } => "InventoryReordered",
            Event::ApiServerSwitched { .. } => "ApiServerSwitched",
            Event::MemberRemovalOrdered { .. } => "MemberRemovalOrdered",
            Event::MemberRemovalAnswered { .. } => "MemberRemovalAnswered",
            Event::FragilityExceeded { .. } => "FragilityExceeded",
            Event::QuorumAtRisk { .. } => "QuorumAtRisk",
            Event::QuorumRestored { .. } => "QuorumRestored",
            Event::NodeFinished { .. } => "NodeFinished",
            Event::NodeAborted { .. } => "NodeAborted",
            Event::BackupProved { .. } => "BackupProved",
        }
    }

    /// The node that it is about; `None` if it is about the cluster or the coordinator.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Event::EvidenceRequested { subject, .. }
            | Event::EvidenceRecorded { subject, .. }
            | Event::GatePassed { subject, .. }
            | Event::Held { subject, .. }
            | Event::HoldRequested { subject, .. }
            | Event::HoldWithdrawn { subject, .. }
            | Event::RetryRequested { subject, .. }
            | Event::Troubled { subject, .. }
            | Event::Approved { subject, .. }
            | Event::ApprovalEnded { subject, .. }
            | Event::AbortRequested { subject, .. } => subject.node(),
            Event::NodePlanned { node } => Some(&node.name),
            Event::LeadershipTaken
            | Event::MigrationStarted { .. }
            | Event::MigrationPaused { .. }
            | Event::MigrationResumed { .. }
            | Event::ObjectsExported { .. }
            | Event::ProtectionIntended { .. }
            | Event::ProtectionAnswered { .. }
            | Event::ClusterIdentified { .. }
            | Event::BackupProved { .. }
            | Event::WorkBegun
            | Event::MigrationCompleted
            | Event::MigrationAborted => None,
            Event::NodeStarted { node }
            | Event::SnapshotRecorded { node, .. }
            | Event::DrainProgressed { node, .. }
            | Event::InputsPrepared { node, .. }
            | Event::OperationIntended { node, .. }
            | Event::OperationSubmitted { node, .. }
            | Event::OperationWithdrawn { node, .. }
            | Event::OperationStarted { node, .. }
            | Event::OperationEnded { node, .. }
            | Event::AcceptedByEvidence { node, .. }
            | Event::OperationResubmitted { node, .. }
            | Event::OperationCopied { node, .. }
            | Event::OperationArchived { node, .. }
            | Event::ForeignOperationSeen { node, .. }
            | Event::LeftoversOrdered { node, .. }
            | Event::LeftoversAnswered { node, .. }
            | Event::NodeDeletionRequested { node, .. }
            | Event::NodeDeletionOrdered { node, .. }
            | Event::NodeDeletionAnswered { node, .. }
            | Event::RollbackRequested { node, .. }
            | Event::FarewellSaid { node, .. }
            | Event::ReinstallAuthorized { node }
            | Event::InstallerProgressed { node, .. }
            | Event::ReinstallAnnounced { node, .. }
            | Event::TokenIssued { node, .. }
            | Event::AgentEnrolled { node, .. }
            | Event::AgentRevoked { node, .. }
            | Event::BackupRecorded { node, .. }
            | Event::LeaderMoved { node, .. }
            | Event::ChangeIntended { node, .. }
            | Event::EndpointMoved { node, .. }
            | Event::InventoryReordered { node, .. }
            | Event::ApiServerSwitched { node, .. }
            | Event::MemberRemovalOrdered { node, .. }
            | Event::MemberRemovalAnswered { node, .. }
            | Event::FragilityExceeded { node, .. }
            | Event::QuorumAtRisk { node, .. }
            | Event::QuorumRestored { node }
            | Event::NodeFinished { node }
            | Event::NodeAborted { node } => Some(node),
        }
    }
}
