//! Ends processes that were left behind (F4): only named ones, only if each is still the same at
//! the moment of the signal, and only while no kubelet runs, which would start them again.

use std::time::{Duration, Instant};

use rehull_proto::v1::{KillLeftovers, Process, order_done::Outcome};
use rustix::process::Signal;

use crate::{
    answer::Answer,
    checks::{FOUND_MAX, kubelets, leftovers, listeners, look_at},
    host::{Handle, Host, Unreadable, is_same},
};

/// Longest time that an order may give processes to end by themselves.
const GRACE_SECONDS_MAX: u32 = 120;

/// How long the kernel may take to end a process after KILL before it is called a survivor.
const AFTER_KILL: Duration = Duration::from_secs(5);

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Names shown in words; the numbers are always there.
const NAMES_SHOWN: usize = 12;

struct Target<'a> {
    process: &'a Process,
    handle: Handle,
}

/// Carries out the order: TERM, the grace period, KILL, and then the proof.
pub(crate) async fn kill(host: &Host, order: &KillLeftovers) -> Answer {
    let targets = match aim(host, order) {
        Ok(targets) => targets,
        Err(why) => return Answer::refused(why),
    };
    let grace = Duration::from_secs(order.grace_seconds.into());
    let named = order.processes.len();
    let mut seen = format!("named {named}: {}", names(&order.processes));
    seen += &format!("; {} of them ran", targets.len());
    let mut alive: Vec<&Target> = targets.iter().collect();
    for (signal, word, patience) in
        [(Signal::TERM, "TERM", grace), (Signal::KILL, "KILL", AFTER_KILL)]
    {
        if alive.is_empty() {
            break;
        }
        seen += &format!("; {word} to {}", alive.len());
        if let Err(why) = send(host, &alive, signal) {
            seen += &format!(", stopped: {why}");
            break;
        }
        alive = wait(host, alive, patience).await;
    }
    let survivors: Vec<Process> = alive.iter().map(|target| target.process.clone()).collect();
    seen += &match survivors.is_empty() {
        true => "; all gone".to_owned(),
        false => format!("; still there: {}", names(&survivors)),
    };
    seen += &ports(host);
    let outcome = if survivors.is_empty() { Outcome::Done } else { Outcome::Failed };
    Answer { outcome, seen, survivors }
}

/// Finds what is to be ended. Those that are gone already, or whose pid is another process's by
/// now, are left out; a process that is none of Kubernetes' makes the whole order suspicious.
fn aim<'a>(host: &Host, order: &'a KillLeftovers) -> Result<Vec<Target<'a>>, String> {
    let named = order.processes.len();
    if named > FOUND_MAX {
        return Err(format!("{named} processes named, {FOUND_MAX} is the most"));
    }
    if order.grace_seconds > GRACE_SECONDS_MAX {
        return Err(format!(
            "{} s of grace, {GRACE_SECONDS_MAX} s is the most",
            order.grace_seconds
        ));
    }
    no_kubelet(host)?;
    let (family, _) = leftovers(host).map_err(words)?;
    let mut targets = Vec::new();
    for process in &order.processes {
        let opened = host.open_process(process.pid);
        let opened = opened.map_err(|error| format!("pid {}: {error}", process.pid))?;
        // The look comes after the opening: what is opened now is what was looked at.
        if let Some(handle) = opened
            && is_there(host, process).map_err(words)?
        {
            if !family.iter().any(|one| is_same(one, process)) {
                return Err(format!("{} is no process of Kubernetes", name(process)));
            }
            targets.push(Target { process, handle });
        }
    }
    Ok(targets)
}

/// Signals each target that is still the same process, unless a kubelet runs by now.
fn send(host: &Host, targets: &[&Target<'_>], signal: Signal) -> Result<(), String> {
    no_kubelet(host)?;
    for Target { process, handle } in targets {
        if is_there(host, process).map_err(words)? {
            host.signal(handle, signal).map_err(|error| format!("{}: {error}", name(process)))?;
        }
    }
    Ok(())
}

/// Those that are still there when the time is up; earlier if none is. A directory that plays a
/// host changes at once or never.
async fn wait<'a, 'b>(
    host: &Host,
    mut targets: Vec<&'a Target<'b>>,
    patience: Duration,
) -> Vec<&'a Target<'b>> {
    let began = Instant::now();
    loop {
        // What cannot be read is not proven gone.
        targets.retain(|target| is_there(host, target.process).unwrap_or(true));
        if targets.is_empty() || !host.is_machine() || began.elapsed() >= patience {
            return targets;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn is_there(host: &Host, process: &Process) -> Result<bool, Unreadable> {
    Ok(look_at(host, process.pid)?.is_some_and(|now| is_same(&now, process)))
}

fn no_kubelet(host: &Host) -> Result<(), String> {
    match kubelets(host).map_err(words)?.first() {
        Some(kubelet) => Err(format!("{} runs and would start them again", name(kubelet))),
        None => Ok(()),
    }
}

fn ports(host: &Host) -> String {
    match listeners(host) {
        Ok(listeners) if listeners.ports.is_empty() => "; no port of Kubernetes in use".to_owned(),
        Ok(listeners) => {
            let ports: Vec<String> = listeners.ports.iter().map(u32::to_string).collect();
            format!("; ports in use: {}", ports.join(" "))
        }
        Err(error) => format!("; ports unknown: {error}"),
    }
}

/// Names and pids, for people.
pub(crate) fn names(processes: &[Process]) -> String {
    let shown: Vec<String> = processes.iter().take(NAMES_SHOWN).map(name).collect();
    match processes.len().saturating_sub(NAMES_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn name(process: &Process) -> String {
    format!("{} {}", process.comm, process.pid)
}

fn words(error: Unreadable) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;
