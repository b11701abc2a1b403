//! The host: everything that is read of the machine, and the only things done to it: a signal, and
//! another name for a file.
//!
//! A host is the machine itself or a directory that looks like one (tests, rehearsals). A directory
//! host holds the same files at the same paths, and where the machine answers by a system call:
//!
//! | path below the root | stands for |
//! |---|---|
//! | `proc/<pid>/{stat,comm,cgroup}` | a process, in the kernel's own format; all three are needed |
//! | `proc/<pid>/exe` | its program: a symbolic link or a file that holds the path |
//! | `proc/<pid>/immortal` | it survives every signal; without this file any signal ends it |
//! | `proc/<pid>/manifest` | of which manifest it is a static pod: it ends when that gets another name |
//! | `proc/net/tcp`, `proc/net/tcp6` | listening ports, in the kernel's own format |
//! | `proc/statvfs` | lines `path free_bytes total_bytes free_inodes total_inodes` |
//! | `proc/sys/kernel/{osrelease,arch}` | `uname -r` and `uname -m` |
//! | `sys/class/net/<card>/addresses` | its addresses, one a line |
//! | `net/http/<host>/<path>` | what the web server of that name answers to a GET of that path |
//! | `net/http/any` | what every web server answers to every other GET |
//! | a lock file | held if it contains the pid of a process that exists |
//!
//! [`directory::Directory`] writes such a host. Its member of etcd, if it has one, is a
//! [`PlayedEtcd`].

use std::{
    ffi::OsString,
    fs, io,
    io::{BufRead, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rehull_proto::v1::{Disk, Process};
use rustix::process::{Pid, Signal};

use crate::etcd::{Own, PlayedEtcd};

pub mod directory;
mod machine;
mod web;

/// Read at once from a file whose size is not known.
const ROOM_BYTES: usize = 16 * 1024;

/// Something of the host could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Unreadable {
    /// Which path of the host.
    pub path: String,
    /// Why.
    pub why: io::Error,
}

impl Unreadable {
    /// The content of `path` is not what it should be.
    pub fn nonsense(path: &str, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), why: io::Error::new(io::ErrorKind::InvalidData, what.into()) }
    }

    /// There is no such file: the machine has no such thing.
    pub fn is_absence(&self) -> bool {
        self.why.kind() == io::ErrorKind::NotFound || self.is_process_gone()
    }

    /// The process ended while it was looked at: its open files then answer ESRCH.
    fn is_process_gone(&self) -> bool {
        self.why.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
    }
}

/// A machine or a directory that looks like one.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    kind: Kind,
    etcd: Option<Own>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Machine,
    Directory,
}

/// A process that was opened for a signal: while it is held, its pid cannot come to mean another
/// process, where the kernel has pidfds (5.3 and later).
#[derive(Debug)]
pub struct Handle(machine::Handle);

impl Host {
    /// The machine that the program runs on.
    pub fn machine() -> Self {
        Self { root: PathBuf::from("/"), kind: Kind::Machine, etcd: None }
    }

