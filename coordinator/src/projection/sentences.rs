//! A sentence for every event: the same words in `explain`, in exports and in postmortems.

use rehull_shared::text::bounded;

use super::{
    waits::{of_work, reasons},
    words::of_gate,
};
use crate::domain::{
    event::{Event, Recorded},
    gate::Gate,
    plan::Installer,
    state::{Drain, Kind, Outcome, Step, Subject},
};

/// Longest sentence, in bytes.
const SENTENCE_MAX: usize = 400;

/// What happened, in one sentence without its time.
pub fn sentence(recorded: &Recorded) -> String {
    let text = match &recorded.event {
        Event::LeadershipTaken => {
            format!("A coordinator took over; it writes under epoch {}.", recorded.epoch)
        }
        event => of_migration(event)
            .or_else(|| of_evidence(event))
            .or_else(|| of_operation(event))
            .or_else(|| of_control_plane(event))
            .unwrap_or_else(|| of_host(event, recorded)),
    };
    bounded(&text, SENTENCE_MAX)
}

fn of_migration(event: &Event) -> Option<String> {
    Some(match event {
        Event::MigrationStarted { plan, by, .. } => {
            let how = match &plan.installer {
                Installer::Manual => "by hand",
                Installer::Command { program, .. } => program,
            };
            format!(
                "{by} started the move from {} to {}, hosts reinstalled {how}.",
                plan.source, plan.target
            )
        }
        Event::NodePlanned { node } if node.canary => {
            format!("{} ({}) is part of it, as the canary.", node.name, node.address)
        }
        Event::NodePlanned { node } => format!("{} ({}) is part of it.", node.name, node.address),
        Event::MigrationPaused { by } => format!("{by} paused it."),
        Event::MigrationResumed { by } => format!("{by} resumed it."),
        Event::ObjectsExported { sha256 } => {
            format!("The objects of a recovery were stored as {}.", short(sha256))
        }
        Event::ProtectionIntended { on } => {
            format!("The deletion protection is to be switched {}.", switched(*on))
        }
        Event::ProtectionAnswered { on, done: true, seen } => {
            format!("The deletion protection is {}: {seen}.", switched(*on))
        }
        Event::ProtectionAnswered { on, done: false, seen } => {
            format!("The deletion protection was not switched {}: {seen}.", switched(*on))
        }
        Event::WorkBegun => "The nodes may begin.".to_owned(),
        Event::MigrationCompleted => "The migration is complete.".to_owned(),
        Event::AbortRequested { subject: Subject::Cluster, by } => {
            format!("{by} gave the migration up: nodes that were touched go back.")
        }
        Event::AbortRequested { subject: Subject::Node(node), by } => {
            format!("{by} gave {node} up: it goes back to what it was.")
        }
        Event::MigrationAborted => "The migration has ended: it was given up.".to_owned(),
        Event::NodeAborted { node } => format!("{node} was given up; it is as it was."),
        Event::NodeStarted { node } => format!("{node} began."),
        Event::NodeFinished { node } => format!("{node} is done."),
        _ => return None,
    })
}

fn of_evidence(event: &Event) -> Option<String> {
    Some(match event {
        Event::EvidenceRequested { subject, gate, round } => {
            format!("{subject}: {} was asked, round {round}: {}?", gate_name(*gate), of_gate(*gate))
        }
        Event::EvidenceRecorded { subject, evidence } => format!(
            "{subject}: {} said {} to {}: {}",
            evidence.source,
            evidence.verdict.word(),
            evidence.check,
            evidence.verdict.seen()
        ),
        Event::GatePassed { subject, proof } => format!(
            "{subject}: {} was passed on {} confirmations.",
            gate_name(proof.gate()),
            proof.rests_on().len()
        ),
        Event::Held { subject, why, resume } => {
            let (words, more) = match reasons(why, None) {
                (words, 0) => (words, String::new()),
                (words, more) => (words, format!(" (and {more} more)")),
            };
            format!("{subject} is held before it can {}: {words}{more}", step(*resume))
        }
        Event::HoldRequested { subject, why, by } => {
            format!("{by} wants {subject} to be held at its next safe point: {why}")
        }
        Event::HoldWithdrawn { subject, by } => {
            format!("{by} took the hold of {subject} back before it took effect.")
        }
        Event::Approved { subject, item, by, why, until } => {
            format!("{subject}: {by} accepts until {until}: {} Why: {why}", item.words())
        }
        Event::ApprovalEnded { subject, item, by: Some(by) } => {
            format!("{subject}: {by} took the approval of item {item} back.")
        }
        Event::ApprovalEnded { subject, item, by: None } => {
            format!("{subject}: the time of the approval of item {item} is over.")
        }
        Event::RetryRequested { subject, resubmit: false, by } => {
            format!("{by} asked to look at {subject} again.")
        }
        Event::RetryRequested { subject, resubmit: true, by } => {
            format!("{by} asked for a new attempt on {subject}.")
        }
        _ => return None,
    })
}

