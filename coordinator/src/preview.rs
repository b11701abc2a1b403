//! Tries a plan out on a copy of the state: asks the first gates for real, and changes nothing.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Node as KubeNode;
use kube::{Api, api::ListParams};
use rehull_proto::v1::{Found, PlanResponse, PlannedNode as Shown};
use rehull_shared::{
    ids::{NodeName, Round},
    time::{Span, Timestamp},
};
use uuid::Uuid;

use crate::{
    capacity::{Finding, Model, Object},
    clients::{Endpoint, objects},
    domain::{
        command::{Command, Request},
        decide::decide,
        effect::{Effect, Work},
        event::{Event, Recorded},
        gate::{Asked, Dossier, Gate},
        plan::{Installer, Plan, PlannedNode},
        state::{Fleet, Subject},
    },
    effects::{Context, pass},
    items, projection,
};

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
    let (runs, mut blockers, (found, left_out)) = tokio::join!(
        os_images(plan, context),
        blockers(plan, nodes, fleet, context),
        found(plan, nodes, context)
    );
    blockers.dedup();
    let policy = &plan.policy;
    let windows = policy.absence_window.max(policy.lease_window) + policy.ready_window;
    let seconds = |span: Span| u64::from((windows + span).as_secs());
    let node = |node: &PlannedNode| Shown {
        name: node.name.to_string(),
        address: node.address.clone(),
        canary: node.canary,
        os_image: runs.get(node.name.as_str()).cloned().unwrap_or_default(),
    };
    let each = nodes.iter().map(|node| match node.canary {
        true => seconds(policy.canary_soak),
        false => seconds(policy.soak),
    });
    PlanResponse {
        cluster: plan.cluster.to_string(),
        source: plan.source.to_string(),
        target: plan.target.to_string(),
        image: plan.image.clone(),
        kubernetes_version: plan.kubernetes_version.clone(),
        nodes: nodes.iter().map(node).collect(),
        gates: projection::planned(policy),
        blockers,
        warnings: warnings(plan, left_out),
        under_floor: policy.under_floor().iter().map(ToString::to_string).collect(),
        node_seconds_min: seconds(policy.soak),
        total_seconds_min: each.sum(),
        found,
    }
}

/// What the capacity and disruption preflight finds on each node by itself; nothing where the cluster
/// cannot be read (a blocker says so). What weighs least is left out first where there is too much,
/// and counted.
async fn found(plan: &Plan, nodes: &[PlannedNode], context: &Context) -> (Vec<Found>, usize) {
    let Ok(client) = context.clients.get(plan, Endpoint::Workload).await else {
        return Default::default();
    };
    let Ok(model) = objects::model(&client).await else { return Default::default() };
    let names: Vec<NodeName> = nodes.iter().map(|node| node.name.clone()).collect();
    // Seconds for thousands of nodes: nothing for a thread that others wait for.
    let found = tokio::task::spawn_blocking(move || weighed(&model, names)).await;
    let (found, left_out) = found.unwrap_or_default();
    (found.into_iter().map(shown).collect(), left_out)
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

fn shown((node, finding): (NodeName, Finding)) -> Found {
    let (weight, check) = (finding.weight().words().to_owned(), finding.check().to_string());
    let item = items::of_finding(&finding).map(|item| item.id()).unwrap_or_default();
    let Object { kind, namespace, name, uid } = finding.about;
    let what = finding.what.to_string();
    Found { node: node.to_string(), weight, check, kind, namespace, name, uid, what, item }
}

fn warnings(plan: &Plan, left_out: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if left_out > 0 {
        warnings.push(format!("{left_out} findings of the least weight are left out: too many"));
    }
    if let Some(why) = &plan.unsafe_because {
        warnings.push(format!("values under their floor are accepted, because: {why}"));
    }
    if plan.control_planes_excluded {
        warnings.push(format!("control planes stay on {}", plan.source));
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
    fleet: &Fleet,
    context: &Context,
) -> Vec<String> {
    let now = (context.clock)();
    let fleet = match imagined(plan, nodes, fleet, now) {
        Ok(fleet) => fleet,
        Err(refusal) => return vec![refusal],
    };
    let of_node = |node: &PlannedNode| (Subject::Node(node.name.clone()), Gate::Preflight);
    let subjects = std::iter::once((Subject::Cluster, Gate::ClusterPreflight))
        .chain(nodes.iter().map(of_node))
        .collect::<Vec<_>>();
    let answers = stream::iter(subjects).map(|(subject, gate)| {
        let fleet = &fleet;
        async move { ask(plan, &subject, gate, now, fleet, context).await }
    });
    answers.buffered(AT_ONCE).concat().await
}

/// A copy of the state in which the migration has begun and every node is asked its first gate.
fn imagined(
    plan: &Plan,
    nodes: &[PlannedNode],
    fleet: &Fleet,
    now: Timestamp,
) -> Result<Fleet, String> {
    let cluster = plan.cluster.clone();
    let start = Request::Start {
        id: Uuid::nil(),
        plan: Box::new(plan.clone()),
        nodes: nodes.to_vec(),
        by: "plan".to_owned(),
    };
    let begun = decide(fleet, &Command::Of(cluster.clone(), start), now);
    let mut fleet = begun.map_err(|refusal| refusal.to_string())?.fleet;
    for node in nodes {
        let subject = Subject::Node(node.name.clone());
        for event in [
            Event::NodeStarted { node: node.name.clone() },
            Event::EvidenceRequested { subject, gate: Gate::Preflight, round: FIRST },
        ] {
            let cluster = Some(cluster.clone());
            let recorded = Recorded { at: now, epoch: fleet.epoch, cluster, event };
            fleet.evolve(&recorded).map_err(|corrupt| corrupt.to_string())?;
        }
    }
    Ok(fleet)
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
    why.iter().map(|why| format!("{subject}: {}", projection::blocker(why, Some(now)))).collect()
}