    /// A directory that looks like a machine; `/` is the machine itself.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let kind = if root == Path::new("/") { Kind::Machine } else { Kind::Directory };
        Self { root, kind, etcd: None }
    }

    /// The same, whose member of etcd is that of its address.
    pub fn with_etcd(self, etcd: PlayedEtcd, address: &str) -> Self {
        Self { etcd: Some(etcd.of(address)), ..self }
    }

    /// The member of etcd that is played here; on a machine none is.
    pub(crate) fn played_etcd(&self) -> Option<&Own> {
        self.etcd.as_ref()
    }

    /// The machine, but only what links below `root` show of it.
    #[cfg(test)]
    pub(crate) fn machine_through(root: &Path) -> Self {
        Self { root: root.to_owned(), kind: Kind::Machine, etcd: None }
    }

    /// Whether it is the machine itself: only there time must pass until a signal has worked.
    pub fn is_machine(&self) -> bool {
        self.kind == Kind::Machine
    }

    /// Where `path`, an absolute path of the host, lies for this process.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The content of a file of at most `bytes_max` bytes. A longer one is an error, not a part.
    pub fn bytes(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, Unreadable> {
        let read = || {
            // Files of /proc say that they are empty; without room they are read in tiny pieces.
            let mut content = Vec::with_capacity(ROOM_BYTES.min(bytes_max + 1));
            let limit = bytes_max as u64 + 1;
            fs::File::open(self.path(path))?.take(limit).read_to_end(&mut content)?;
            if content.len() > bytes_max {
                return Err(io::Error::other(format!("longer than {bytes_max} bytes")));
            }
            Ok(content)
        };
        read().map_err(unreadable(path))
    }

    /// The content of a file as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self, path: &str, bytes_max: usize) -> Result<String, Unreadable> {
        self.bytes(path, bytes_max).map(|bytes| match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    /// Gives each line of a file to `more` until that one has seen enough.
    pub fn lines_while(
        &self,
        path: &str,
        mut more: impl FnMut(&str) -> bool,
    ) -> Result<(), Unreadable> {
        let file = fs::File::open(self.path(path)).map_err(unreadable(path))?;
        for line in io::BufReader::with_capacity(ROOM_BYTES, file).lines() {
            if !more(&line.map_err(unreadable(path))?) {
                break;
            }
        }
        Ok(())
    }

    /// Names in a directory, sorted: at most `entries_max`, more are an error.
    pub fn names(&self, path: &str, entries_max: usize) -> Result<Vec<String>, Unreadable> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(path)).map_err(unreadable(path))? {
            let name: OsString = entry.map_err(unreadable(path))?.file_name();
            names.push(name.to_string_lossy().into_owned());
            if names.len() > entries_max {
                return Err(Unreadable::nonsense(path, format!("more than {entries_max} entries")));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The first `bytes_max` bytes that a web server answers to a GET.
    ///
    /// # Errors
    /// In words: it cannot be reached, or says another status than 200.
    pub async fn fetch(&self, url: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
        match self.kind {
            Kind::Machine => web::get(url, bytes_max).await,
            Kind::Directory => {
                let path = url.split_once("://").map_or(url, |(_, path)| path);
                let content = self.bytes(&format!("/net/http/{path}"), bytes_max);
                let content = content.or_else(|_| self.bytes("/net/http/any", bytes_max));
                content.map_err(|error| match error.is_absence() {
                    true => "404 Not Found".to_owned(),
                    false => error.to_string(),
                })
            }
        }
    }

    /// Pids of all processes, at most `processes_max`.
    pub fn pids(&self, processes_max: usize) -> Result<Vec<u32>, Unreadable> {
        let names = self.names("/proc", processes_max)?;
        let mut pids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        pids.sort_unstable();
        match pids.is_empty() {
            true => Err(Unreadable::nonsense("/proc", "shows no process")),
            false => Ok(pids),
        }
    }

    /// Whether anything is at `path`; a link that leads nowhere is something too.
    pub fn exists(&self, path: &str) -> Result<bool, Unreadable> {
        match fs::symlink_metadata(self.path(path)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(unreadable(path)(error)),
        }
    }

    /// Whether `path` is something that counts: a file, or a directory that is not empty.
    pub fn is_present(&self, path: &str) -> Result<bool, Unreadable> {
        let path_here = self.path(path);
        match fs::metadata(&path_here) {
            Ok(data) if data.is_dir() => {
                let mut entries = fs::read_dir(path_here).map_err(unreadable(path))?;
                Ok(entries.next().is_some())
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.exists(path),
            Err(error) => Err(unreadable(path)(error)),
        }
    }

    /// Whether `path` is a plain file, and no link to one.
    pub fn is_file(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok_and(|data| data.is_file())
    }

    /// Whether `path` is a plain file or leads to one of this host. A link that leads nowhere, or out of the
    /// host, is an error; nothing at all is not.
    pub fn leads_to_file(&self, path: &str) -> Result<bool, Unreadable> {
        if !self.exists(path)? {
            return Ok(false);
        }
        let place = self.canonical(path).map_err(|error| match error.is_absence() {
            true => Unreadable::nonsense(path, "is a link that leads nowhere"),
            false => error,
        })?;
        if !place.starts_with(self.canonical("/")?) {
            return Err(Unreadable::nonsense(path, "is a link that leads out of this host"));
        }
        Ok(fs::metadata(place).map_err(unreadable(path))?.is_file())
    }

    /// Gives a file another name in the same file system, in one step and for good: after a crash it has
    /// one of the two. A file that has that name is replaced.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (old, new) = (self.path(from), self.path(to));
        fs::rename(&old, &new)?;
        if self.kind == Kind::Directory {
            return directory::end_static_pods(self, from);
        }
        for dir in [new.parent(), old.parent()].into_iter().flatten() {
            fs::File::open(dir)?.sync_all()?; // or the rename itself may be lost
        }
        Ok(())
    }

    /// Permission bits of a file.
    pub fn mode(&self, path: &str) -> Result<u32, Unreadable> {
        use std::os::unix::fs::PermissionsExt;
        let data = fs::metadata(self.path(path)).map_err(unreadable(path))?;
        Ok(data.permissions().mode() & 0o7777)
    }

    /// When a file was changed last, in milliseconds since the Unix epoch.
    pub fn changed_ms(&self, path: &str) -> Result<i64, Unreadable> {
        let changed = fs::metadata(self.path(path)).and_then(|data| data.modified());
        let changed = changed.map_err(unreadable(path))?.duration_since(SystemTime::UNIX_EPOCH);
        let changed = changed.map_err(|_| Unreadable::nonsense(path, "was changed before 1970"))?;
        Ok(i64::try_from(changed.as_millis()).unwrap_or(i64::MAX))
    }

    /// When a process began, in milliseconds since the Unix epoch, to a second: of its start time in
    /// clock ticks since boot. The kernel shows user programs 100 ticks a second on every platform that
    /// Kubernetes runs on (`USER_HZ`, proc_pid_stat(5)).
    pub fn started_ms(&self, start_ticks: u64) -> Result<i64, Unreadable> {
        const STAT: &str = "/proc/stat";
        const TICK_MS: u64 = 10;
        let mut booted_s: Option<u64> = None;
        self.lines_while(STAT, |line| {
            booted_s = line.strip_prefix("btime ").and_then(|at| at.trim().parse().ok());
            booted_s.is_none()
        })?;
        let booted_s =
            booted_s.ok_or_else(|| Unreadable::nonsense(STAT, "does not say when it booted"))?;
        let started_ms = booted_s.saturating_mul(1_000).saturating_add(start_ticks * TICK_MS);
        Ok(i64::try_from(started_ms).unwrap_or(i64::MAX))
    }

    /// `path` with all symbolic links followed, to tell whether two names are one thing.
    pub fn canonical(&self, path: &str) -> Result<PathBuf, Unreadable> {
        fs::canonicalize(self.path(path)).map_err(unreadable(path))
    }

    /// The program of a process. Empty if the kernel does not tell (a kernel thread).
    pub fn exe(&self, pid: u32) -> String {
        let path = self.path(&format!("/proc/{pid}/exe"));
        let target = fs::read_link(&path).map(|exe| exe.to_string_lossy().into_owned());
        match (target, self.kind) {
            (Ok(target), _) => target,
            (Err(_), Kind::Machine) => String::new(),
            (Err(_), Kind::Directory) => fs::read_to_string(path).unwrap_or_default(),
        }
    }

    /// Release and architecture of the kernel.
    pub fn kernel(&self) -> Result<(String, String), Unreadable> {
        match self.kind {
            Kind::Machine => Ok(machine::kernel()),
            Kind::Directory => directory::kernel(self),
        }
    }

    /// Addresses of all network cards, by name of the card.
    pub fn addresses(&self) -> Result<Vec<(String, String)>, Unreadable> {
        match self.kind {
            Kind::Machine => machine::addresses(),
            Kind::Directory => directory::addresses(self),
        }
    }

    /// Free and total space of the file system at `path`.
    pub fn disk(&self, path: &str) -> Result<Disk, Unreadable> {
        match self.kind {
            Kind::Machine => machine::disk(path),
            Kind::Directory => directory::disk(self, path),
        }
    }

    /// Whether somebody holds the POSIX lock on the file at `path`.
    pub fn is_locked(&self, path: &str) -> Result<bool, Unreadable> {
        match self.kind {
            Kind::Machine => machine::is_locked(path),
            Kind::Directory => directory::is_locked(self, path),
        }
    }

    /// Resident memory in KiB and processor time in milliseconds of this program; zero for an
    /// agent that only plays one of many hosts in a process.
    pub fn own_cost(&self) -> (u64, u64) {
        match self.kind {
            Kind::Machine => machine::own_cost(self).unwrap_or_default(),
            Kind::Directory => (0, 0),
        }
    }

    /// Opens the process that has this pid now. Look again *after* this whether it is the right
    /// one. `None` if there is no such process.
    pub fn open_process(&self, pid: u32) -> Result<Option<Handle>, io::Error> {
        let checked = killable(pid)?;
        let handle = match self.kind {
            Kind::Machine => machine::open_process(checked)?,
            Kind::Directory => directory::open_process(self, pid),
        };
        Ok(handle.map(Handle))
    }

    /// Sends a signal to an opened process. One that is gone already is no error.
    pub fn signal(&self, handle: &Handle, signal: Signal) -> Result<(), io::Error> {
        handle.0.signal(signal)
    }
}

fn unreadable(path: &str) -> impl FnOnce(io::Error) -> Unreadable + '_ {
    move |why| Unreadable { path: path.to_owned(), why }
}

/// `pid` as the kernel's type; 0, 1 and impossible numbers are refused, whoever asks for them.
fn killable(pid: u32) -> Result<Pid, io::Error> {
    let raw = i32::try_from(pid).ok().filter(|raw| *raw > 1).and_then(Pid::from_raw);
    raw.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a pid that may be killed"))
}

/// Whether two observations are the same process: pid, start time and program. A program that was
/// deleted or replaced on disk since then is still the same process.
pub fn is_same(one: &Process, other: &Process) -> bool {
    let exe = |process: &Process| process.exe.trim_end_matches(" (deleted)").to_owned();
    (one.pid, one.start_ticks) == (other.pid, other.start_ticks) && exe(one) == exe(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_an_error_and_not_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "12345").unwrap();
        let host = Host::at(dir.path());
        assert_eq!(host.text("/file", 5).unwrap(), "12345");
        let error = host.text("/file", 4).unwrap_err().to_string();
        assert_eq!(error, "/file: longer than 4 bytes");
    }

    #[test]
    fn an_empty_directory_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        fs::create_dir(dir.path().join("d")).unwrap();
        assert!(!host.is_present("/d").unwrap());
        fs::write(dir.path().join("d/f"), "").unwrap();
        assert!(host.is_present("/d").unwrap());
        assert!(!host.is_present("/nothing").unwrap());
        std::os::unix::fs::symlink("/nowhere", dir.path().join("l")).unwrap();
        assert!(host.is_present("/l").unwrap(), "a dangling link is something");
    }

    #[test]
    fn init_and_impossible_pids_are_never_signalled() {
        for pid in [0, 1, u32::MAX] {
            assert!(Host::machine().open_process(pid).is_err(), "pid {pid}");
        }
    }
}
