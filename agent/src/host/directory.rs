//! Directories that look like machines: what they answer instead of system calls, and their writer.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rehull_proto::v1::Disk;

use super::{Host, Unreadable, machine::Handle};

const LINES_BYTES_MAX: usize = 64 * 1024;

/// Writes a directory host. Everything is a file: change or remove it, and the host has changed.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// At this directory, which is made with the first file.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The host that an agent reads.
    pub fn host(&self) -> Host {
        Host::at(&self.root)
    }

    /// Writes a file of the host with all directories above it.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> io::Result<()> {
        let path = self.root.join(path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, content)
    }

    /// Removes a file or a whole directory of the host; absence is no error.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let path = self.root.join(path.trim_start_matches('/'));
        let removed = match path.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        };
        removed.or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
    }

    /// Starts a process: `start_ticks` after boot, program `exe`, in the cgroup of a pod or not.
    pub fn process(&self, pid: u32, exe: &str, start_ticks: u64, in_pod: bool) -> io::Result<()> {
        let name =
            Path::new(exe).file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let comm: String = name.chars().take(15).collect();
        let cgroup = if in_pod { "/kubepods.slice/kubepods-pod1.slice" } else { "/system.slice" };
        let stat = format!(
            "{pid} ({comm}) S 1 {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start_ticks} 0 0\n"
        );
        self.file(&format!("proc/{pid}/stat"), stat)?;
        self.file(&format!("proc/{pid}/comm"), format!("{comm}\n"))?;
        self.file(&format!("proc/{pid}/cgroup"), format!("0::{cgroup}\n"))?;
        self.file(&format!("proc/{pid}/exe"), exe)
    }

    /// Makes exactly these TCP ports listened on.
    pub fn listeners(&self, ports: &[u16]) -> io::Result<()> {
        self.listeners_of(&ports.iter().map(|port| (*port, 1)).collect::<Vec<_>>())
    }

    /// The same, each by a process: what it listens on ends with it.
    pub fn listeners_of(&self, ports: &[(u16, u32)]) -> io::Result<()> {
        let mut text = String::from("  sl  local_address rem_address   st of\n");
        for (line, (port, pid)) in ports.iter().enumerate() {
            text.push_str(&format!("{line:4}: 00000000:{port:04X} 00000000:0000 0A {pid}\n"));
        }
        self.file("proc/net/tcp", text)
    }
}

pub(super) fn kernel(host: &Host) -> Result<(String, String), Unreadable> {
    let line = |path| host.text(path, 256).map(|text| text.trim().to_owned());
    Ok((line("/proc/sys/kernel/osrelease")?, line("/proc/sys/kernel/arch")?))
}

pub(super) fn addresses(host: &Host) -> Result<Vec<(String, String)>, Unreadable> {
    let mut found = Vec::new();
    for card in host.names("/sys/class/net", 1024)? {
        let text = host.text(&format!("/sys/class/net/{card}/addresses"), LINES_BYTES_MAX)?;
        found.extend(text.lines().map(|address| (card.clone(), address.trim().to_owned())));
    }
    Ok(found)
}

pub(super) fn disk(host: &Host, path: &str) -> Result<Disk, Unreadable> {
    const FILE: &str = "/proc/statvfs";
    let text = host.text(FILE, LINES_BYTES_MAX)?;
    let line = text.lines().find(|line| line.split(' ').next() == Some(path));
    let numbers: Vec<u64> =
        line.unwrap_or_default().split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
    let [free_bytes, total_bytes, free_inodes, total_inodes] = numbers[..] else {
        return Err(Unreadable::nonsense(FILE, format!("has no line of four numbers for {path}")));
    };
    Ok(Disk { path: path.to_owned(), free_bytes, total_bytes, free_inodes, total_inodes })
}

pub(super) fn is_locked(host: &Host, path: &str) -> Result<bool, Unreadable> {
    let holder = host.text(path, LINES_BYTES_MAX)?;
    match holder.trim().parse::<u32>() {
        Ok(pid) => host.exists(&format!("/proc/{pid}")),
        Err(_) => Ok(false),
    }
}

pub(super) fn open_process(host: &Host, pid: u32) -> Option<Handle> {
    let process = host.path(&format!("/proc/{pid}"));
    process.is_dir().then_some(Handle::Directory(process))
}

pub(super) fn end(process: &Path) -> io::Result<()> {
    if process.join("immortal").exists() {
        return Ok(());
    }
    fs::remove_dir_all(process).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    close_ports(process)
}

/// Static pods end with their manifest, as a kubelet has it.
pub(super) fn end_static_pods(host: &Host, manifest: &str) -> io::Result<()> {
    let Ok(processes) = fs::read_dir(host.path("/proc")) else { return Ok(()) }; // it has none
    for process in processes {
        let process = process?.path();
        let of = fs::read_to_string(process.join("manifest"));
        if of.is_ok_and(|of| of.trim_end() == manifest) {
            end(&process)?;
        }
    }
    Ok(())
}

/// What a process has listened on ends with it.
fn close_ports(process: &Path) -> io::Result<()> {
    let pid = process.file_name().map(|pid| pid.to_string_lossy().into_owned());
    let table = process.with_file_name("net").join("tcp");
    let Ok(text) = fs::read_to_string(&table) else { return Ok(()) };
    let stays = |line: &&str| line.split_ascii_whitespace().last() != pid.as_deref();
    let lines = text.lines().filter(stays).map(|line| format!("{line}\n"));
    fs::write(table, lines.collect::<String>())
}
