//! Plays a script to its end: the same for what is made up and for a copy of somebody's cluster.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rehull_shared::{
    ids::ClusterName,
    time::{Span, Timestamp},
};

use super::{
    coordinator::BACKUPS,
    driver::{Driver, Error, Script, Turn},
    faults::Faults,
    person::Deed,
    record::Record,
    watch::Workload,
};
use crate::{domain::event::Recorded, engine::Published};

/// What can be seen of a rehearsal under way.
pub enum Scene<'a> {
    /// Something is on disk.
    Event(&'a Recorded),
    /// A turn is over.
    Turn(&'a Published, Timestamp),
}

/// How it went.
pub(super) struct Played {
    /// Directory of the log.
    pub(super) dir: PathBuf,
    pub(super) record: Record,
    pub(super) deeds: Vec<Deed>,
    /// Faults that have not struck.
    pub(super) idle: Faults,
    /// What must never happen, and did.
    pub(super) violations: Vec<String>,
    /// Workloads of which no pod was Ready for a while, and whether that lasts.
    pub(super) away: Vec<(ClusterName, Workload, Span, bool)>,
    /// Virtual time from the first event to the last.
    pub(super) took: Span,
    /// Operations that Kubean was given.
    pub(super) operations: usize,
    /// Whether every node that migrates runs what it was to run, and carries what it carried.
    pub(super) as_wished: bool,
    /// Whether every migration came to its end.
    pub(super) finished: bool,
}

/// Plays it, with the log in `dir`, and shows every scene.
pub(super) async fn play(
    dir: &Path,
    script: Script,
    show: &mut dyn FnMut(Scene<'_>),
) -> Result<Played, Error> {
    let faults = script.faults.clone();
    let mut driver = Driver::begin(dir, script).await?;
    let mut record = Record::default();
    let end = loop {
        let turn = driver.turn(&mut |_, _, _| None).await?;
        let published = driver.coordinator.handle.published();
        for event in record.take(&driver.coordinator.handle).await? {
            show(Scene::Event(&event));
        }
        show(Scene::Turn(&published, driver.clock().now()));
        if turn != Turn::Goes {
            break turn;
        }
    };
    let finished = end == Turn::Finished;
    let (now, took) = (driver.clock().now(), driver.clock().elapsed());
    let (violations, idle, away, operations, as_wished) = {
        let mut world = driver.world().lock();
        let away = |site: &super::cluster::Site| {
            let of = |(workload, span, still)| (site.name.clone(), workload, span, still);
            site.watch.away(now).into_iter().map(of).collect::<Vec<_>>()
        };
        (
            std::mem::take(&mut world.violations),
            faults.difference(&world.struck).cloned().collect(),
            world.sites.iter().flat_map(away).collect(),
            world.operator.seen(),
            world.is_as_wished(),
        )
    };
    let deeds = std::mem::take(&mut driver.deeds);
    let dir = driver.end().await?;
    for used_up in ["tokens", BACKUPS] {
        _ = fs::remove_dir_all(dir.join(used_up)); // and nobody's concern
    }
    Ok(Played { dir, record, deeds, idle, violations, away, took, operations, as_wished, finished })
}

/// The directory of a log: the one that is asked for, which must not hold one, or a new temporary
/// one. Says whether nobody has asked for it.
pub(super) fn directory(keep: Option<&PathBuf>, prefix: &str) -> Result<(PathBuf, bool), Error> {
    match keep {
        None => Ok((tempfile::Builder::new().prefix(prefix).tempdir()?.keep(), true)),
        Some(dir) if dir.join("log").exists() => {
            let why = format!("{} holds a log already; choose another directory", dir.display());
            Err(Error::Stuck(why))
        }
        Some(dir) => {
            fs::create_dir_all(dir)?;
            Ok((dir.clone(), false))
        }
    }
}
