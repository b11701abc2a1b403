//! Locks of package managers (F40): held or free, asked without ever being taken.

use rehull_proto::v1::Packages;

use super::{Gaps, union};
use crate::host::{Host, Unreadable};

/// yum writes its pid, dpkg takes a POSIX lock.
const LOCKS: &[&str] = &["/var/run/yum.pid", "/var/lib/dpkg/lock-frontend"];

/// Which of the locks somebody holds.
pub(super) fn look(host: &Host, asked: &[String], gaps: &mut Gaps) -> Packages {
    let mut packages = Packages::default();
    for lock in union(LOCKS, asked, "packages", gaps) {
        match is_held(host, &lock) {
            Ok(true) => packages.held.push(lock),
            Ok(false) => packages.free.push(lock),
            // Never locked on this host, as another package manager is used or none has run yet.
            Err(error) if error.is_absence() => packages.free.push(lock),
            Err(error) => gaps.add("packages", error),
        }
    }
    packages
}

fn is_held(host: &Host, lock: &str) -> Result<bool, Unreadable> {
    if !lock.ends_with(".pid") {
        return host.is_locked(lock);
    }
    let text = host.text(lock, 64)?;
    match text.trim().parse::<u32>() {
        Ok(pid) => host.exists(&format!("/proc/{pid}")),
        Err(_) => Err(Unreadable::nonsense(lock, "holds no pid")),
    }
}
