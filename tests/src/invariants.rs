//! Invariants of the domain reference (its section 6), as predicates over the log alone: they read
//! events, never the state that the rules have made of them.

use std::collections::BTreeMap;

use rehull::domain::{
    event::{Event, Recorded},
    gate::Gate,
    plan::{Plan, Role},
    state::{Kind, Outcome, Subject},
};
use rehull_shared::{
    evidence::{Check, Evidence, Source, Verdict, Witness},
    ids::{NodeName, Round},
    time::{Span, Timestamp},
};

#[derive(Default)]
struct OfNode {
    passed: Vec<(Gate, usize)>,
    round_at: BTreeMap<Round, (Timestamp, usize)>,
    answers: Vec<Evidence>,
    intended: Vec<(String, Kind, usize)>,
    ended: Vec<(String, usize, Outcome)>,
    accepted: Vec<String>,
    resubmitted: u32,
    authorized: Vec<usize>,
    enrolled: Vec<usize>,
    given_up: bool,
    rolled_back: bool,
    recorded: Option<String>,
    residual: Option<usize>,
    /// Whether the last enrolment was revoked.
    revoked: bool,
    finished: bool,
    role: Role,
    /// Whether its turn has come.
    begun: bool,
    /// Whether another member of etcd has ailed while it was away, and no person has spoken since.
    at_risk: bool,
}

impl OfNode {
    /// Whether the point of no return lies behind it, and its end before it.
    fn is_out(&self) -> bool {
        self.is_removed() && !self.finished
    }

    fn is_removed(&self) -> bool {
        self.intended.iter().any(|(_, kind, _)| *kind == Kind::Remove)
    }

    /// Whether it was to be put back, and no operation was made for that: a person may change their mind.
    fn may_be_removed_after_all(&self) -> bool {
        self.rolled_back && self.intended.last().is_some_and(|(_, kind, _)| *kind == Kind::Remove)
    }
}

