//! Everything that can be asked of the rules, by people or by the world. Imperative names.

use rehull_shared::{
    evidence::Evidence,
    ids::{ClusterName, Generation, NodeName, Round},
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    approval::Item,
    event::CopiedPart,
    plan::{Plan, PlannedNode},
    state::{
        BackupProof, BackupTaken, ClusterIdentity, Drain, Extent, HostIdentity, Inputs, Member,
        Outcome, Process, Snapshot, Subject, Token,
    },
};

/// What is asked.
#[expect(clippy::large_enum_variant, reason = "commands are few and short-lived")]
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Become the writer: the first command of every process.
    TakeLeadership,
    /// Time has passed.
    Tick,
    /// Something about one cluster.
    Of(ClusterName, Request),
}

/// What is asked about one cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Begin a migration. `id` is drawn by the asker.
    Start { id: Uuid, plan: Box<Plan>, nodes: Vec<PlannedNode>, by: String },
    /// Begin no new step.
    Pause { by: String },
    /// Begin steps again.
    Resume { by: String },
    /// Ask again what is held; `resubmit` makes a new attempt of the operation.
    Retry { subject: Subject, resubmit: bool, by: String },
    /// Hold a subject at its next safe point, for a reason.
    Hold { subject: Subject, why: String, by: String },
    /// Accept items that speak against a subject's checks, until a time. Of the first control plane
    /// only if `typed` is its name.
    Approve {
        subject: Subject,
        items: Vec<Item>,
        why: String,
        until: Timestamp,
        by: String,
        typed: String,
    },
    /// A backup of the cluster was proved.
    ProveBackup { proof: BackupProof, by: String },
    /// Take approvals back, by the numbers of their items.
    Disapprove { subject: Subject, items: Vec<String>, by: String },
    /// Give a node up and put it back to what it was, or all of them and the migration with them;
    /// only before the point of no return.
    Abort { subject: Subject, by: String },
    /// Delete the Node object that outlived its removal, once its host is proved to be clean.
    DeleteNode { node: NodeName, by: String },
    /// Put a removed node back with the system that it still has; `go_on` lets the other nodes go
    /// on without it.
    RollBack { node: NodeName, go_on: bool, by: String },
    /// A person says that the host is reinstalled.
    ConfirmReinstalled { node: NodeName, by: String },
    /// Open an invitation to enrol.
    IssueToken { node: NodeName, token: Token, by: String },
    /// A host presents its token.
    Enrol { node: NodeName, token_sha256: String, identity: HostIdentity },
    /// Make the certificate of a host's agent worthless.
    RevokeAgent { node: NodeName, by: String },
    /// An answer to a round.
    Submit { subject: Subject, evidence: Evidence },
    /// What an effect has seen or done.
    Report(Report),
}

/// What an effect has seen or done.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Objects for a recovery are stored.
    Exported { sha256: String },
    /// The program for the deletion protection was run for this round, or could not be.
    Protection { round: Round, done: bool, seen: String },
    /// The node is recorded.
    Snapshot { node: NodeName, snapshot: Snapshot },
    /// The eviction is this far.
    Drain { node: NodeName, drain: Drain },
    /// Inputs are stored.
    Inputs { node: NodeName, inputs: Inputs },
    /// The operation exists.
    Submitted { node: NodeName, name: String, uid: String, others: u32 },
    /// A pod of it has started.
    Started { node: NodeName, name: String, pod: String, pod_node: String, image_id: String },
    /// It is over, or nobody knows.
    Ended { node: NodeName, name: String, outcome: Outcome, seen: String, extent: Extent },
    /// A piece of it, numbered from 0 within its part.
    Copied { node: NodeName, name: String, part: CopiedPart, number: u32, text: String },
    /// No more pieces will come.
    Archived { node: NodeName, name: String, seen: String, extent: Extent },
    /// An operation that is not ours exists beside ours.
    Foreign { node: NodeName, name: String },
    /// Processes that outlived the removal.
    Leftovers { node: NodeName, processes: Vec<Process> },
    /// The agent has answered an order to kill.
    LeftoversAnswered { node: NodeName, order: String, seen: String },
    /// The API server has answered the deletion of this very Node object.
    NodeDeletionAnswered { node: NodeName, uid: String, seen: String },
    /// The agent has said farewell.
    Farewell { node: NodeName, generation: Generation },
    /// What tells the cluster from any other.
    Identified { identity: ClusterIdentity },
    /// A backup is stored.
    Backup { node: NodeName, backup: BackupTaken },
    /// Another member of etcd leads.
    LeaderMoved { node: NodeName, seen: String },
    /// What is to be done for a subject has failed for a while, or does so no more.
    Trouble { subject: Subject, work: String, why: Option<String> },
    /// An object is about to be changed, as it was at this revision.
    Changing { node: NodeName, object: String, revision: String, change: String },
    /// An object of the cluster leads elsewhere.
    EndpointMoved { node: NodeName, object: String, from: String, to: String },
    /// The inventory of the Cluster has its new order.
    Reordered { node: NodeName, before_sha256: String, after_sha256: String },
    /// The agent has switched the API server of its host.
    ApiServer { node: NodeName, on: bool, seen: String },
    /// A member of etcd has the address of the removed node.
    MemberLeft { node: NodeName, member: Member },
    /// An agent has answered an order to remove a member.
    MemberAnswered { node: NodeName, order: String, seen: String },
    /// While this control plane is away, the other members of etcd are well, or have ailed for too long.
    Others { node: NodeName, ailing: Option<String> },
    /// The installer is this far.
    Installer { node: NodeName, percent: u8, seen: String, done: bool },
}

