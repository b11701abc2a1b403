//! `rehull rehearse`: the migration of a document, rehearsed on a copy of its cluster that is read
//! once. Says what would be held, where and with which words, how long the whole would take, and
//! what clients may notice.

use std::path::PathBuf;

use rehull_shared::{
    ids::NodeName,
    text::sha256_hex,
    time::{Span, Timestamp},
};
use serde::Serialize;

use super::{
    api::Api,
    cluster::Original,
    copy::copy,
    driver::Script,
    faults::Faults,
    play::{Played, directory, play},
};
pub use super::{
    driver::Error,
    faults::Fault,
    play::Scene,
    record::{Caught, Hold, Went},
};
use crate::{
    capacity::{Finding, Object, Weight},
    clients::{Clients, objects},
    domain::plan::{Plan, PlannedNode},
    preview::weighed,
};

/// What holds of every rehearsal: hosts are not read.
const ASSUMED: [&str; 6] = [
    "hosts are well but for the faults: clocks, disks, package managers, certificates, addresses",
    "an operation takes 2.5 to 5.5 minutes, a reinstall 11, a person 2 to 6 to come",
    "backups of control planes are set up, and one is proved; a person has approved the first of them",
    "etcd is stacked, well, and keeps up",
    "pods start 10 s after they have a node; those that were not well before stay so",
    "nobody else changes anything meanwhile",
];

/// A fault that was chosen, and the node that it strikes: the next one of the plan, if not given.
pub type Chosen = (Fault, Option<NodeName>);

/// What is asked of a rehearsal.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is not chosen follows from it.
    pub seed: u64,
    /// Faults that are chosen.
    pub chosen: Vec<Chosen>,
    /// How many are drawn beside them.
    pub drawn: usize,
    /// Directory of the log, which must not hold one yet; it is thrown away if there is none.
    pub keep: Option<PathBuf>,
    /// When it begins.
    pub begin: Timestamp,
}

/// What a rehearsal has shown.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The cluster.
    pub cluster: String,
    /// The OS to leave.
    pub source: String,
    /// The OS to reach.
    pub target: String,
    /// Where what is not chosen follows from.
    pub seed: u64,
    /// Objects that were read.
    pub objects: usize,
    /// Whether it came to its end.
    pub finished: bool,
    /// How long the whole took: virtual time.
    pub took: Span,
    /// How each node went, in the order of the plan.
    pub nodes: Vec<Went>,
    /// Each fault that struck, and what caught it.
    pub faults: Vec<Caught>,
    /// Faults that found nothing to strike, as `NAME@NODE`.
    pub idle: Vec<String>,
    /// Everything that was held, in order.
    pub held: Vec<Hold>,
    /// What clients may notice.
    pub clients: Vec<Notice>,
    /// What is assumed of what cannot be read.
    pub assumed: Vec<&'static str>,
    /// What must never happen, and did.
    pub violations: Vec<String>,
}

/// Something that clients may notice.
#[derive(Clone, Debug, Serialize)]
pub struct Notice {
    /// What it is about, as in `Deployment shop/web`.
    pub about: String,
    /// The node whose turn it is due to; empty if it was seen in the rehearsal.
    pub node: String,
    /// In words.
    pub words: String,
}

impl Report {
    /// Whether every fault that struck was caught, and nothing happened that must not.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.faults.iter().all(|fault| fault.caught.is_some())
    }

    /// Whether something would be held because of the cluster as it is.
    pub fn is_held(&self) -> bool {
        !self.finished || self.held.iter().any(|hold| hold.fault.is_empty())
    }
}

/// What can be seen on the way.
pub enum Step<'a> {
    /// Objects of a kind are read.
    Read(&'static str, usize),
    /// The rehearsal is under way.
    Scene(Scene<'a>),
}

/// A fault was chosen that cannot strike.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// There is no such node.
    #[error("--fault {0}@{1}: the plan has no such node; it has {2}")]
    NoSuchNode(Fault, NodeName, String),
    /// It strikes nodes of another role.
    #[error("--fault {0}: it can strike only {1}")]
    Elsewhere(Fault, String),
}

