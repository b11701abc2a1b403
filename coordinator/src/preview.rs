//! Tries a plan out on a copy of the state: asks the first gates for real, and changes nothing.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Node as KubeNode;
use kube::{Api, api::ListParams};
use rehull_proto::v1::{EtcdResponse, Found, PlanResponse, PlannedNode as Shown, Schedule};
use rehull_shared::{
    evidence::Check,
    ids::{ClusterName, NodeName, Round},
    time::{Span, Timestamp},
};
use uuid::Uuid;

use crate::{
    capacity::{Finding, Model, Object, Weight},
    clients::{Endpoint, objects},
    domain::{
        approval::{Approval, Item},
        calendar::Calendar,
        command::{Command, Request},
        decide::decide,
        effect::{Effect, Work},
        event::{Event, Recorded},
        fragility::{self, Loudness},
        gate::{Asked, Blocker, Dossier, Gate},
        plan::{Installer, Plan, PlannedNode, Role},
        policy::Policy,
        schedule,
        state::{Corrupt, Fleet, Migration, Phase, Subject},
    },
    effects::{Context, pass},
    etcd, items, projection,
};

mod control_planes;

/// Subjects that are asked at the same time.
const AT_ONCE: usize = 8;

/// Nodes of a cluster that are read to show what they run.
const NODES_MAX: u32 = 5_000;

/// Findings in one answer: with 300 bytes each a quarter of what a client takes in.
const FOUND_MAX: usize = 50_000;

/// The first round of the gates that are asked.
const FIRST: Round = Round(1);

/// What a plan would do, and what is in its way now.
pub(crate) async fn preview(
    plan: &Plan,
    nodes: &[PlannedNode],
    fleet: &Fleet,
    context: &Context,
) -> PlanResponse {
    let now = (context.clock)();
    let running = fleet.migrations.get(&plan.cluster).map(Arc::as_ref);
    let running = running.filter(|migration| migration.is_whole() && !migration.is_finished());
    let (runs, mut blockers, (found, left_out), control_planes, etcd) = tokio::join!(
        os_images(plan, context),
        blockers(plan, nodes, running.is_some(), fleet, context),
        found(plan, nodes, context),
        control_planes::lines(plan, nodes, context),
        etcd::ask(&context.agents, fleet, &plan.cluster, now)
    );
    if !plan.control_planes_excluded && context.backups.is_none() {
        let why = "control planes go only behind a backup, and backup is not set in the coordinator's \
                   config.yaml (deploy/backup.md)";
        blockers.push(why.to_owned());
    }
    blockers.dedup();
    let schedule = scheduled(plan, nodes, running, now).unwrap_or_else(|never| {
        blockers.push(never);
        None
    });
    let policy = &plan.policy;
    let node = |node: &PlannedNode| Shown {
        name: node.name.to_string(),
        address: node.address.clone(),
        canary: node.canary,
        os_image: runs.get(node.name.as_str()).cloned().unwrap_or_default(),
        role: node.role.words().to_owned(),
    };
    let highest = nodes.iter().map(|node| node.role).max().unwrap_or_default();
    let found = found.into_iter().map(|found| shown(found, running, now));
    let found: Vec<Found> = found.chain(first(nodes, running, now)).collect();
    let mut warnings = warnings(plan, nodes, left_out, etcd.as_ref());
    warnings.extend(found.iter().filter_map(|found| asks_for_first(&plan.cluster, found)));
    let proved = running.is_some_and(|migration| migration.proved.is_some());
    warnings.extend((highest.is_control_plane() && !proved).then(|| asks_for_proof(&plan.cluster)));
    PlanResponse {
        cluster: plan.cluster.to_string(),
        source: plan.source.to_string(),
        target: plan.target.to_string(),
        image: plan.image.clone(),
        kubernetes_version: plan.kubernetes_version.clone(),
        nodes: nodes.iter().map(node).collect(),
        gates: projection::planned(policy, highest),
        blockers,
        warnings,
        under_floor: policy.under_floor().iter().map(ToString::to_string).collect(),
        node_seconds_min: seconds(policy.operation_windows() + policy.soak),
        total_seconds_min: seconds(shortest(policy, nodes)),
        found,
        calendar: calendar(plan),
        schedule,
        control_planes,
    }
}

fn seconds(span: Span) -> u64 {
    u64::from(span.as_secs())
}