fn of_operation(event: &Event) -> Option<String> {
    Some(match event {
        Event::InputsPrepared { node, inputs } => {
            format!("{node}: inventory {} and vars {} are stored.", inputs.inventory, inputs.vars)
        }
        Event::OperationIntended { node, attempt, intent } => {
            let what = match intent.kind {
                Kind::Remove => "the removal, from which there is no way back",
                Kind::Join => "the join",
                Kind::Rejoin => "the join with the system that it still has",
                Kind::Kubeconfig => "the renewal of Kubean's kubeconfig from another control plane",
                Kind::Reorder => "the application of the new order of the inventory",
            };
            format!("{node}: {what}, attempt {attempt}, will be operation {}.", intent.name)
        }
        Event::OperationSubmitted { node, name, others, .. } => {
            format!("{node}: operation {name} exists, beside {others} that run.")
        }
        Event::OperationWithdrawn { node, name } => {
            format!("{node}: operation {name} did not start in time and is withdrawn.")
        }
        Event::OperationStarted { node, name, pod, pod_node, .. } => {
            format!("{node}: operation {name} runs as pod {pod} on {pod_node}.")
        }
        Event::OperationEnded { node, name, outcome, seen, .. } => {
            let said = match outcome {
                Outcome::Succeeded => "says that it succeeded",
                Outcome::Failed => "says that it failed",
                Outcome::Unknown => "ended in a way that nobody knows",
            };
            format!("{node}: operation {name} {said} ({seen}); evidence decides.")
        }
        Event::AcceptedByEvidence { node, name, outcome } => {
            format!("{node}: operation {name} {outcome}, and is accepted by evidence.")
        }
        Event::OperationResubmitted { node, name, number } => format!(
            "{node}: operation {name} has done nothing; another attempt is made, the {number}. by \
             itself."
        ),
        Event::OperationCopied { node, name, part, number, .. } => {
            format!("{node}: piece {number} of the {part:?} of operation {name} was kept.")
        }
        Event::OperationArchived { node, name, seen, .. } => {
            format!("{node}: operation {name} is archived ({seen}).")
        }
        Event::ForeignOperationSeen { node, name } => {
            format!("{node}: operation {name}, which is not ours, was seen beside ours.")
        }
        _ => return None,
    })
}

fn of_control_plane(event: &Event) -> Option<String> {
    Some(match event {
        Event::ClusterIdentified { identity } => format!(
            "What tells this cluster from any other was recorded: etcd {}, {} authorities.",
            identity.etcd_cluster,
            identity.authorities.len()
        ),
        Event::BackupRecorded { node, backup } => format!(
            "{node}: backup {} was taken before it goes: {} bytes of etcd, {}.",
            backup.name,
            backup.snapshot_bytes,
            short(&backup.snapshot_sha256)
        ),
        Event::BackupProved { proof, by } => format!(
            "{by} has proved backup {}: an etcd that was made of it held {} objects and {} Nodes.",
            proof.backup, proof.objects, proof.nodes
        ),
        Event::LeaderMoved { node, seen } => format!("{node}: it leads etcd no more: {seen}."),
        Event::Troubled { subject, work, why: Some(why) } => {
            format!("{subject}: rehull itself cannot {}: {why}.", of_work(work))
        }
        Event::Troubled { subject, work, why: None } => {
            format!("{subject}: rehull itself can {} again.", of_work(work))
        }
        Event::ChangeIntended { node, object, revision, change } => {
            format!("{node}: {object} at revision {revision} is to be changed: {change}.")
        }
        Event::EndpointMoved { node, object, from, to } => {
            format!("{node}: {object} leads to {to} instead of {from}.")
        }
        Event::InventoryReordered { node, before_sha256, after_sha256 } => format!(
            "{node}: it comes last in the inventory of the Cluster: {} became {}, and nothing but \
             the order has changed.",
            short(before_sha256),
            short(after_sha256)
        ),
        Event::ApiServerSwitched { node, on: false, seen } => {
            format!("{node}: its API server is out of service: {seen}.")
        }
        Event::ApiServerSwitched { node, on: true, seen } => {
            format!("{node}: its API server is back in service: {seen}.")
        }
        Event::MemberRemovalOrdered { node, member, .. } => format!(
            "{node}: its member of etcd outlived the removal: {} ({}) is to be removed, and no other.",
            member.id, member.peer_url
        ),
        Event::FragilityExceeded { node, since, limit, page } => format!(
            "{node}: etcd bears no loss since {since}, for longer than {limit}: {}.",
            if *page { "somebody must look, now" } else { "somebody should look" }
        ),
        Event::QuorumAtRisk { node, why } => format!(
            "{node}: while it is away, another member of etcd ails: {why}; somebody must look, now."
        ),
        Event::QuorumRestored { node } => {
            format!("{node}: the other members of etcd are well again.")
        }
        Event::MemberRemovalAnswered { node, seen, .. } => {
            format!("{node}: of its member of etcd, an agent says: {seen}")
        }
        _ => return None,
    })
}