/// Checks one cluster's log; the error names the invariant and the event.
///
/// # Errors
/// The first violation, with its place in the log.
pub fn check(log: &[Recorded], api_servers: &[String]) -> Result<(), String> {
    let mut nodes: BTreeMap<NodeName, OfNode> = BTreeMap::new();
    let (mut epoch, mut max_out) = (0, 0);
    let (mut planned, mut order) = (None, Vec::new());
    // Whether the deletion protection is, or may be, off; and whether it was said to be.
    let (mut protected, mut may_be_off, mut is_off) = (false, false, false);
    // The gates of a node that is back.
    let mut back = [Gate::Metadata, Gate::Metadata, Gate::Soak];
    for (index, recorded) in log.iter().enumerate() {
        let fail = |rule: &str| Err(format!("invariant {rule} at event {index}: {recorded:?}"));
        if recorded.epoch.0 < epoch {
            return fail("25: the epoch never falls");
        }
        epoch = recorded.epoch.0;
        let at = recorded.at;
        match &recorded.event {
            Event::MigrationStarted { plan, .. } => {
                max_out = plan.policy.max_out as usize;
                planned = Some(&**plan);
                protected = plan.protection.is_some();
                back = [Gate::JoinCanary, Gate::Metadata, Gate::Soak];
                if plan.join_canary.is_none() {
                    back[0] = Gate::Metadata;
                }
            }
            Event::ProtectionIntended { .. } if !protected => {
                return fail("protection: what nothing protects is not switched");
            }
            Event::ProtectionIntended { .. } => (may_be_off, is_off) = (true, false),
            Event::ProtectionAnswered { on, done: true, .. } => {
                (may_be_off, is_off) = (!on, !on);
            }
            Event::NodeStarted { .. } if protected && !is_off => {
                return fail("protection: it is off before any node begins");
            }
            Event::NodePlanned { node } => {
                nodes.entry(node.name.clone()).or_default().role = node.role;
                order.push(node.name.clone());
            }
            Event::NodeStarted { node: name } => {
                let role = nodes.get(name).map(|node| node.role).unwrap_or_default();
                let under_way = |node: &&OfNode| node.begun && !node.finished;
                let mut others = nodes.values().filter(under_way);
                if others.clone().any(|other| other.role.is_control_plane()) {
                    return fail("2: nobody begins while a control plane is under way");
                }
                if role.is_control_plane() && others.next().is_some() {
                    return fail("2: a control plane goes alone");
                }
                let before = order.iter().take_while(|other| *other != name);
                let open = |other: &&NodeName| nodes.get(*other).is_some_and(|one| !one.finished);
                if role.is_control_plane() && before.clone().any(|other| open(&other)) {
                    return fail("10: a control plane goes behind all that are planned before it");
                }
                nodes.entry(name.clone()).or_default().begun = true;
            }
            Event::MigrationCompleted | Event::MigrationAborted if may_be_off => {
                return fail("protection: it is on again before the end");
            }
            Event::EvidenceRequested { subject: Subject::Node(name), round, .. } => {
                let node = nodes.entry(name.clone()).or_default();
                if node.round_at.insert(*round, (at, index)).is_some() {
                    return fail("16: a round is asked once");
                }
            }
            Event::EvidenceRecorded { subject: Subject::Node(name), evidence } => {
                let node = nodes.entry(name.clone()).or_default();
                match node.round_at.last_key_value() {
                    Some((round, (asked, _)))
                        if evidence.round == *round && evidence.observed_at >= *asked => {}
                    _ => return fail("16: evidence answers the open round, after it was asked"),
                }
                node.answers.push(evidence.clone());
            }
            Event::GatePassed { subject: Subject::Node(name), proof } => {
                let node = nodes.entry(name.clone()).or_default();
                let asked = (proof.gate(), proof.round());
                if let Some(why) = unproved(node, name, asked, planned, api_servers) {
                    return fail(&format!("17, 18, 27: {why}"));
                }
                let asked = node.round_at.get(&proof.round()).map(|(_, index)| *index);
                if proof.gate() == Gate::Removal && asked < node.residual {
                    return fail("13: G5 is asked anew after every residual action");
                }
                if proof.gate().verifies_operation() {
                    let (operation, _, outcome) =
                        node.ended.last().expect("an operation has ended");
                    if *outcome != Outcome::Succeeded && !node.accepted.contains(operation) {
                        return fail("5.1: what did not succeed is accepted explicitly");
                    }
                    node.resubmitted = 0;
                }
                node.passed.push((proof.gate(), index));
            }
            Event::OperationIntended { node: name, intent, .. } => {
                let node = nodes.entry(name.clone()).or_default();
                if node.intended.iter().any(|(known, ..)| *known == intent.name) {
                    return fail("24: a name is intended once");
                }
                let admission = match intent.kind {
                    Kind::Remove => Gate::RemoveAdmission,
                    Kind::Join => Gate::JoinAdmission,
                    Kind::Rejoin => Gate::RejoinAdmission,
                    Kind::Kubeconfig => Gate::KubeconfigAdmission,
                    Kind::Reorder => Gate::ReorderAdmission,
                };
                if node.given_up {
                    return fail("21: what was given up is not removed");
                }
                if node.at_risk {
                    return fail("5.4: nothing goes on by itself when a second member has ailed");
                }
                if node.passed.last().map(|(gate, _)| *gate) != Some(admission) {
                    return fail("17: an operation follows its admission and nothing else");
                }
                let admitted = node.passed.last().map(|(_, index)| log[*index].at);
                if admitted.is_none_or(|admitted| at.since(admitted) > Span::from_secs(30)) {
                    return fail("1: an operation follows its admission at once");
                }
                if intent.kind == Kind::Remove && !node.authorized.is_empty() {
                    return fail("21: no removal after the data was given up");
                }
                if intent.kind == Kind::Join && node.revoked {
                    return fail("14: no join on the word of an agent that was revoked");
                }
                if intent.kind == Kind::Join && !joined_in_order(node) {
                    return fail("14: a join follows G5, a reinstall, an enrolment and G7");
                }
                if intent.kind == Kind::Remove && !handed_over(node) {
                    return fail("8: the first control plane has handed over before it goes");
                }
                let back = node.rolled_back && node.authorized.is_empty();
                if (intent.kind == Kind::Rejoin) != back {
                    return fail(
                        "21: after a rollback only the join back, and none after the wipe",
                    );
                }
                node.intended.push((intent.name.clone(), intent.kind, index));
                let open = nodes.values().flat_map(|node| {
                    let ended = |name: &str| node.ended.iter().any(|(known, ..)| known == name);
                    node.intended.iter().filter(move |(name, ..)| !ended(name))
                });
                if open.count() > 1 {
                    return fail("23: one operation of a cluster at a time");
                }
                let out = nodes.values().filter(|node| node.is_out());
                if out.clone().any(|node| node.role.is_control_plane()) && out.clone().count() > 1 {
                    return fail("2: a control plane is out, and nobody else");
                }
                if out.count() > max_out {
                    return fail("29: no more nodes are out than were agreed on");
                }
            }
            Event::OperationEnded { node: name, name: operation, outcome, .. } => {
                let node = nodes.entry(name.clone()).or_default();
                node.ended.push((operation.clone(), index, *outcome));
            }
            Event::AcceptedByEvidence { node: name, name: operation, .. } => {
                nodes.entry(name.clone()).or_default().accepted.push(operation.clone());
            }
            Event::OperationResubmitted { node: name, .. } => {
                let node = nodes.entry(name.clone()).or_default();
                node.resubmitted += 1;
                if node.resubmitted > 2 {
                    return fail("5.8: two attempts are made by themselves, and then a person");
                }
                // The API server of a control plane that is away has nothing to say.
                let own = planned.and_then(|plan| plan.control_plane(name));
                let mut others = api_servers.to_vec();
                others.retain(|at| own.is_none_or(|own| own.api_server != *at));
                if let Some(why) = something_happened(node, name, &others) {
                    return fail(&format!("5.8: what may have done something is repeated: {why}"));
                }
            }
            Event::QuorumAtRisk { node: name, .. } => {
                let node = nodes.entry(name.clone()).or_default();
                if !node.is_out() || !node.role.is_control_plane() {
                    return fail("5.4: a second member ails while a control plane is away");
                }
                node.at_risk = true;
            }
            Event::RetryRequested { subject: Subject::Node(name), resubmit: true, .. }
                if nodes.get(name).is_some_and(OfNode::may_be_removed_after_all) =>
            {
                let node = nodes.entry(name.clone()).or_default();
                (node.rolled_back, node.at_risk) = (false, false);
            }
            Event::RetryRequested { subject: Subject::Node(name), .. }
            | Event::HoldWithdrawn { subject: Subject::Node(name), .. } => {
                nodes.entry(name.clone()).or_default().at_risk = false;
            }
            Event::ReinstallAuthorized { node: name } => {
                let node = nodes.entry(name.clone()).or_default();
                if node.at_risk {
                    return fail("5.4: nothing goes on by itself when a second member has ailed");
                }
                let removal = last(&node.passed, Gate::Removal);
                let is_removal = |name: &str| {
                    let mut known = node.intended.iter();
                    known.any(|(known, kind, _)| known == name && *kind == Kind::Remove)
                };
                let mut ends = node.ended.iter().rev();
                let ended = ends.find(|(name, ..)| is_removal(name)).map(|(_, index, _)| *index);
                if removal.is_none() || removal < ended {
                    return fail("13: data is given up only after G5 proved the last removal");
                }
                node.authorized.push(index);
            }
            Event::AgentEnrolled { node: name, .. } => {
                let node = nodes.entry(name.clone()).or_default();
                node.enrolled.push(index);
                node.revoked = false;
            }
            Event::AgentRevoked { node: name, .. } => {
                nodes.entry(name.clone()).or_default().revoked = true;
            }
            Event::NodeFinished { node: name } => {
                let node = nodes.entry(name.clone()).or_default();
                let order = std::iter::once(&Gate::Join).chain(&back);
                let places: Vec<_> = order.map(|gate| last(&node.passed, *gate)).collect();
                if places.iter().any(Option::is_none) || !places.is_sorted() {
                    return fail("15: a node is finished after G9, G10 and G11");
                }
                node.finished = true;
            }
            Event::SnapshotRecorded { node: name, snapshot } => {
                let uid = snapshot.node_uid.clone();
                nodes.entry(name.clone()).or_default().recorded = Some(uid);
            }
            Event::NodeDeletionOrdered { node: name, uid, .. } => {
                let node = nodes.entry(name.clone()).or_default();
                if node.recorded.as_ref() != Some(uid) {
                    return fail("28: only the recorded Node is deleted");
                }
                let removal = node.intended.last().filter(|(_, kind, _)| *kind == Kind::Remove);
                if removal.is_none_or(|(name, ..)| node.ended.last().map(|e| &e.0) != Some(name)) {
                    return fail("28: a Node is deleted only when its removal has ended");
                }
                if !is_clean(node, name) {
                    return fail("28: a Node is deleted only when its host is proved to be clean");
                }
            }
            Event::LeftoversOrdered { node: name, .. } if of_risk(&nodes, name) => {
                return fail("6: nothing is ended while another member of etcd is not well");
            }
            Event::MemberRemovalOrdered { node: name, .. } => {
                if of_risk(&nodes, name) {
                    return fail("3: no member is removed while another one is not well");
                }
                let node = nodes.entry(name.clone()).or_default();
                let removal = node.intended.last().filter(|(_, kind, _)| *kind == Kind::Remove);
                if removal.is_none_or(|(name, ..)| node.ended.last().map(|e| &e.0) != Some(name)) {
                    return fail(
                        "4: a member is removed only when the removal of its host has ended",
                    );
                }
                if !is_clean(node, name) {
                    return fail("4: a member is removed only when its host is proved to be clean");
                }
            }
            Event::NodeDeletionAnswered { node: name, .. }
            | Event::MemberRemovalAnswered { node: name, .. }
            | Event::LeftoversAnswered { node: name, .. } => {
                nodes.entry(name.clone()).or_default().residual = Some(index);
            }
            Event::AbortRequested { subject: Subject::Node(name), .. } => {
                let node = nodes.entry(name.clone()).or_default();
                if node.is_removed() || node.finished {
                    return fail("21: nothing is given up behind the point of no return");
                }
                node.given_up = true;
            }
            Event::RollbackRequested { node: name, .. } => {
                let node = nodes.entry(name.clone()).or_default();
                if !node.authorized.is_empty() {
                    return fail("21: no way back after the data was given up");
                }
                let open = node.intended.iter().any(|(name, kind, _)| {
                    *kind == Kind::Remove && node.ended.iter().any(|(known, ..)| known == name)
                });
                if !open {
                    return fail("21: only a node whose removal has ended is put back");
                }
                (node.rolled_back, node.at_risk) = (true, false);
            }
            Event::NodeAborted { node: name } if nodes.get(name).is_some_and(|n| n.rolled_back) => {
                let node = nodes.entry(name.clone()).or_default();
                let order = std::iter::once(&Gate::Rejoin).chain(&back);
                let places: Vec<_> = order.map(|gate| last(&node.passed, *gate)).collect();
                if places.iter().any(Option::is_none) || !places.is_sorted() {
                    return fail("15: a node is back after it was looked at, and restored");
                }
                node.finished = true;
            }
            Event::NodeAborted { node: name } => {
                let node = nodes.entry(name.clone()).or_default();
                let back = node.passed.last().is_some_and(|(gate, _)| *gate == Gate::Abort);
                if node.recorded.is_some() && !back {
                    return fail("5.8: what was touched is proved to be as it was");
                }
                if !node.given_up || node.is_removed() {
                    return fail("21: only what was given up in time goes back");
                }
                node.finished = true;
            }
            Event::AbortRequested { subject: Subject::Cluster, .. } | Event::MigrationAborted
                if nodes.values().any(OfNode::is_out) =>
            {
                return fail("29: a migration is not given up while a node is out");
            }
            _ => (),
        }
    }
    Ok(())
}