/// The shortest time that all nodes take, from windows and soaks alone: operations run one after the
/// other, and no more nodes than the policy lets are under way.
fn shortest(policy: &Policy, nodes: &[PlannedNode]) -> Span {
    let operations = policy.operation_windows();
    let counted = |canary| {
        let count = nodes.iter().filter(|node| node.canary == canary).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    let others = counted(false);
    let in_turns = (operations + policy.soak).times(others.div_ceil(policy.max_out.max(1)));
    let in_a_row = operations.times(others) + policy.soak.times(others.min(1));
    (operations + policy.canary_soak).times(counted(true)) + in_turns.max(in_a_row)
}

fn calendar(plan: &Plan) -> Vec<String> {
    let Calendar { windows, freezes } = &plan.calendar;
    let windows = windows.iter().map(ToString::to_string);
    windows.chain(freezes.iter().map(ToString::to_string)).collect()
}

/// When the nodes that have not begun would; `Err` says why they never could.
fn scheduled(
    plan: &Plan,
    nodes: &[PlannedNode],
    running: Option<&Migration>,
    now: Timestamp,
) -> Result<Option<Schedule>, String> {
    let left = || nodes.iter().filter(|node| waits(running, node));
    let count = u32::try_from(left().count()).unwrap_or(u32::MAX);
    let length = running.map_or(plan.policy.node_length, Migration::node_length);
    let canary = left().any(|node| node.canary);
    let all = schedule::Schedule::of((&plan.policy, &plan.calendar), count, canary, length, now);
    let all = all.map_err(|_| format!("nodes wait for {}", projection::too_long(length)))?;
    Ok(all.map(|all| Schedule {
        node_seconds: seconds(all.node),
        nodes: count,
        max_out: plan.policy.max_out,
        turns: all.turns,
        work_seconds: seconds(all.works),
        one_by_one_seconds: seconds(all.one_by_one),
        wait_seconds: seconds(all.waits()),
        begins: all.begins.to_string(),
        first_ends: all.first_ends.to_string(),
        ends: all.ends.to_string(),
    }))
}

/// Whether a node has not begun: always, if no migration of its cluster runs.
fn waits(running: Option<&Migration>, planned: &PlannedNode) -> bool {
    running.is_none_or(|migration| {
        migration.node(&planned.name).is_some_and(|node| node.track.phase == Phase::Planned)
    })
}

/// What the capacity and disruption preflight finds on each node by itself; nothing where the cluster
/// cannot be read (a blocker says so). What weighs least is left out first where there is too much,
/// and counted.
async fn found(
    plan: &Plan,
    nodes: &[PlannedNode],
    context: &Context,
) -> (Vec<(NodeName, Finding)>, usize) {
    let Ok(client) = context.clients.get(plan, Endpoint::Workload).await else {
        return Default::default();
    };
    let Ok(model) = objects::model(&client).await else { return Default::default() };
    let names: Vec<NodeName> = nodes.iter().map(|node| node.name.clone()).collect();
    // Seconds for thousands of nodes: nothing for a thread that others wait for.
    tokio::task::spawn_blocking(move || weighed(&model, names)).await.unwrap_or_default()
}

/// The findings of each node, as many as are shown, and how many are left out.
pub(crate) fn weighed(model: &Model, nodes: Vec<NodeName>) -> (Vec<(NodeName, Finding)>, usize) {
    let mut all = Vec::new();
    for (place, node) in nodes.iter().enumerate() {
        let report = model.examine(&[node.as_str()]);
        let findings = report.map(|report| report.findings).unwrap_or_default();
        all.extend(findings.into_iter().map(|finding| (finding.weight(), place, finding)));
    }
    all.sort_by_key(|(weight, place, _)| (*weight, *place));
    let left_out = all.len().saturating_sub(FOUND_MAX);
    all.truncate(FOUND_MAX);
    all.sort_by_key(|(weight, place, _)| (*place, *weight));
    let found = all.into_iter().map(|(_, place, finding)| (nodes[place].clone(), finding));
    (found.collect(), left_out)
}

/// What was found of a node, and whether it is accepted in the migration that runs.
fn shown(
    (node, finding): (NodeName, Finding),
    running: Option<&Migration>,
    now: Timestamp,
) -> Found {
    let (weight, check) = (finding.weight().words().to_owned(), finding.check().to_string());
    let (item, subject) = (items::of_finding(&finding), Subject::Node(node));
    let accepted = item.as_ref().and_then(|item| running?.approval(&subject, item, now));
    let Object { kind, namespace, name, uid } = finding.about;
    let found = Found {
        node: subject.to_string(),
        weight,
        check,
        kind,
        namespace,
        name,
        uid,
        what: finding.what.to_string(),
        item: item.as_ref().map(Item::id).unwrap_or_default(),
        ..Found::default()
    };
    with_approval(found, accepted)
}

fn with_approval(found: Found, accepted: Option<&Approval>) -> Found {
    let Some(Approval { by, until, .. }) = accepted else { return found };
    let weight = "accepted".to_owned();
    Found { weight, accepted_by: by.clone(), accepted_until: until.to_string(), ..found }
}

/// That a person must approve the first control plane, if it is to be migrated.
fn first(nodes: &[PlannedNode], running: Option<&Migration>, now: Timestamp) -> Option<Found> {
    let node = nodes.iter().find(|node| node.role == Role::FirstControlPlane)?;
    let (item, subject) = (items::of_first(&node.name), Subject::Node(node.name.clone()));
    let accepted = running.and_then(|migration| migration.approval(&subject, &item, now));
    let found = Found {
        node: node.name.to_string(),
        weight: Weight::Acceptable.words().to_owned(),
        check: item.check.to_string(),
        kind: "Node".to_owned(),
        name: node.name.to_string(),
        item: item.id(),
        what: item.what,
        ..Found::default()
    };
    Some(with_approval(found, accepted))
}

/// What a person must type for the first control plane, if nobody has yet.
fn asks_for_first(
    cluster: &ClusterName,
    Found { check, node, item, accepted_by, .. }: &Found,
) -> Option<String> {
    let asks = *check == Check::FirstControlPlaneApproved.to_string() && accepted_by.is_empty();
    asks.then(|| {
        format!(
            "{node} is the first control plane: it waits until a person has approved it, which can be \
             done as soon as the migration runs, and asks for its name: \
             rehull migrate approve {cluster} {node} --item {item} --for 72h --why '...'"
        )
    })
}

/// What a person must do once for the backups of a cluster.
fn asks_for_proof(cluster: &ClusterName) -> String {
    format!(
        "no control plane goes until a backup was proved once: `rehull backup take {cluster}`, and as soon \
         as the migration runs `rehull backup prove DIRECTORY --identity KEY --record`, where the key may \
         be; or until a person accepts that none was"
    )
}

fn warnings(
    plan: &Plan,
    nodes: &[PlannedNode],
    left_out: usize,
    etcd: Option<&EtcdResponse>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let ailments = etcd.map(|etcd| etcd.problems.as_slice()).unwrap_or_default();
    warnings.extend(ailments.iter().map(|why| format!("etcd is not healthy: {why}")));
    if left_out > 0 {
        warnings.push(format!("{left_out} findings of the least weight are left out: too many"));
    }
    if let Some(why) = &plan.unsafe_because {
        warnings.push(format!("values under their floor are accepted, because: {why}"));
    }
    if plan.control_planes_excluded {
        warnings.push(format!("control planes stay on {}", plan.source));
    }
    if let Some((times, least)) = fragility::predicted(plan, nodes) {
        warnings.push(format!(
            "etcd bears no loss while a control plane is away: {times} times, each for {least} at \
             least by windows alone, and for two operations and a reinstall; people are warned after \
             {}, and paged after {}",
            plan.policy.fragility_limit(Loudness::Warning),
            plan.policy.fragility_limit(Loudness::Page)
        ));
    }
    if plan.protection.is_some() {
        let words =
            "its deletion protection is switched off before the first node, and on at the end";
        warnings.push(words.to_owned());
    }
    if plan.join_canary.is_none() {
        let words = "no join canary is planned (spec.joinCanary): nothing tries the network of pods on \
                     a node that is back before it takes them";
        warnings.push(words.to_owned());
    }
    if plan.installer == Installer::Manual {
        warnings.push("hosts are reinstalled by a person, who confirms each by its name".into());
    }
    warnings
}

/// What the nodes run, by name; empty where the cluster cannot be asked (a blocker says so).
async fn os_images(plan: &Plan, context: &Context) -> BTreeMap<String, String> {
    let Ok(client) = context.clients.get(plan, Endpoint::Workload).await else {
        return BTreeMap::new();
    };
    let nodes = Api::<KubeNode>::all(client).list(&ListParams::default().limit(NODES_MAX)).await;
    let image = |node: KubeNode| {
        let info = node.status?.node_info?;
        Some((node.metadata.name?, info.os_image))
    };
    nodes.map(|nodes| nodes.items.into_iter().filter_map(image).collect()).unwrap_or_default()
}

async fn blockers(
    plan: &Plan,
    nodes: &[PlannedNode],
    runs: bool,
    fleet: &Fleet,
    context: &Context,
) -> Vec<String> {
    let now = (context.clock)();
    let begun = match begun(plan, nodes, fleet, now) {
        Ok(begun) => begun,
        // What has not begun of the migration that runs can be asked all the same.
        Err(refusal) if runs => {
            let migration = fleet.migrations.get(&plan.cluster).map(Arc::as_ref);
            let waiting = nodes.iter().filter(|node| waits(migration, node));
            let waiting = waiting.map(|node| Subject::Node(node.name.clone())).collect();
            let mut answers = asked(plan, waiting, fleet, now, context).await;
            answers.insert(0, refusal);
            return answers;
        }
        Err(refusal) => return vec![refusal],
    };
    let of_nodes = nodes.iter().map(|node| Subject::Node(node.name.clone()));
    let subjects = std::iter::once(Subject::Cluster).chain(of_nodes).collect();
    asked(plan, subjects, &begun, now, context).await
}

/// What stands in the way of the first gate of each subject, if it were its turn alone.
async fn asked(
    plan: &Plan,
    subjects: Vec<Subject>,
    fleet: &Fleet,
    now: Timestamp,
    context: &Context,
) -> Vec<String> {
    let answers = stream::iter(subjects).map(|subject| async move {
        let (gate, fleet) = match &subject {
            Subject::Cluster => (Gate::ClusterPreflight, Ok(fleet.clone())),
            Subject::Node(node) => (Gate::Preflight, with_turn(fleet, plan, node, now)),
        };
        match fleet {
            Ok(fleet) => ask(plan, &subject, gate, now, &fleet, context).await,
            Err(corrupt) => vec![format!("{subject}: {corrupt}")],
        }
    });
    answers.buffered(AT_ONCE).concat().await
}

/// A copy of the state in which the migration has begun.
fn begun(
    plan: &Plan,
    nodes: &[PlannedNode],
    fleet: &Fleet,
    now: Timestamp,
) -> Result<Fleet, String> {
    let start = Request::Start {
        id: Uuid::nil(),
        plan: Box::new(plan.clone()),
        nodes: nodes.to_vec(),
        by: "plan".to_owned(),
    };
    let begun = decide(fleet, &Command::Of(plan.cluster.clone(), start), now);
    begun.map(|begun| begun.fleet).map_err(|refusal| refusal.to_string())
}

/// A copy of the state in which it is the turn of a node.
fn with_turn(
    fleet: &Fleet,
    plan: &Plan,
    node: &NodeName,
    now: Timestamp,
) -> Result<Fleet, Corrupt> {
    let mut fleet = fleet.clone();
    let subject = Subject::Node(node.clone());
    for event in [
        Event::NodeStarted { node: node.clone() },
        Event::EvidenceRequested { subject, gate: Gate::Preflight, round: FIRST },
    ] {
        let cluster = Some(plan.cluster.clone());
        fleet.evolve(&Recorded { at: now, epoch: fleet.epoch, cluster, event })?;
    }
    Ok(fleet)
}

/// Whether the nodes that go before will have cleared it away.
fn comes_with_the_plan(why: &Blocker) -> bool {
    matches!(why, Blocker::Contradicted { check: Check::OtherControlPlanesDone, .. })
}

async fn ask(
    plan: &Plan,
    subject: &Subject,
    gate: Gate,
    asked: Timestamp,
    fleet: &Fleet,
    context: &Context,
) -> Vec<String> {
    let work = Work::Collect { subject: subject.clone(), gate, round: FIRST };
    let effect = Effect { cluster: plan.cluster.clone(), work };
    let requests = match pass(&effect, fleet, context).await {
        Ok(requests) => requests,
        Err(trouble) => return vec![format!("{subject}: {trouble}")],
    };
    let mut dossier = Dossier::default();
    for request in requests {
        if let Request::Submit { evidence, .. } = request {
            dossier.add(evidence, plan.policy.evidence_max_age);
        }
    }
    let Some(migration) = fleet.migrations.get(&plan.cluster).map(Arc::as_ref) else {
        return Vec::new();
    };
    let asked = Asked { round: FIRST, at: asked };
    let now = (context.clock)();
    let verdict = migration.bench(subject).judge(gate, asked, &dossier, now);
    let why = verdict.err().unwrap_or_default();
    let open = why.iter().filter(|why| !comes_with_the_plan(why));
    open.map(|why| format!("{subject}: {}", projection::blocker(why, Some(now)))).collect()
}