fn of_host(event: &Event, recorded: &Recorded) -> String {
    match event {
        Event::SnapshotRecorded { node, snapshot } => {
            let (objects, host) = (&snapshot.objects_sha256, &snapshot.host_sha256);
            let (objects, host) = (short(objects), short(host));
            format!("{node}: what it is was stored: its objects as {objects}, its host as {host}.")
        }
        Event::DrainProgressed { node, drain: Drain { evicted, left, refused } } => {
            let refused = refused.first().map_or_else(String::new, |why| format!("; {why}"));
            format!("{node}: {evicted} pods evicted, {left} to go{refused}.")
        }
        Event::LeftoversOrdered { node, processes, .. } => {
            let names: Vec<_> =
                processes.iter().map(|found| format!("{} {}", found.comm, found.pid)).collect();
            format!("{node}: its agent is to kill what outlived the removal: {}.", names.join(", "))
        }
        Event::LeftoversAnswered { node, seen, .. } => format!("{node}: its agent says: {seen}"),
        Event::NodeDeletionRequested { node, by } => format!(
            "{node}: {by} wants the Node deleted that outlived its removal, once its host is clean."
        ),
        Event::NodeDeletionOrdered { node, uid, by } => {
            format!("{node}: its host is clean, so its Node {uid} is to be deleted, for {by}.")
        }
        Event::NodeDeletionAnswered { node, seen, .. } => format!("{node}: {seen}."),
        Event::RollbackRequested { node, by } => {
            format!("{node}: {by} wants it back with the system that it still has.")
        }
        Event::FarewellSaid { node, generation } => {
            format!("{node}: the agent of generation {generation} said farewell.")
        }
        Event::ReinstallAuthorized { node } => {
            format!("{node}: the host may be reinstalled; the data on it is given up.")
        }
        Event::InstallerProgressed { node, percent, seen } => {
            format!("{node}: the installer is at {percent} %: {seen}")
        }
        Event::ReinstallAnnounced { node, by } => {
            format!("{node}: {by} says that it is reinstalled; its enrolment will prove it.")
        }
        Event::TokenIssued { node, token, by } => {
            format!("{node}: {by} invited its host to enrol until {}.", token.expires)
        }
        Event::AgentRevoked { node, generation, by } => format!(
            "{node}: {by} revoked its agent (generation {generation}); it must enrol anew with a \
             new token."
        ),
        Event::AgentEnrolled { node, generation, identity } => format!(
            "{node}: a host enrolled as generation {generation}: {} {}, machine {}.",
            identity.os.0,
            identity.os.1,
            short(&identity.machine_id)
        ),
        // Every other variant has its sentence above; a test walks all of them.
        _ => recorded.event.name().to_owned(),
    }
}

/// `G5 Removal`, or the name alone for a gate without a number.
pub(crate) fn gate_name(gate: Gate) -> String {
    match gate.number() {
        Some(number) => format!("G{number} {gate:?}"),
        None => format!("{gate:?}"),
    }
}

fn switched(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

pub(super) fn step(step: Step) -> String {
    match step {
        Step::Ask(gate) => format!("pass {}", gate_name(gate)),
        Step::Submit(Kind::Remove) => "be removed".to_owned(),
        Step::Submit(Kind::Join) => "join".to_owned(),
        Step::Submit(Kind::Rejoin) => "join again with the system that it has".to_owned(),
        Step::Submit(Kind::Kubeconfig) => "have Kubean's kubeconfig renewed".to_owned(),
        Step::Submit(Kind::Reorder) => "have the new order of the inventory applied".to_owned(),
        Step::Reinstall => "be reinstalled".to_owned(),
        Step::Work => "begin its nodes".to_owned(),
        Step::Finish => "finish".to_owned(),
    }
}

/// The beginning of a hash or an id, enough to tell two apart.
fn short(text: &str) -> String {
    text.chars().take(12).collect()
}