/// Whether another member of etcd is known to ail while this one is away.
fn of_risk(nodes: &BTreeMap<NodeName, OfNode>, name: &NodeName) -> bool {
    nodes.get(name).is_some_and(|node| node.at_risk)
}

/// Whether the host of a node said in this round that nothing of it runs.
fn is_clean(node: &OfNode, name: &NodeName) -> bool {
    let clean = [Check::KubeletStopped, Check::NoLeftovers, Check::PortsFree];
    let round = node.round_at.last_key_value().map(|(round, _)| *round);
    let agent = Source::Agent(name.clone());
    let says = |check| newest(node, round.unwrap_or_default(), check, &agent);
    clean.iter().all(|check| matches!(says(*check), Some(Verdict::Pass(_))))
}

/// Kubean asks another one, and the new order is applied, if the node is the first.
fn handed_over(node: &OfNode) -> bool {
    let order = [Gate::Kubeconfig, Gate::Reorder, Gate::Reordered, Gate::RemoveAdmission];
    let places = order.map(|gate| last(&node.passed, gate));
    node.role != Role::FirstControlPlane
        || (places.iter().all(Option::is_some) && places.is_sorted())
}

/// The gates at which the API server of a control plane is out of service, or away.
const APART: [Gate; 9] = [
    Gate::Withdraw,
    Gate::RemoveAdmission,
    Gate::Removal,
    Gate::Reinstall,
    Gate::Os,
    Gate::JoinAdmission,
    Gate::Join,
    Gate::RejoinAdmission,
    Gate::Rejoin,
];

