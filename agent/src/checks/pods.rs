//! How many pods run: the container runtime knows; where it is gone, cgroups still show them.

use rehull_proto::v1::Pods;

use super::cri;
use crate::host::{Host, Unreadable};

/// Hierarchies in which the kubelet makes its cgroups: v2, or any controller of v1.
const ROOTS: [&str; 4] =
    ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu"];

/// The groups of guaranteed, burstable and best-effort pods, by either cgroup driver.
const GROUPS: [&str; 6] = [
    "kubepods.slice",
    "kubepods.slice/kubepods-burstable.slice",
    "kubepods.slice/kubepods-besteffort.slice",
    "kubepods",
    "kubepods/burstable",
    "kubepods/besteffort",
];

const ENTRIES_MAX: usize = 8 * 1024;

/// By the container runtime, else by cgroups.
pub(super) async fn count(host: &Host) -> Result<Pods, Unreadable> {
    if let Some(count) = cri::ready_pods(host).await {
        return Ok(Pods { count, from: "cri".to_owned() });
    }
    Ok(Pods { count: by_cgroups(host)?, from: "cgroup".to_owned() })
}

fn by_cgroups(host: &Host) -> Result<u32, Unreadable> {
    host.names(ROOTS[0], ENTRIES_MAX)?; // no cgroups at all: nothing can be said
    let mut most = 0;
    for root in ROOTS {
        let mut pods = 0;
        for group in GROUPS {
            match host.names(&format!("{root}/{group}"), ENTRIES_MAX) {
                Ok(names) => pods += names.iter().filter(|name| is_pod(name)).count(),
                Err(error) if error.is_absence() => (),
                Err(error) => return Err(error),
            }
        }
        most = most.max(pods); // v1 shows the same pods once for each controller
    }
    Ok(u32::try_from(most).unwrap_or(u32::MAX))
}

/// `pod<uid>`, or `kubepods-burstable-pod<uid>.slice` by the systemd driver.
fn is_pod(cgroup: &str) -> bool {
    cgroup.starts_with("pod") || (cgroup.starts_with("kubepods-") && cgroup.contains("-pod"))
}
