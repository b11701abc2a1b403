//! `rehull demo`: a whole migration of a small fleet, rehearsed with faults, in seconds.
//!
//! It succeeds only if every fault struck and was caught by the gate that is there for it, nothing
//! happened that must never happen, and the fleet ended as it was wished.

use std::path::PathBuf;

use rehull_shared::{text::sha256_hex, time::Span};

use super::{
    clock::BEGIN,
    cluster::Original,
    driver::Script,
    faults::Faults,
    play::{Played, directory, play},
    prepared::Layout,
};
pub use super::{driver::Error, faults::Fault, play::Scene, record::Caught};
use crate::{
    domain::plan::{PlannedNode, Role},
    log,
};

mod screen;

pub use screen::run;

/// What is asked of a demo.
#[derive(Clone, Debug)]
pub struct Options {
    /// The same seed gives the same log, byte for byte.
    pub seed: u64,
    /// Directory of the log, which must not hold one yet; a new one below the system's temporary
    /// directory if there is none.
    pub keep: Option<PathBuf>,
}

/// How a demo ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Directory of the log.
    pub dir: PathBuf,
    /// Last event, and the hash that stands for all of them.
    pub head: log::Head,
    /// Faults, in the order of their names, and what caught them.
    pub faults: Vec<Caught>,
    /// What must never happen, and did; or what was to be, and is not.
    pub violations: Vec<String>,
    /// Virtual time from the first event to the last.
    pub took: Span,
    /// Pieces of evidence in the log.
    pub evidence: usize,
    /// Operations that Kubean was given.
    pub operations: usize,
}

impl Outcome {
    /// Whether everything was caught, and nothing went wrong.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.faults.iter().all(|fault| fault.caught.is_some())
    }
}

/// Rehearses, and shows every scene.
///
/// # Errors
/// If the directory cannot be written, holds a log already, or a part of the coordinator dies.
pub async fn rehearse(
    options: &Options,
    show: &mut dyn FnMut(Scene<'_>),
) -> Result<Outcome, Error> {
    let (dir, _) = directory(options.keep.as_ref(), "rehull-demo-")?;
    let script = script(options.seed);
    let faults = script.faults.clone();
    let played = play(&dir, script, show).await?;
    let Played { dir, record, deeds, idle, mut violations, took, operations, as_wished, .. } =
        played;
    violations.extend(idle.iter().map(|(node, fault)| format!("{fault} never struck {node}")));
    if !as_wished {
        violations.push("not every node is Ready with the new OS and its labels".to_owned());
    }
    let faults = record.verdicts(&faults, &deeds);
    let head = log::verify(&dir.join("log"), |_, _| ())?;
    let evidence = record.evidence;
    Ok(Outcome { dir, head, faults, violations, took, evidence, operations })
}

/// The clusters of the demo: as many workers as there are faults of workers.
const LAYOUTS: [Layout; 3] = [
    Layout { name: "north", control_planes: 3, include: true, workers: 3, network: 1 },
    Layout { name: "south", control_planes: 1, include: false, workers: 5, network: 2 },
    Layout { name: "east", control_planes: 1, include: false, workers: 5, network: 3 },
];

/// Every fault of a worker on a worker of its own, which one the seed says; those of control planes in
/// turn.
fn script(seed: u64) -> Script {
    let seed = seed.to_string();
    let originals: Vec<Original> = LAYOUTS.iter().map(Layout::original).collect();
    let (planes, mut workers): (Vec<&PlannedNode>, Vec<&PlannedNode>) = originals
        .iter()
        .flat_map(|original| &original.nodes)
        .partition(|node| node.role.is_control_plane());
    workers.sort_by_key(|node| sha256_hex(format!("{seed}/fault/{}", node.name).as_bytes()));
    let (mut workers, mut planes) = (workers.into_iter(), planes.into_iter().cycle());
    let place = |fault: Fault| {
        let node = match fault.strikes(Role::Worker) {
            true => workers.next(),
            false => planes.find(|node| fault.strikes(node.role)),
        };
        Some((node?.name.to_string(), fault))
    };
    let faults: Faults = Fault::ALL.into_iter().filter_map(place).collect();
    Script { seed, begin: BEGIN, originals, faults }
}
