//! What should be happening now: a function of the state, so a restart forgets nothing.

use rehull_shared::{
    evidence::{Check, Source},
    ids::{Attempt, ClusterName, NodeName, Round},
};

use super::{
    gate::{Dossier, Gate},
    plan::{Installer, Role},
    state::{
        Deletion, Fleet, Kind, Leftovers, Member, MemberRemoval, Migration, Node, Phase, Process,
        Progress, Subject, Switch,
    },
};

/// One thing to be done. Doing it twice is doing it once: the world is asked by name first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Effect {
    /// For which cluster.
    pub cluster: ClusterName,
    /// What.
    pub work: Work,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// Gather answers for an open round.
    Collect { subject: Subject, gate: Gate, round: Round },
    /// Store the objects that a recovery needs.
    Export,
    /// Run the site's program for its deletion protection, for this round.
    SwitchProtection { on: bool, round: Round },
    /// Store what the node is.
    TakeSnapshot { node: NodeName },
    /// Cordon the node of the recorded UID.
    Cordon { node: NodeName },
    /// Evict its pods.
    Drain { node: NodeName },
    /// Make the node of the recorded UID schedulable, if it was.
    Uncordon { node: NodeName },
    /// Store inventory and vars of the next operation.
    PrepareInputs { node: NodeName, kind: Kind, attempt: Attempt },
    /// Create the operation if it is not there, and follow it to its end.
    RunOperation { node: NodeName, name: String },
    /// Delete the operation that did not start, unless it has started.
    WithdrawOperation { node: NodeName, name: String },
    /// Copy what it left behind.
    ArchiveOperation { node: NodeName, name: String },
    /// Have the agent kill processes.
    KillLeftovers { node: NodeName, order: String, processes: Vec<Process> },
    /// Delete the Node object of this UID.
    DeleteNode { node: NodeName, uid: String },
    /// Have the agent of the old installation say farewell.
    Farewell { node: NodeName },
    /// Have the installer reinstall the host.
    Install { node: NodeName, attempt: Attempt },
    /// Cordon the new Node as soon as it is there, until it carries what the old one did.
    HoldBack { node: NodeName },
    /// Start the pods of the node's join canary.
    StartJoinCanary { node: NodeName },
    /// Remove them.
    RemoveJoinCanary { node: NodeName },
    /// Give the node back what it carried.
    RestoreMetadata { node: NodeName },
    /// Remove the objects that were made for operations.
    CleanUp,
    /// Look what tells the cluster from any other.
    Identify,
    /// Have a control plane send a backup, for the one that is about to go.
    TakeBackup { node: NodeName },
    /// Have another member than that of the node lead etcd.
    MoveLeader { node: NodeName },
    /// Have what is sent to the node's API server sent to another one.
    MoveEndpoints { node: NodeName },
    /// Make the bootstrap token with which the signature of `cluster-info` is proved.
    MakeToken { node: NodeName },
    /// Put the node last in the inventory of the Cluster.
    ReorderInventory { node: NodeName },
    /// Have the agent take the API server of its host out of service, or put it back.
    SwitchApiServer { node: NodeName, on: bool },
    /// Have the agent of another control plane remove this very member of etcd.
    RemoveMember { node: NodeName, order: String, member: Member },
}

