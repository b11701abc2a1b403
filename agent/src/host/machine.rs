//! What the machine itself answers by system calls.

use std::{io, os::fd::OwnedFd, path::PathBuf};

use rehull_proto::v1::Disk;
use rustix::{
    io::Errno,
    process::{Flock, FlockType, Pid, PidfdFlags, Signal},
};

use super::{Host, Unreadable, unreadable};

/// Length of a clock tick that `/proc` counts in: USER_HZ is 100 on every Linux that runs here.
const TICK_MS: u64 = 10;

#[derive(Debug)]
pub(super) enum Handle {
    /// Kernel 5.3 and later: names this process for ever, also when the pid is used again.
    Pidfd(OwnedFd),
    /// Older kernels (CentOS 7): the pid; the caller has just checked whose it is.
    Pid(Pid),
    /// A directory is the process.
    Directory(PathBuf),
}

impl Handle {
    pub(super) fn signal(&self, signal: Signal) -> Result<(), io::Error> {
        let sent = match self {
            Self::Pidfd(fd) => rustix::process::pidfd_send_signal(fd, signal),
            Self::Pid(pid) => rustix::process::kill_process(*pid, signal),
            Self::Directory(process) => return super::directory::end(process),
        };
        match sent {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

pub(super) fn open_process(pid: Pid) -> Result<Option<Handle>, io::Error> {
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(Handle::Pidfd(fd))),
        Err(Errno::SRCH) => Ok(None),
        // NOSYS: before 5.3. PERM: some sandboxes answer so to calls that they do not know.
        Err(Errno::NOSYS | Errno::PERM) => Ok(Some(Handle::Pid(pid))),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn kernel() -> (String, String) {
    let name = rustix::system::uname();
    let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
    (text(name.release()), text(name.machine()))
}

pub(super) fn addresses() -> Result<Vec<(String, String)>, Unreadable> {
    let cards = nix::ifaddrs::getifaddrs()
        .map_err(|errno| unreadable("network cards")(io::Error::from(errno)))?;
    let mut found: Vec<(String, String)> = cards
        .filter_map(|card| {
            let address = card.address?;
            let v4 = address.as_sockaddr_in().map(|a| a.ip().to_string());
            let v6 = || address.as_sockaddr_in6().map(|a| a.ip().to_string());
            Some((card.interface_name, v4.or_else(v6)?))
        })
        .collect();
    found.sort_unstable();
    Ok(found)
}

pub(super) fn disk(path: &str) -> Result<Disk, Unreadable> {
    let stat = rustix::fs::statvfs(path).map_err(|errno| unreadable(path)(errno.into()))?;
    Ok(Disk {
        path: path.to_owned(),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_inodes: stat.f_favail,
        total_inodes: stat.f_files,
    })
}

/// Asks the kernel who holds the lock, without ever taking it: an agent that takes a package
/// manager's lock for a moment makes that package manager fail.
pub(super) fn is_locked(path: &str) -> Result<bool, Unreadable> {
    let file = std::fs::File::open(path).map_err(unreadable(path))?;
    let asked = Flock::from(FlockType::WriteLock);
    let holder = rustix::process::fcntl_getlk(&file, &asked);
    Ok(holder.map_err(|errno| unreadable(path)(errno.into()))?.is_some())
}

pub(super) fn own_cost(host: &Host) -> Option<(u64, u64)> {
    let status = host.text("/proc/self/status", 16 * 1024).ok()?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let rss_kib = rss.trim().trim_end_matches(" kB").parse().ok()?;
    let stat = host.text("/proc/self/stat", 4 * 1024).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((rss_kib, (ticks(11)? + ticks(12)?) * TICK_MS)) // utime and stime
}
