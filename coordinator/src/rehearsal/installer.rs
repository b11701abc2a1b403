//! The site's installer, played: it takes its time, wipes the host, and sometimes errs.

use std::{collections::BTreeMap, fs, io, sync::Arc};

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

/// The site's program for the deletion protection of its clusters, played: it does what it is told.
pub(super) const PROTECTION: &str = "deletion-protection";

/// What the program says by its exit code.
const RUNNING: i32 = 10;
const NOT_STARTED: i32 = 11;

/// One installation, known by the migration and the number of the attempt.
struct Job {
    order: (String, String),
    /// With which the agent of the new system enrols.
    token: String,
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
    if call.program == PROTECTION {
        return Ok(Exit { code: Some(0), tail: String::new() });
    }
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
                let token = fs::read_to_string(value("REHULL_TOKEN_FILE"))?;
                begin(world, (&cluster, &node), order, token);
            }
            line("progress 0 switched on, booting from the network".to_owned());
            0
        }
        _ => 2,
    };
    Ok(Exit { code: Some(code), tail: String::new() })
}

/// Begins an installation: the host is wiped.
fn begin(world: &mut World, whom: (&str, &str), order: (String, String), token: String) {
    let (cluster, node) = whom;
    world.begin_reinstall(cluster, node);
    let (cluster, began) = (cluster.to_owned(), world.now());
    let job = Job { order, token, cluster, began, done: false };
    world.installer.jobs.insert(node.to_owned(), job);
}

/// A person at the console. Begins with what `token` gives if this order is a new one, and says
/// whether the installation is over.
pub(super) fn by_hand(
    world: &mut World,
    whom: (&str, &str),
    order: (String, String),
    token: Option<String>,
) -> bool {
    let job = world.installer.jobs.get(whom.1).filter(|job| job.order == order);
    match (job, token) {
        (Some(job), _) => job.done,
        (None, Some(token)) => {
            begin(world, whom, order, token);
            false
        }
        (None, None) => false,
    }
}

/// Whether an installation of this order has begun.
pub(super) fn has_begun(world: &World, node: &str, order: &(String, String)) -> bool {
    world.installer.jobs.get(node).is_some_and(|job| job.order == *order)
}

/// Lets installations come to their end.
pub(super) fn step(world: &mut World, now: Timestamp) -> io::Result<()> {
    let over: Vec<(String, String, String)> = world
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
        let wrong = [Fault::NotReinstalled, Fault::WrongOs, Fault::MovedAddress];
        let fault = world.strike(&node, &wrong);
        let Some(site) = world.site(&cluster) else { continue };
        let target = site.target;
        let Some(host) = site.host(&node) else { continue };
        host.machine.down = false;
        if fault == Some(Fault::NotReinstalled) {
            world.chores.push(Chore::Restart { cluster, node });
            continue;
        }
        let os = if fault == Some(Fault::WrongOs) { &machine::WRONG } else { target };
        host.machine.install(os)?;
        if fault == Some(Fault::MovedAddress) {
            host.machine.take_address(Some("169.254.17.4"))?;
        }
        host.machine.put_token(&token)?;
        world.chores.push(Chore::Start { cluster, node });
    }
    Ok(())
}
