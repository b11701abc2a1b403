//! Processes of Kubernetes, its container runtime and etcd (F2-F4): which run, and since when.

use std::collections::HashMap;

use rehull_proto::v1::{Process, Processes};
use rehull_shared::text::bounded;

use super::{Gaps, TEXT_BYTES_MAX};
use crate::host::{Host, Unreadable};

/// Most processes listed in one report, and named in one order. A host with more of them is far from
/// being clean.
pub(crate) const FOUND_MAX: usize = 512;

/// Most processes looked at: the usual `pid_max` of a 64-bit host is larger, its use never is.
const PROCESSES_MAX: usize = 65_536;

const STAT_BYTES_MAX: usize = 4 * 1024;
const CGROUP_BYTES_MAX: usize = 16 * 1024;

const KUBELET: &str = "kubelet";
const APISERVER: &str = "kube-apiserver";
const SHIM: &str = "containerd-shim";

/// Names as the kernel shows them, cut to 15 characters: `kube-controller` is the controller
/// manager, `containerd-shim` any of the shims.
const FAMILY: &[&str] = &[
    KUBELET,
    APISERVER,
    SHIM,
    "kube-controller",
    "kube-scheduler",
    "kube-proxy",
    "etcd",
    "containerd",
    "runc",
    "crio",
    "conmon",
    "cri-dockerd",
    "dockerd",
    "nginx-proxy",
    "calico-node",
    "calico-felix",
    "bird",
    "bird6",
    "confd",
    "felix",
    "kube-vip",
];

/// One line of `/proc/<pid>/stat`.
struct Stat {
    comm: String,
    state: char,
    parent: u32,
    start_ticks: u64,
}

impl Stat {
    /// A process that has ended and only waits for its parent's question is no process any more.
    fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Every process of the family, and every process of a pod whatever its name.
pub(super) fn look(host: &Host, gaps: &mut Gaps) -> Option<Processes> {
    let (mut found, total) = gaps.keep("processes", leftovers(host))?;
    if found.len() > FOUND_MAX {
        gaps.add("processes.found", format!("{} found, {FOUND_MAX} listed", found.len()));
        found.truncate(FOUND_MAX);
    }
    Some(Processes { found, total })
}

/// As [`look`], but all of them; the ones of the family first, so that a cut never hides them.
/// Beside them how many processes were looked at.
pub(crate) fn leftovers(host: &Host) -> Result<(Vec<Process>, u32), Unreadable> {
    let mut alive = HashMap::new();
    let pids = host.pids(PROCESSES_MAX)?;
    for &pid in &pids {
        if let Some(stat) = present(stat(host, pid))?.filter(Stat::is_alive) {
            alive.insert(pid, stat);
        }
    }
    let mut found = Vec::new();
    for (&pid, stat) in &alive {
        // Threads of the kernel have pid 2 as parent, no program, and belong to nobody.
        if stat.parent == 2 || pid == 2 {
            continue;
        }
        let Some(in_pod) = present(is_in_pod(host, pid, &alive))? else { continue };
        if in_pod || FAMILY.contains(&stat.comm.as_str()) {
            found.push(process(host, pid, stat, in_pod));
        }
    }
    found.sort_by_key(|process| (!FAMILY.contains(&process.comm.as_str()), process.pid));
    Ok((found, u32::try_from(pids.len()).unwrap_or(u32::MAX)))
}

/// The process that has this pid now; `None` if none has.
pub(crate) fn look_at(host: &Host, pid: u32) -> Result<Option<Process>, Unreadable> {
    let stat = present(stat(host, pid))?.filter(Stat::is_alive);
    Ok(stat.map(|stat| process(host, pid, &stat, false)))
}

/// Kubelets that run.
pub(crate) fn kubelets(host: &Host) -> Result<Vec<Process>, Unreadable> {
    named(host, &[KUBELET])
}

/// API servers that run.
pub(crate) fn apiservers(host: &Host) -> Result<Vec<Process>, Unreadable> {
    named(host, &[APISERVER])
}

/// Whether a kubelet runs, and the API servers.
pub(super) fn vital(host: &Host) -> Result<(bool, Vec<Process>), Unreadable> {
    let (kubelets, mut apiservers): (Vec<Process>, Vec<Process>) =
        named(host, &[KUBELET, APISERVER])?.into_iter().partition(|p| p.comm == KUBELET);
    apiservers.truncate(FOUND_MAX);
    Ok((!kubelets.is_empty(), apiservers))
}

/// Processes of these names. Reads nothing but the name of the others: a beat must cost little.
pub(super) fn named(host: &Host, names: &[&str]) -> Result<Vec<Process>, Unreadable> {
    let mut found = Vec::new();
    for pid in host.pids(PROCESSES_MAX)? {
        let comm = present(host.text(&format!("/proc/{pid}/comm"), STAT_BYTES_MAX))?;
        if comm.is_some_and(|comm| names.contains(&comm.trim_end())) {
            found.extend(look_at(host, pid)?);
        }
    }
    Ok(found)
}

fn process(host: &Host, pid: u32, stat: &Stat, in_pod: bool) -> Process {
    let exe = bounded(&host.exe(pid), TEXT_BYTES_MAX);
    Process { pid, start_ticks: stat.start_ticks, comm: stat.comm.clone(), exe, in_pod }
}

/// By its cgroup, or because it descends from a shim: a container may bring its own cgroups.
fn is_in_pod(host: &Host, pid: u32, alive: &HashMap<u32, Stat>) -> Result<bool, Unreadable> {
    let ancestors_max = 64; // a pid that is used again while we look could close a circle
    let parents = std::iter::successors(alive.get(&pid), |stat| alive.get(&stat.parent));
    if parents.skip(1).take(ancestors_max).any(|stat| stat.comm == SHIM) {
        return Ok(true);
    }
    let cgroup = host.text(&format!("/proc/{pid}/cgroup"), CGROUP_BYTES_MAX)?;
    Ok(cgroup.lines().any(|line| line.contains("kubepods")))
}

/// `pid (comm) state ppid ... start_ticks ...`; the name may contain anything, also `) `.
fn stat(host: &Host, pid: u32) -> Result<Stat, Unreadable> {
    let path = format!("/proc/{pid}/stat");
    let text = host.text(&path, STAT_BYTES_MAX)?;
    let parse = || {
        let (head, tail) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = tail.split(' ').collect();
        Some(Stat {
            comm: head.split_once('(')?.1.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?, // field 22, counted from pid as 1
        })
    };
    parse().ok_or_else(|| Unreadable::nonsense(&path, "not a line of /proc/<pid>/stat"))
}

/// A process that ended while it was looked at is no gap: it is not there.
pub(super) fn present<T>(seen: Result<T, Unreadable>) -> Result<Option<T>, Unreadable> {
    match seen {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absence() => Ok(None),
        Err(error) => Err(error),
    }
}