impl Request {
    /// A word for it, for traces.
    pub fn name(&self) -> &'static str {
        match self {
            Request::Start { .. } => "start",
            Request::Pause { .. } => "pause",
            Request::Resume { .. } => "resume",
            Request::Retry { .. } => "retry",
            Request::Hold { .. } => "hold",
            Request::Approve { .. } => "approve",
            Request::ProveBackup { .. } => "prove-backup",
            Request::Disapprove { .. } => "disapprove",
            Request::Abort { .. } => "abort",
            Request::DeleteNode { .. } => "delete-node",
            Request::RollBack { .. } => "roll-back",
            Request::ConfirmReinstalled { .. } => "confirm-reinstalled",
            Request::IssueToken { .. } => "issue-token",
            Request::Enrol { .. } => "enrol",
            Request::RevokeAgent { .. } => "revoke-agent",
            Request::Submit { .. } => "evidence",
            Request::Report(_) => "report",
        }
    }
}

impl Report {
    /// The node that it is about; `None` if it is about the cluster.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Report::Exported { .. } | Report::Protection { .. } | Report::Identified { .. } => None,
            Report::Trouble { subject, .. } => subject.node(),
            Report::Snapshot { node, .. }
            | Report::Drain { node, .. }
            | Report::Inputs { node, .. }
            | Report::Submitted { node, .. }
            | Report::Started { node, .. }
            | Report::Ended { node, .. }
            | Report::Copied { node, .. }
            | Report::Archived { node, .. }
            | Report::Foreign { node, .. }
            | Report::Leftovers { node, .. }
            | Report::LeftoversAnswered { node, .. }
            | Report::NodeDeletionAnswered { node, .. }
            | Report::Farewell { node, .. }
            | Report::Backup { node, .. }
            | Report::LeaderMoved { node, .. }
            | Report::Changing { node, .. }
            | Report::EndpointMoved { node, .. }
            | Report::Reordered { node, .. }
            | Report::ApiServer { node, .. }
            | Report::MemberLeft { node, .. }
            | Report::MemberAnswered { node, .. }
            | Report::Others { node, .. }
            | Report::Installer { node, .. } => Some(node),
        }
    }
}

/// A request that the rules do not allow now: an answer to a person, not a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No migration of this cluster is known.
    #[error("no migration of cluster {0} is known: start one with `rehull migrate start -f`")]
    NoMigration(ClusterName),
    /// It has one already.
    #[error("cluster {0} is being migrated already: see `rehull status {0}`")]
    AlreadyRunning(ClusterName),
    /// It does not have this node.
    #[error("the migration of {cluster} has no node {node}: see `rehull status {cluster}`")]
    NoNode {
        /// The cluster.
        cluster: ClusterName,
        /// What was asked for.
        node: NodeName,
    },
    /// The plan cannot be carried out.
    #[error("the plan of {cluster} is refused: {why}")]
    BadPlan {
        /// The cluster.
        cluster: ClusterName,
        /// The field, and what is wrong with it.
        why: String,
    },
    /// It makes no sense now.
    #[error("{subject} is {phase}: {why}")]
    NotNow {
        /// Whom it was about.
        subject: Subject,
        /// Where it is.
        phase: String,
        /// What could be done instead.
        why: String,
    },
    /// A host may not enrol.
    #[error("enrolment of {node} is refused: {why}")]
    Enrolment {
        /// The node it wants to be.
        node: NodeName,
        /// Why not.
        why: &'static str,
    },
}
