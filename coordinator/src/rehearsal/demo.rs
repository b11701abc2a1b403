//! `rehull demo`: a whole migration of a small fleet, rehearsed with faults, in seconds.
//!
//! It succeeds only if every fault struck and was caught by the gate that is there for it, nothing
//! happened that must never happen, and the fleet ended as it was wished.

use std::{collections::BTreeMap, fs, path::PathBuf};

use rehull_shared::{text::sha256_hex, time::Span};

pub use super::driver::Error;
use super::{
    cluster::Layout,
    driver::{Driver, Script, Turn},
    faults::Fault,
};
use crate::{domain::event::Recorded, engine::Published, log};

mod record;
mod screen;

pub use record::Caught;
use record::Record;
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

/// What can be seen of a rehearsal under way.
pub enum Scene<'a> {
    /// Something is on disk.
    Event(&'a Recorded),
    /// A turn is over.
    Turn(&'a Published, rehull_shared::time::Timestamp),
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
    let dir = directory(options)?;
    let script = script(options.seed);
    let faults = script.faults.clone();
    let mut driver = Driver::begin(&dir, script).await?;
    let mut record = Record::default();
    loop {
        let turn = driver.turn(&mut |_, _, _| None).await?;
        let published = driver.coordinator.handle.published();
        for event in record.take(driver.coordinator.handle.history(), &published) {
            show(Scene::Event(&event));
        }
        show(Scene::Turn(&published, driver.clock().now()));
        if turn == Turn::Finished {
            break;
        }
    }
    let (violations, operations) = {
        let mut world = driver.world().lock();
        let mut violations = std::mem::take(&mut world.violations);
        let left = faults.iter().filter(|(node, _)| !world.struck.contains_key(*node));
        violations
            .extend(left.map(|(node, fault)| format!("{} never struck {node}", fault.name())));
        if !world.is_as_wished() {
            violations.push("not every worker is Ready with the new OS and its labels".to_owned());
        }
        (violations, world.operator.seen())
    };
    let faults = record.verdicts(&faults, &driver.deeds);
    let took = driver.clock().elapsed();
    let dir = driver.end().await?;
    _ = fs::remove_dir_all(dir.join("tokens")); // used up, and nobody's concern
    let head = log::verify(&dir.join("log"), |_, _| ())?;
    let evidence = record.evidence;
    Ok(Outcome { dir, head, faults, violations, took, evidence, operations })
}

fn directory(options: &Options) -> Result<PathBuf, Error> {
    match &options.keep {
        None => Ok(tempfile::Builder::new().prefix("rehull-demo-").tempdir()?.keep()),
        Some(dir) if dir.join("log").exists() => {
            let why = format!("{} holds a log already; choose another directory", dir.display());
            Err(Error::Stuck(why))
        }
        Some(dir) => {
            fs::create_dir_all(dir)?;
            Ok(dir.clone())
        }
    }
}

/// Two clusters, and every fault on a node of its own, which one the seed says.
pub(super) fn script(seed: u64) -> Script {
    let layouts = vec![
        Layout { name: "north", control_planes: 3, workers: 3, network: 1 },
        Layout { name: "south", control_planes: 1, workers: 2, network: 2 },
    ];
    let workers = layouts.iter().flat_map(|layout| {
        (1..=layout.workers).map(move |number| format!("{}-worker{number}", layout.name))
    });
    let seed = seed.to_string();
    let mut order: Vec<String> = workers.collect();
    order.sort_by_key(|node| sha256_hex(format!("{seed}/fault/{node}").as_bytes()));
    let faults: BTreeMap<String, Fault> = order.into_iter().zip(Fault::ALL).collect();
    Script { seed, layouts, faults }
}
