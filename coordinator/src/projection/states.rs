//! Names of states, as the domain reference 5.2 and 5.6 has them, from the phases of the rules.

use crate::domain::{
    gate::Gate,
    plan::Role,
    state::{Fleet, Kind, Migration, Node, Phase, Progress, Reinstall, Step},
};
use rehull_shared::ids::ClusterName;

/// The path of a worker; its length is 100 %.
const PATH: [&str; 20] = [
    "Planned",
    "PreflightPassed",
    "SnapshotTaken",
    "Cordoned",
    "Drained",
    "RemoveRequested",
    "RemoveRunning",
    "RemoveReported",
    "RemovalVerified",
    "ReinstallRequested",
    "Reinstalling",
    "ReinstallReported",
    "OsVerified",
    "JoinRequested",
    "JoinRunning",
    "JoinReported",
    "JoinVerified",
    "MetadataRestored",
    "Soaking",
    "Done",
];

/// The state of a node.
pub(super) fn of_node(fleet: &Fleet, cluster: &ClusterName, node: &Node) -> &'static str {
    match &node.track.phase {
        Phase::Held { .. } => "Held",
        Phase::Aborted if node.is_rolled_back() => "RolledBack",
        phase => reached(fleet, cluster, node, phase),
    }
}

/// How far along the path a node is, in percent; a held one is where it was held.
pub(super) fn percent(fleet: &Fleet, cluster: &ClusterName, node: &Node) -> u32 {
    let state = reached(fleet, cluster, node, &node.track.phase);
    // A hand-over comes between two states of the path that all nodes take.
    let handing_over = ["KubeconfigMoved", "InventoryReordered", "ReorderApplied"].contains(&state);
    let state = if handing_over { "SnapshotTaken" } else { state };
    let place = PATH.iter().position(|name| *name == state).unwrap_or(0);
    u32::try_from(place * 100 / (PATH.len() - 1)).unwrap_or(0)
}

fn reached(fleet: &Fleet, cluster: &ClusterName, node: &Node, phase: &Phase) -> &'static str {
    match phase {
        Phase::Planned | Phase::Working => "Planned",
        Phase::Done => "Done",
        Phase::Aborted => "Aborted",
        Phase::Asking { gate: Gate::Soak, .. }
        | Phase::Held { resume: Step::Ask(Gate::Soak), .. } => "Soaking",
        Phase::Ready { next } | Phase::Held { resume: next, .. } => before(*next),
        Phase::Asking { gate, .. } => before(Step::Ask(*gate)),
        Phase::Operating => operating(node),
        Phase::Reinstalling(reinstall) => {
            let enrolled = fleet.enrolled_after_farewell(cluster, node).is_some();
            reinstalling(reinstall, enrolled)
        }
    }
}

/// The state that was reached when this step comes next.
fn before(step: Step) -> &'static str {
    match step {
        Step::Ask(Gate::Preflight) | Step::Work => "Planned",
        Step::Ask(
            Gate::ClusterPreflight
            | Gate::Backup
            | Gate::Unprotect
            | Gate::Finalize
            | Gate::ClusterAbort
            | Gate::Protect,
        ) => "Planned",
        Step::Ask(Gate::Abort | Gate::RejoinAdmission | Gate::Rejoin)
        | Step::Submit(Kind::Rejoin) => "Compensating",
        Step::Ask(Gate::Snapshot) => "PreflightPassed",
        Step::Ask(Gate::Cordon) => "SnapshotTaken",
        Step::Ask(Gate::Drain) => "Cordoned",
        Step::Ask(Gate::KubeconfigAdmission) | Step::Submit(Kind::Kubeconfig) => "SnapshotTaken",
        Step::Ask(Gate::Kubeconfig | Gate::Reorder) => "KubeconfigMoved",
        Step::Ask(Gate::ReorderAdmission) | Step::Submit(Kind::Reorder) => "InventoryReordered",
        Step::Ask(Gate::Reordered) => "ReorderApplied",
        Step::Ask(Gate::Quorum | Gate::Withdraw | Gate::RemoveAdmission)
        | Step::Submit(Kind::Remove) => "Drained",
        Step::Ask(Gate::Removal) => "RemoveReported",
        Step::Ask(Gate::Reinstall) | Step::Reinstall => "RemovalVerified",
        Step::Ask(Gate::Os) => "ReinstallReported",
        Step::Ask(Gate::JoinAdmission) | Step::Submit(Kind::Join) => "OsVerified",
        Step::Ask(Gate::Join) => "JoinReported",
        Step::Ask(Gate::JoinCanary | Gate::Metadata) => "JoinVerified",
        Step::Ask(Gate::Soak) => "MetadataRestored",
        Step::Finish => "Soaking",
    }
}

fn operating(node: &Node) -> &'static str {
    let Some(operation) = node.operation() else { return "Planned" };
    match (operation.intent.kind, &operation.progress) {
        (Kind::Remove, Progress::Started { .. }) => "RemoveRunning",
        (Kind::Remove, Progress::Ended { .. }) => "RemoveReported",
        (Kind::Remove, _) => "RemoveRequested",
        (Kind::Join, Progress::Started { .. }) => "JoinRunning",
        (Kind::Join, Progress::Ended { .. }) => "JoinReported",
        (Kind::Join, _) => "JoinRequested",
        (Kind::Rejoin, _) => "Compensating",
        (Kind::Kubeconfig, _) => "KubeconfigMoved",
        (Kind::Reorder, _) => "ReorderApplied",
    }
}

fn reinstalling(reinstall: &Reinstall, enrolled: bool) -> &'static str {
    match (enrolled, reinstall.progress.is_some() || reinstall.announced_by.is_some()) {
        (true, _) => "ReinstallReported",
        (false, true) => "Reinstalling",
        (false, false) => "ReinstallRequested",
    }
}

/// The state of a cluster.
pub(super) fn of_cluster(migration: &Migration) -> &'static str {
    let state = match &migration.track.phase {
        Phase::Held { .. } => return "Held",
        Phase::Done => return "Completed",
        Phase::Aborted => return "Aborted",
        _ if migration.aborted_by.is_some() => return "Aborting",
        Phase::Asking { gate, .. } | Phase::Ready { next: Step::Ask(gate) } => match gate {
            Gate::Backup | Gate::Unprotect => "BackedUp",
            Gate::Finalize | Gate::Protect => "Finalize",
            _ => "Preflight",
        },
        Phase::Ready { next: Step::Work } => "BackedUp",
        Phase::Ready { .. } => "Finalize",
        _ if canary_is_open(migration) => "Canary",
        _ => match open_role(migration) {
            Role::Worker => "Workers",
            Role::ControlPlane => "ControlPlanes",
            Role::FirstControlPlane => "FirstControlPlane",
        },
    };
    if migration.paused_by.is_some() { "Paused" } else { state }
}

/// What the nodes are to their cluster whose turn it is.
fn open_role(migration: &Migration) -> Role {
    let open = migration.nodes.iter().find(|node| !node.track.phase.is_over());
    open.map_or(Role::Worker, |node| node.planned.role)
}

fn canary_is_open(migration: &Migration) -> bool {
    let mut nodes = migration.nodes.iter();
    nodes.any(|node| migration.is_canary(node) && !node.track.phase.is_over())
}
