//! The site's installer, played: it takes its time, wipes the host, and sometimes errs.

use std::{collections::BTreeMap, fs, io, path::PathBuf, sync::Arc};

use futures::FutureExt;
use rehull_shared::time::{Span, Timestamp};

use super::{
    faults::Fault,
    machine,
    world::{Chore, Shared, World},
};
use crate::{
    clients::Trouble,
    effects::{Exit, Invocation, RunProgram},
};

/// How long an installation takes.
const LENGTH: Span = Span::from_mins(11);

/// What the program says by its exit code.
const RUNNING: i32 = 10;
const NOT_STARTED: i32 = 11;

/// One installation, known by the migration and the number of the attempt.
struct Job {
    order: (String, String),
    token: PathBuf,
    cluster: String,
    began: Timestamp,
    done: bool,
}

/// Installations, by host.
#[derive(Default)]
pub(super) struct Installer {
    jobs: BTreeMap<String, Job>,
}

/// The program as rehull runs it.
pub(super) fn program(world: Shared) -> RunProgram {
    Arc::new(move |call, line| {
        let told = run(&mut world.lock(), &call, &*line);
        async move { told.map_err(|why| Trouble::new("the rehearsed installer", why)) }.boxed()
    })
}

fn run(world: &mut World, call: &Invocation, line: &dyn Fn(String)) -> io::Result<Exit> {
    let value = |key: &str| call.env.get(key).cloned().unwrap_or_default();
    let (node, cluster) = (value("REHULL_NODE"), value("REHULL_CLUSTER"));
    let order = (value("REHULL_MIGRATION"), value("REHULL_ATTEMPT"));
    let now = world.now();
    let job = world.installer.jobs.get(&node).filter(|job| job.order == order);
    let code = match (value("REHULL_ACTION").as_str(), job) {
        ("status", None) => NOT_STARTED,
        ("status", Some(job)) if job.done => 0,
        ("status", Some(job)) => {
            let part = now.since(job.began).as_secs() * 4 / LENGTH.as_secs();
            let words = ["booting the installer", "partitioning", "unpacking", "configuring"];
            let words = words[(part as usize).min(3)];
            line(format!("progress {} {words}", part.min(3) * 25));
            RUNNING
        }
        ("start", _) => {
            if job.is_none() {
                world.begin_reinstall(&cluster, &node);
                let token = value("REHULL_TOKEN_FILE").into();
                let job = Job { order, token, cluster, began: now, done: false };
                world.installer.jobs.insert(node, job);
            }
            line("progress 0 switched on, booting from the network".to_owned());
            0
        }
        _ => 2,
    };
    Ok(Exit { code: Some(code), tail: String::new() })
}

/// Lets installations come to their end.
pub(super) fn step(world: &mut World, now: Timestamp) -> io::Result<()> {
    let over: Vec<(String, String, PathBuf)> = world
        .installer
        .jobs
        .iter_mut()
        .filter(|(_, job)| !job.done && job.began + LENGTH <= now)
        .map(|(node, job)| {
            job.done = true;
            (node.clone(), job.cluster.clone(), job.token.clone())
        })
        .collect();
    for (node, cluster, token) in over {
        let wrong = world.strike(&node, &[Fault::WrongOs]).is_some();
        let os = if wrong { &machine::WRONG } else { &machine::NEW };
        let Some(worker) = world.site(&cluster).and_then(|site| site.worker(&node)) else {
            continue;
        };
        worker.machine.install(os)?;
        worker.machine.down = false;
        worker.machine.put_token(&fs::read_to_string(token)?)?;
        world.chores.push(Chore::Start { cluster, node });
    }
    Ok(())
}