/// Which fault strikes which node: the chosen ones, and those that the seed draws.
///
/// # Errors
/// If a node was named that the plan does not have, or that the fault cannot strike.
pub fn faults(options: &Options, nodes: &[PlannedNode]) -> Result<Faults, Misplaced> {
    let mut faults = Faults::new();
    let mut turn = nodes.iter().cycle();
    for (fault, name) in &options.chosen {
        let node = match name {
            Some(name) => nodes.iter().find(|node| node.name == *name).ok_or_else(|| {
                let known: Vec<&str> =
                    nodes.iter().take(20).map(|node| node.name.as_str()).collect();
                Misplaced::NoSuchNode(*fault, name.clone(), known.join(", "))
            })?,
            None => {
                let mut next = turn.by_ref().take(nodes.len());
                next.find(|node| fault.strikes(node.role))
                    .ok_or_else(|| Misplaced::of(*fault, nodes))?
            }
        };
        if !fault.strikes(node.role) {
            return Err(Misplaced::of(*fault, nodes));
        }
        faults.insert((node.name.to_string(), *fault));
    }
    let order = |what: &str| sha256_hex(format!("{}/drawn/{what}", options.seed).as_bytes());
    let mut drawn = Fault::ALL;
    drawn.sort_by_key(|fault| order(fault.name()));
    let mut places: Vec<&PlannedNode> = nodes.iter().collect();
    places.sort_by_key(|node| order(node.name.as_str()));
    let mut places = places.into_iter().cycle();
    let chosen: Vec<Fault> = faults.iter().map(|(_, fault)| *fault).collect();
    let can = |fault: &Fault| nodes.iter().any(|node| fault.strikes(node.role));
    let left = drawn.into_iter().filter(|fault| !chosen.contains(fault) && can(fault));
    for fault in left.take(options.drawn) {
        let Some(node) = places.find(|node| fault.strikes(node.role)) else { break };
        faults.insert((node.name.to_string(), fault));
    }
    Ok(faults)
}

impl Misplaced {
    fn of(fault: Fault, nodes: &[PlannedNode]) -> Self {
        let suited = nodes.iter().filter(|node| fault.strikes(node.role));
        let suited: Vec<&str> = suited.map(|node| node.name.as_str()).collect();
        Self::Elsewhere(
            fault,
            match suited.as_slice() {
                [] => "control planes, and the plan has none".to_owned(),
                suited => suited.join(", "),
            },
        )
    }
}

/// Reads the cluster of a document that was understood, and rehearses its migration.
///
/// # Errors
/// If the cluster cannot be read, the directory cannot be written, or a part of the coordinator
/// dies.
pub async fn rehearse(
    (document, plan, nodes): (&str, &Plan, &[PlannedNode]),
    (options, faults): (&Options, Faults),
    clients: &Clients,
    show: &mut (dyn FnMut(Step<'_>) + Send),
) -> Result<Report, Error> {
    let mut tell = |kind, count| show(Step::Read(kind, count));
    let original = copy(document, plan, nodes, clients, &mut tell).await?;
    let objects = original.workload.len() + original.management.len();
    let found = found(&original, options.begin).await;
    let (dir, thrown_away) = directory(options.keep.as_ref(), "rehull-rehearsal-")?;
    let script = Script {
        seed: options.seed.to_string(),
        begin: options.begin,
        originals: vec![original],
        faults: faults.clone(),
    };
    let played = play(&dir, script, &mut |scene| show(Step::Scene(scene))).await;
    if thrown_away {
        _ = std::fs::remove_dir_all(&dir); // a temporary directory: the system throws it away, too
    }
    let Played { record, deeds, violations, away, idle, finished, .. } = played?;
    let struck: Faults = faults.difference(&idle).cloned().collect();
    let (took, nodes) = record.went();
    let mut clients = Vec::new();
    for (_, (kind, namespace, name), span, still) in away {
        let words = match still {
            true => format!("no pod of it was Ready for {span}, and none was at the end"),
            false => format!("no pod of it was Ready for {span} in all"),
        };
        let about = format!("{kind} {namespace}/{name}");
        clients.push(Notice { about, node: String::new(), words });
    }
    clients.extend(found);
    Ok(Report {
        cluster: plan.cluster.to_string(),
        source: plan.source.to_string(),
        target: plan.target.to_string(),
        seed: options.seed,
        objects,
        finished,
        took,
        nodes,
        held: record.holds(&struck, &deeds),
        faults: record.verdicts(&struck, &deeds),
        idle: idle.iter().map(|(node, fault)| format!("{fault}@{node}")).collect(),
        clients,
        assumed: ASSUMED.to_vec(),
        violations,
    })
}

/// What the preflight says of each node that does not stand in its way: it is for clients to know.
/// What does stand there is held in the rehearsal itself.
async fn found(original: &Original, now: Timestamp) -> Vec<Notice> {
    let api = Api::new("found", std::sync::Arc::new(move || now));
    api.store().adopt(original.workload.clone());
    let Ok(model) = objects::model(&api.client()).await else { return Vec::new() };
    let names: Vec<NodeName> = original.nodes.iter().map(|node| node.name.clone()).collect();
    // Seconds for thousands of nodes: nothing for a thread that others wait for.
    let weighed = tokio::task::spawn_blocking(move || weighed(&model, names)).await;
    let (found, _) = weighed.unwrap_or_default();
    let shown = found.into_iter().filter(|(_, finding)| finding.weight() == Weight::Shown);
    let notice = |(node, finding): (NodeName, Finding)| Notice {
        about: {
            let Object { kind, namespace, name, .. } = &finding.about;
            match namespace.as_str() {
                "" => format!("{kind} {name}"),
                namespace => format!("{kind} {namespace}/{name}"),
            }
        },
        node: node.into(),
        words: finding.what.to_string(),
    };
    shown.map(notice).collect()
}

#[cfg(test)]
mod tests;
