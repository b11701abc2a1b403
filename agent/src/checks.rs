//! One look at everything: a `Report`, in which what could not be read is named and never guessed.

use rehull_proto::v1::{Beat, Collect, Report, Unread};
use rehull_shared::{text::bounded, time::Timestamp};

use crate::host::{Host, Unreadable};

mod certificates;
mod control_plane;
mod cri;
mod disks;
mod etcd;
mod files;
mod identity;
mod listeners;
mod packages;
mod pods;
mod processes;
mod proxy;
mod repositories;
mod saved;
mod units;

pub(crate) use identity::look as identity;
pub(crate) use identity::os;
pub(crate) use listeners::{is_listened_on, look as listeners};
pub(crate) use processes::{FOUND_MAX, apiservers, kubelets, leftovers, look_at};

/// Most entries of each list that a coordinator may ask for: what is asked is as bounded as what is
/// answered.
pub const ASKED_MAX: usize = 64;

/// Longest path, name of a unit or reason in a report, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 200;

/// Most lines of `unread` in one report.
const UNREAD_MAX: usize = 64;

/// Parts that could not be read. Everything else in the report was.
#[derive(Debug, Default)]
struct Gaps(Vec<Unread>);

impl Gaps {
    /// The value, or `None` and a line that says why there is none.
    fn keep<T>(&mut self, part: &str, seen: Result<T, Unreadable>) -> Option<T> {
        seen.inspect_err(|error| self.add(part, error)).ok()
    }

    fn add(&mut self, part: &str, why: impl ToString) {
        if self.0.len() < UNREAD_MAX {
            let why = bounded(&why.to_string(), TEXT_BYTES_MAX);
            self.0.push(Unread { part: part.to_owned(), why });
        }
    }
}

/// Looks at everything, now. Takes some milliseconds; waits for nothing but the container runtime,
/// and for that one not long, and for repositories and etcd where it is asked to try them.
pub async fn collect(
    host: &Host,
    asked: &Collect,
    epoch: u64,
    clock: &(dyn Fn() -> Timestamp + Send + Sync),
) -> Report {
    let began = clock();
    let mut gaps = Gaps::default();
    let pods = gaps.keep("pods", pods::count(host).await);
    let mut report = Report {
        nonce: bounded(&asked.nonce, TEXT_BYTES_MAX),
        epoch,
        clock_ms: began.as_millis(),
        took_ms: 0,
        identity: Some(identity::look(host, |part, error| gaps.add(part, error))),
        os: gaps.keep("os", identity::os(host)),
        pods,
        processes: processes::look(host, &mut gaps),
        listeners: gaps.keep("listeners", listeners::look(host)),
        paths: Some(files::paths(host, &asked.paths, &mut gaps)),
        disks: Some(disks::look(host, &mut gaps)),
        packages: Some(packages::look(host, &asked.locks, &mut gaps)),
        certificates: Some(certificates::look(host, &asked.certificate_dirs, &mut gaps)),
        swap: gaps.keep("swap", disks::swap(host)),
        units: Some(units::look(host, &asked.units, &mut gaps)),
        resolver: gaps.keep("resolver", files::resolver(host)),
        repositories: repositories::look(host, asked, &mut gaps).await,
        files: asked.files.then(|| saved::look(host, &mut gaps)),
        etcd: etcd::look(host, asked, &mut gaps).await,
        control_plane: asked.control_plane.then(|| control_plane::look(host, &mut gaps)),
        proxy: if asked.proxy { proxy::look(host, &mut gaps) } else { None },
        unread: Vec::new(),
    };
    report.unread = gaps.0;
    let took = clock().as_millis() - began.as_millis();
    report.took_ms = u32::try_from(took.max(0)).unwrap_or(u32::MAX);
    report
}

/// The vital signs; much cheaper than a report. `None` if processes cannot be listed: then nothing
/// can be said about the kubelet, and silence is the honest answer.
pub(crate) async fn beat(host: &Host, sequence: u64) -> Result<Beat, Unreadable> {
    let (kubelet_running, apiservers) = processes::vital(host)?;
    let (agent_rss_kib, agent_cpu_ms) = host.own_cost();
    Ok(Beat {
        sequence,
        os: identity::os(host).ok(),
        pods: pods::count(host).await.ok(),
        kubelet_running,
        apiservers,
        agent_rss_kib,
        agent_cpu_ms,
    })
}

/// What is usually looked at and what was asked for, once each. A request that is no plain absolute
/// path is refused in words.
fn union(usual: &[&str], asked: &[String], part: &str, gaps: &mut Gaps) -> Vec<String> {
    let mut all: Vec<String> = usual.iter().map(|&path| path.to_owned()).collect();
    if asked.len() > ASKED_MAX {
        gaps.add(part, format!("{} asked for, {ASKED_MAX} is the most", asked.len()));
    }
    for path in asked.iter().take(ASKED_MAX) {
        let plain = path.starts_with('/') && !path.split('/').any(|step| step == "..");
        if !plain || path.len() > TEXT_BYTES_MAX {
            gaps.add(part, format!("{path}: not a plain absolute path"));
        } else if !all.contains(path) {
            all.push(path.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests;