impl Work {
    /// A word for it, for traces and log lines.
    pub fn name(&self) -> &'static str {
        match self {
            Work::Collect { .. } => "collect",
            Work::Export => "export",
            Work::SwitchProtection { .. } => "switch-protection",
            Work::TakeSnapshot { .. } => "take-snapshot",
            Work::Cordon { .. } => "cordon",
            Work::Drain { .. } => "drain",
            Work::Uncordon { .. } => "uncordon",
            Work::PrepareInputs { .. } => "prepare-inputs",
            Work::RunOperation { .. } => "run-operation",
            Work::WithdrawOperation { .. } => "withdraw-operation",
            Work::ArchiveOperation { .. } => "archive-operation",
            Work::KillLeftovers { .. } => "kill-leftovers",
            Work::DeleteNode { .. } => "delete-node",
            Work::Farewell { .. } => "farewell",
            Work::Install { .. } => "install",
            Work::HoldBack { .. } => "hold-back",
            Work::StartJoinCanary { .. } => "start-join-canary",
            Work::RemoveJoinCanary { .. } => "remove-join-canary",
            Work::RestoreMetadata { .. } => "restore-metadata",
            Work::CleanUp => "clean-up",
            Work::Identify => "identify",
            Work::TakeBackup { .. } => "take-backup",
            Work::MoveLeader { .. } => "move-leader",
            Work::MoveEndpoints { .. } => "move-endpoints",
            Work::MakeToken { .. } => "make-token",
            Work::ReorderInventory { .. } => "reorder-inventory",
            Work::SwitchApiServer { .. } => "switch-api-server",
            Work::RemoveMember { .. } => "remove-member",
        }
    }

    /// Whom it is about.
    pub fn subject(&self) -> Subject {
        match self {
            Work::Collect { subject, .. } => subject.clone(),
            Work::Export | Work::SwitchProtection { .. } | Work::CleanUp | Work::Identify => {
                Subject::Cluster
            }
            Work::TakeSnapshot { node }
            | Work::Cordon { node }
            | Work::Drain { node }
            | Work::Uncordon { node }
            | Work::PrepareInputs { node, .. }
            | Work::RunOperation { node, .. }
            | Work::WithdrawOperation { node, .. }
            | Work::ArchiveOperation { node, .. }
            | Work::KillLeftovers { node, .. }
            | Work::DeleteNode { node, .. }
            | Work::Farewell { node }
            | Work::Install { node, .. }
            | Work::HoldBack { node }
            | Work::StartJoinCanary { node }
            | Work::RemoveJoinCanary { node }
            | Work::RestoreMetadata { node }
            | Work::TakeBackup { node }
            | Work::MoveLeader { node }
            | Work::MoveEndpoints { node }
            | Work::MakeToken { node }
            | Work::ReorderInventory { node }
            | Work::SwitchApiServer { node, .. }
            | Work::RemoveMember { node, .. } => Subject::Node(node.clone()),
        }
    }
}

/// Everything that should be happening now, in a fixed order.
pub fn due(fleet: &Fleet) -> Vec<Effect> {
    let mut due = Vec::new();
    for (cluster, migration) in fleet.migrations.iter().filter(|(_, m)| m.is_whole()) {
        let mut add = |work| due.push(Effect { cluster: cluster.clone(), work });
        due_of_cluster(migration, &mut add);
        for node in &migration.nodes {
            let enrolled = fleet.enrolled_after_farewell(cluster, node).is_some();
            due_of_node(migration, node, enrolled, &mut add);
        }
    }
    due
}

fn due_of_cluster(migration: &Migration, add: &mut impl FnMut(Work)) {
    let Phase::Asking { gate, asked, .. } = &migration.track.phase else { return };
    match gate {
        Gate::Backup if migration.export.is_none() => add(Work::Export),
        Gate::Finalize | Gate::ClusterAbort => add(Work::CleanUp),
        _ => (),
    }
    let control_planes = migration.bench(&Subject::Cluster).role.is_control_plane();
    if *gate == Gate::Backup && control_planes && migration.identity.is_none() {
        add(Work::Identify);
    }
    if let Some(Switch { on, round, .. }) = migration.switching() {
        add(Work::SwitchProtection { on: *on, round: *round });
    }
    add(Work::Collect { subject: Subject::Cluster, gate: *gate, round: asked.round });
}

fn due_of_node(migration: &Migration, node: &Node, enrolled: bool, add: &mut impl FnMut(Work)) {
    let name = || node.planned.name.clone();
    for operation in &node.operations {
        if matches!(operation.progress, Progress::Ended { .. }) && !operation.archived {
            add(Work::ArchiveOperation { node: name(), name: operation.intent.name.clone() });
        }
    }
    match &node.track.phase {
        Phase::Asking { gate, asked, dossier } => {
            if let Some(work) = work_of_gate(node, *gate) {
                add(work);
            }
            work_of_control_plane(node, *gate, dossier, add);
            if *gate == Gate::Metadata && migration.plan.join_canary.is_some() {
                add(Work::RemoveJoinCanary { node: name() });
            }
            add(Work::Collect { subject: Subject::Node(name()), gate: *gate, round: asked.round });
        }
        Phase::Operating => {
            if let Some(operation) = node.operation() {
                if matches!(operation.intent.kind, Kind::Join | Kind::Rejoin) {
                    add(Work::HoldBack { node: name() });
                }
                let operation_name = operation.intent.name.clone();
                add(match operation.progress {
                    Progress::Withdrawing { .. } => {
                        Work::WithdrawOperation { node: name(), name: operation_name }
                    }
                    _ => Work::RunOperation { node: name(), name: operation_name },
                });
            }
        }
        Phase::Reinstalling(reinstall) => {
            let automatic = matches!(migration.plan.installer, Installer::Command { .. });
            if automatic && reinstall.announced_by.is_none() && !enrolled {
                add(Work::Install { node: name(), attempt: node.reinstall });
            }
        }
        Phase::Planned
        | Phase::Ready { .. }
        | Phase::Working
        | Phase::Held { .. }
        | Phase::Done
        | Phase::Aborted => (),
    }
}