fn last(passed: &[(Gate, usize)], gate: Gate) -> Option<usize> {
    passed.iter().rev().find(|(known, _)| *known == gate).map(|(_, index)| *index)
}

/// G5, then both an authorised reinstall and an enrolment, then G7 for that enrolment.
fn joined_in_order(node: &OfNode) -> bool {
    let (removal, os) = (last(&node.passed, Gate::Removal), last(&node.passed, Gate::Os));
    [node.authorized.last(), node.enrolled.last()].into_iter().all(|between| {
        let places = [removal, between.copied(), os];
        places.iter().all(Option::is_some) && places.is_sorted()
    })
}

/// Why the last operation of a node may have done something, whatever its traces say.
fn something_happened(node: &OfNode, name: &NodeName, api_servers: &[String]) -> Option<String> {
    let (operation, kind, _) = node.intended.last()?;
    let (ended, _, outcome) = node.ended.last()?;
    if ended != operation || *outcome == Outcome::Succeeded {
        return Some(format!("{operation} has not ended, or says Succeeded"));
    }
    let agent = Source::Agent(name.clone());
    let servers = || api_servers.iter().cloned().map(Source::ApiServer);
    let asked: Vec<(Check, Source)> = match kind {
        Kind::Remove if node.role.is_control_plane() => servers()
            .map(|at| (Check::NodeAbsent, at))
            .chain([
                (Check::MemberAbsent, Source::ControlPlanes),
                (Check::KubeletStopped, agent.clone()),
                (Check::NodeFilesGone, agent),
            ])
            .collect(),
        Kind::Remove => servers()
            .flat_map(|at| [(Check::NodeAbsent, at.clone()), (Check::LeaseStopped, at)])
            .chain([(Check::KubeletStopped, agent.clone()), (Check::NodeFilesGone, agent)])
            .collect(),
        Kind::Join | Kind::Rejoin => servers().map(|at| (Check::NodeNew, at)).collect(),
        Kind::Kubeconfig => vec![(Check::KubeconfigElsewhere, Source::Management)],
        Kind::Reorder => return Some("nobody could tell".to_owned()),
    };
    let round = node.round_at.last_key_value().map(|(round, _)| *round)?;
    asked.into_iter().find_map(|(check, source)| match newest(node, round, check, &source) {
        Some(Verdict::Fail(_)) => None,
        other => Some(format!("{source} said {other:?} to {check}")),
    })
}

