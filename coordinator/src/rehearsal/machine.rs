//! A host: a directory that looks like a machine to an agent, with processes, ports and files.

use std::{
    io,
    path::{Path, PathBuf},
};

use rehull_agent::host::directory::Directory;
use rehull_shared::{ids::NodeName, text::sha256_hex};
use uuid::Uuid;

use crate::domain::profile::ProfileId;

/// An operating system that can be installed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Os {
    pub(super) pretty: &'static str,
    id: &'static str,
    version: &'static str,
    pub(super) kernel: &'static str,
    /// Has systemd-resolved.
    resolved: bool,
}

/// The OS to leave.
const OLD: Os = Os {
    pretty: "CentOS Linux 7 (Core)",
    id: "centos",
    version: "7",
    kernel: "3.10.0-1160.el7.x86_64",
    resolved: false,
};

/// The OS to reach.
const NEW: Os = Os {
    pretty: "Ubuntu 22.04.5 LTS",
    id: "ubuntu",
    version: "22.04",
    kernel: "5.15.0-130-generic",
    resolved: true,
};

/// Another OS to reach.
const OTHER: Os = Os {
    pretty: "Rocky Linux 9.4 (Blue Onyx)",
    id: "rocky",
    version: "9.4",
    kernel: "5.14.0-427.13.1.el9_4.x86_64",
    resolved: false,
};

/// The OS that a careless installer picks.
pub(super) const WRONG: Os = Os {
    pretty: "Ubuntu 24.04.1 LTS",
    id: "ubuntu",
    version: "24.04",
    kernel: "6.8.0-51-generic",
    resolved: true,
};

impl Os {
    /// The one of a profile.
    pub(super) fn of(profile: &ProfileId) -> io::Result<&'static Self> {
        let profile = profile.profile();
        let known = [&OLD, &NEW, &OTHER].into_iter().find(|os| profile.matches(os.id, os.version));
        known.ok_or_else(|| io::Error::other(format!("nobody can rehearse {}", profile.id)))
    }

    /// Whether a Node that shows this image runs it, in whatever minor release.
    pub(super) fn is_shown_by(&self, image: &str) -> bool {
        image.to_lowercase().starts_with(self.id) && image.contains(self.version)
    }
}

/// What runs on a worker: program, whether in a pod, and the ports that it listens on.
const PROCESSES: &[(&str, bool, &[u16])] = &[
    ("/usr/local/bin/kubelet", false, &[10248, 10250]),
    ("/usr/bin/containerd", false, &[]),
    ("/usr/bin/containerd-shim-runc-v2", false, &[]),
    ("/usr/local/bin/kube-proxy", true, &[10249, 10256]),
    ("/usr/bin/calico-node", true, &[9099]),
    ("/usr/sbin/nginx", true, &[6443, 8081]),
];

/// Files of a worker, beside its certificates.
const FILES: &[&str] = &[
    "/etc/kubernetes/kubelet.conf",
    "/etc/cni/net.d/10-calico.conflist",
    "/opt/cni/bin/calico",
    "/var/lib/cni/networks/k8s-pod-network/lock",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db",
    "/etc/calico/certs/key.txt",
];

/// Directories that a reset deletes.
const DIRECTORIES: &[&str] = &[
    "/etc/kubernetes",
    "/etc/cni",
    "/opt/cni",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/etc/calico",
];

/// One host.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) name: NodeName,
    pub(super) address: String,
    root: PathBuf,
    directory: Directory,
    /// What all its identities follow from.
    seed: String,
    installs: u32,
    pub(super) os: &'static Os,
    /// Switched off, or in an installer.
    pub(super) down: bool,
    started: u64,
    running: Vec<(u32, usize)>,
    /// A certificate for its Kubernetes, PEM.
    certificate: String,
}

impl Machine {
    /// A host with an OS, in `root`.
    pub(super) fn new(
        root: &Path,
        seed: &str,
        name: NodeName,
        address: String,
        certificate: String,
        os: &'static Os,
    ) -> io::Result<Self> {
        let mut machine = Self {
            directory: Directory::new(root),
            root: root.to_owned(),
            seed: format!("{seed}/{name}"),
            name,
            address,
            installs: 0,
            os,
            down: false,
            started: 0,
            running: Vec::new(),
            certificate,
        };
        machine.install(os)?;
        Ok(machine)
    }

    /// Where a path of it lies.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// As an agent reads it.
    pub(super) fn host(&self) -> rehull_agent::host::Host {
        self.directory.host()
    }

    /// `/etc/machine-id`.
    pub(super) fn machine_id(&self) -> String {
        sha256_hex(format!("{}/machine/{}", self.seed, self.installs).as_bytes())[..32].to_owned()
    }

    /// `/proc/sys/kernel/random/boot_id`.
    pub(super) fn boot_id(&self) -> String {
        self.uuid(&format!("boot/{}", self.installs))
    }

    /// `/sys/class/dmi/id/product_uuid`: the hardware's, so it stays.
    pub(super) fn product_uuid(&self) -> String {
        self.uuid("product")
    }

    fn uuid(&self, what: &str) -> String {
        Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{}/{what}", self.seed).as_bytes()).to_string()
    }