/// What must be done so that a gate can be passed.
fn work_of_gate(node: &Node, gate: Gate) -> Option<Work> {
    let name = node.planned.name.clone();
    let inputs = |kind| {
        node.inputs.is_none().then(|| Work::PrepareInputs {
            node: name.clone(),
            kind,
            attempt: node.next_attempt(kind),
        })
    };
    match gate {
        Gate::Snapshot => {
            node.snapshot.is_none().then(|| Work::TakeSnapshot { node: name.clone() })
        }
        Gate::Cordon => Some(Work::Cordon { node: name }),
        Gate::Drain => Some(Work::Drain { node: name }),
        Gate::Abort => Some(Work::Uncordon { node: name }),
        Gate::RemoveAdmission => inputs(Kind::Remove),
        Gate::JoinAdmission => inputs(Kind::Join),
        Gate::RejoinAdmission => inputs(Kind::Rejoin),
        Gate::KubeconfigAdmission => inputs(Kind::Kubeconfig),
        Gate::ReorderAdmission => inputs(Kind::Reorder),
        Gate::Reorder => Some(Work::ReorderInventory { node: name }),
        Gate::Removal => match (&node.leftovers, &node.deletion) {
            (Leftovers::Ordered { order, processes }, _) => Some(Work::KillLeftovers {
                node: name,
                order: order.clone(),
                processes: processes.clone(),
            }),
            (_, Deletion::Ordered { uid }) => {
                Some(Work::DeleteNode { node: name, uid: uid.clone() })
            }
            _ => None,
        },
        Gate::Reinstall => node.farewell.is_none().then(|| Work::Farewell { node: name.clone() }),
        Gate::Join | Gate::Rejoin => Some(Work::HoldBack { node: name }),
        Gate::JoinCanary => Some(Work::StartJoinCanary { node: name }),
        Gate::Metadata => Some(Work::RestoreMetadata { node: name }),
        _ => None,
    }
}

/// Whether an API server may be stopped: this round has seen what must hold before. It may be asked
/// long after the guard.
fn may_stop(node: &Node, dossier: &Dossier) -> bool {
    let first = node.planned.role == Role::FirstControlPlane;
    dossier.passes(Check::EtcdHealthy, &Source::ControlPlanes)
        && dossier.passes(Check::IdentityKept, &Source::ControlPlanes)
        && (!first || dossier.passes(Check::FirstControlPlaneApproved, &Source::Coordinator))
}

/// What must be done beside that so that a control plane can go, or stays.
fn work_of_control_plane(node: &Node, gate: Gate, dossier: &Dossier, add: &mut impl FnMut(Work)) {
    if !node.planned.role.is_control_plane() {
        return;
    }
    let name = || node.planned.name.clone();
    match gate {
        Gate::Quorum => add(Work::MoveEndpoints { node: name() }),
        Gate::Withdraw if node.api_server_on != Some(false) && may_stop(node, dossier) => {
            add(Work::SwitchApiServer { node: name(), on: false });
        }
        // The playbooks of a removal and of a join may have moved them.
        Gate::Removal => add(Work::MoveEndpoints { node: name() }),
        Gate::JoinAdmission | Gate::RejoinAdmission => {
            add(Work::MoveEndpoints { node: name() });
            add(Work::MakeToken { node: name() });
        }
        Gate::Abort if node.api_server_on != Some(true) => {
            add(Work::SwitchApiServer { node: name(), on: true });
        }
        _ => (),
    }
    // An election may make it lead again at any time.
    if matches!(gate, Gate::Quorum | Gate::Withdraw | Gate::RemoveAdmission) {
        add(Work::MoveLeader { node: name() });
    }
    if matches!(gate, Gate::Quorum | Gate::RemoveAdmission) && node.backup.is_none() {
        add(Work::TakeBackup { node: name() });
    }
    if let (Gate::Removal, MemberRemoval::Ordered { order, member }) = (gate, &node.member) {
        let (order, member) = (order.clone(), member.clone());
        add(Work::RemoveMember { node: name(), order, member });
    }
}
