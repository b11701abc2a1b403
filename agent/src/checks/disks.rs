//! Space on disks (F43), and swap (F38).

use rehull_proto::v1::{Disks, Swap};
use rehull_shared::text::bounded;

use super::{Gaps, TEXT_BYTES_MAX};
use crate::host::{Host, Unreadable};

const DISKS: &[&str] = &["/", "/var", "/var/lib"];
const SWAPS_MAX: usize = 32;

/// Space and inodes where Kubernetes writes.
pub(super) fn look(host: &Host, gaps: &mut Gaps) -> Disks {
    let disk = |path: &&str| gaps.keep("disks", host.disk(path));
    Disks { found: DISKS.iter().filter_map(disk).collect() }
}

/// Active swap devices; the first line of the table is its heading.
pub(super) fn swap(host: &Host) -> Result<Swap, Unreadable> {
    let table = host.text("/proc/swaps", 64 * 1024)?;
    let devices = table.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next());
    let active = devices.take(SWAPS_MAX).map(|device| bounded(device, TEXT_BYTES_MAX)).collect();
    Ok(Swap { active })
}