/// The newest answer of a round.
fn newest<'a>(
    node: &'a OfNode,
    round: Round,
    check: Check,
    source: &Source,
) -> Option<&'a Verdict> {
    let mut answers = node.answers.iter().rev();
    let same = |answer: &&Evidence| {
        answer.round == round && answer.check == check && answer.source == *source
    };
    answers.find(same).map(|answer| &answer.verdict)
}

/// Why a gate was not proved by the recorded answers of its round.
fn unproved(
    node: &OfNode,
    name: &NodeName,
    (gate, round): (Gate, Round),
    plan: Option<&Plan>,
    api_servers: &[String],
) -> Option<String> {
    let own = plan.and_then(|plan| plan.control_plane(name)).map(|own| own.api_server.clone());
    let apart = own.clone().filter(|_| APART.contains(&gate));
    for need in gate.needs_of(node.role) {
        let sources: Vec<Source> = match need.witness {
            Witness::Agent => vec![Source::Agent(name.clone())],
            Witness::ApiServers => {
                let all = api_servers.iter().filter(|at| apart.as_ref() != Some(at));
                all.cloned().map(Source::ApiServer).collect()
            }
            Witness::Management => vec![Source::Management],
            Witness::Coordinator => vec![Source::Coordinator],
            Witness::ControlPlanes => vec![Source::ControlPlanes],
            Witness::OwnApiServer => own.iter().cloned().map(Source::ApiServer).collect(),
        };
        for source in sources {
            match newest(node, round, need.check, &source) {
                Some(Verdict::Pass(_)) => (),
                other => return Some(format!("{gate:?}: {} by {source}: {other:?}", need.check)),
            }
        }
    }
    None
}