    /// Wipes the disk and installs an OS: another machine id, another boot, no trace of before.
    pub(super) fn install(&mut self, os: &'static Os) -> io::Result<()> {
        self.directory.remove("/")?;
        self.installs += 1;
        self.os = os;
        self.running.clear();
        let mac = sha256_hex(self.seed.as_bytes());
        let mac = format!("02:00:5e:{}:{}:{}", &mac[..2], &mac[2..4], &mac[4..6]);
        let gib: u64 = 1 << 30;
        let disk = |path| format!("{path} {} {} 5900000 6000000\n", 170 * gib, 200 * gib);
        let stub = "nameserver 127.0.0.53\n";
        let direct = "nameserver 10.20.0.2\n";
        let release = format!(
            "ID=\"{}\"\nVERSION_ID=\"{}\"\nPRETTY_NAME=\"{}\"\n",
            os.id, os.version, os.pretty
        );
        for (path, content) in [
            ("/etc/os-release", release),
            ("/etc/machine-id", format!("{}\n", self.machine_id())),
            ("/etc/resolv.conf", if os.resolved { stub } else { direct }.to_owned()),
            ("/proc/sys/kernel/hostname", format!("{}\n", self.name)),
            ("/proc/sys/kernel/random/boot_id", format!("{}\n", self.boot_id())),
            ("/proc/sys/kernel/osrelease", format!("{}\n", os.kernel)),
            ("/proc/sys/kernel/arch", "x86_64\n".to_owned()),
            ("/proc/swaps", "Filename Type Size Used Priority\n".to_owned()),
            ("/proc/statvfs", ["/", "/var", "/var/lib"].map(disk).concat()),
            ("/sys/fs/cgroup/cgroup.controllers", String::new()),
            ("/sys/class/dmi/id/product_uuid", format!("{}\n", self.product_uuid())),
            ("/sys/class/dmi/id/product_serial", format!("SN-{}\n", self.name)),
            ("/sys/class/net/lo/address", "00:00:00:00:00:00\n".to_owned()),
            ("/sys/class/net/lo/addresses", "127.0.0.1\n".to_owned()),
            ("/sys/class/net/eth0/address", format!("{mac}\n")),
            ("/sys/class/net/eth0/addresses", format!("{}\n", self.address)),
            ("/run/systemd/units/invocation:sshd.service", String::new()),
            ("/etc/yum.repos.d/site.repo", "[site]\nbaseurl=http://packages.example\n".to_owned()),
            ("/net/http/any", "<repomd/>\nSHA256:\n".to_owned()),
        ] {
            self.directory.file(path, content)?;
        }
        if os.resolved {
            self.directory.file("/run/systemd/resolve/resolv.conf", direct)?;
        }
        self.directory.process(1, "/usr/lib/systemd/systemd", 1, false)?;
        self.listen()
    }

    /// Has another address than everybody expects, or its own again.
    pub(super) fn take_address(&self, address: Option<&str>) -> io::Result<()> {
        let address = address.unwrap_or(&self.address);
        self.directory.file("/sys/class/net/eth0/addresses", format!("{address}\n"))
    }

    /// What kubespray does to make it a worker.
    pub(super) fn make_worker(&mut self) -> io::Result<()> {
        for path in FILES {
            self.directory.file(path, "rehearsed")?;
        }
        for path in
            ["/etc/kubernetes/ssl/ca.crt", "/var/lib/kubelet/pki/kubelet-client-current.pem"]
        {
            self.directory.file(path, &self.certificate)?;
        }
        for number in 0..PROCESSES.len() {
            self.start(number)?;
        }
        self.listen()
    }

    fn start(&mut self, number: usize) -> io::Result<()> {
        let (exe, in_pod, _) = PROCESSES[number];
        self.started += 1;
        let pid = 1_000 + u32::try_from(self.started * 37).unwrap_or(0);
        self.directory.process(pid, exe, 4_200 + self.started * 113, in_pod)?;
        self.running.push((pid, number));
        Ok(())
    }

    /// What kubespray's reset does, but for the programs whose names end so.
    pub(super) fn reset(&mut self, survivors: &[&str]) -> io::Result<()> {
        self.stop(|exe| !survivors.iter().any(|survivor| exe.ends_with(survivor)))?;
        for path in DIRECTORIES {
            self.directory.remove(path)?;
        }
        Ok(())
    }

    /// Ends the programs that are chosen.
    pub(super) fn stop(&mut self, chosen: impl Fn(&str) -> bool) -> io::Result<()> {
        for (pid, number) in std::mem::take(&mut self.running) {
            if chosen(PROCESSES[number].0) {
                self.directory.remove(&format!("/proc/{pid}"))?;
            } else {
                self.running.push((pid, number));
            }
        }
        self.listen()
    }

    /// Notices what has ended by itself: an agent may have killed it.
    pub(super) fn settle(&mut self) {
        let root = &self.root;
        self.running.retain(|(pid, _)| root.join(format!("proc/{pid}")).exists());
    }

    fn listen(&self) -> io::Result<()> {
        let of = |(pid, number): &(u32, usize)| {
            let pid = *pid;
            PROCESSES[*number].2.iter().map(move |port| (*port, pid))
        };
        let ports: Vec<(u16, u32)> = self.running.iter().flat_map(of).collect();
        self.directory.listeners_of(&ports)
    }

    /// Whether its kubelet runs.
    pub(super) fn has_kubelet(&self) -> bool {
        !self.down
            && self.running.iter().any(|(_, number)| PROCESSES[*number].0.ends_with("/kubelet"))
    }

    /// Whether anything of Kubernetes runs.
    pub(super) fn is_clean(&self) -> bool {
        self.running.is_empty()
    }

    /// Writes the token with which its agent will enrol.
    pub(super) fn put_token(&self, token: &str) -> io::Result<()> {
        self.directory.file("/etc/rehull-agent/token", token)
    }
}
