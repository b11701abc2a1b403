//! A host: a directory that looks like a machine to an agent, with processes, ports and files.

use std::{
    io,
    path::{Path, PathBuf},
};

use rehull_agent::{etcd::PlayedEtcd, host::directory::Directory};
use rehull_shared::{ids::NodeName, text::sha256_hex};
use uuid::Uuid;

use crate::domain::{plan::PlannedNode, profile::ProfileId};

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

/// What runs on a node.
struct Program {
    exe: &'static str,
    in_pod: bool,
    /// What it listens on.
    ports: &'static [u16],
    on: On,
}

/// On which nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    All,
    Workers,
    ControlPlanes,
}

const fn program(exe: &'static str, in_pod: bool, ports: &'static [u16], on: On) -> Program {
    Program { exe, in_pod, ports, on }
}

const PROGRAMS: &[Program] = &[
    program("/usr/local/bin/kubelet", false, &[10248, 10250], On::All),
    program("/usr/bin/containerd", false, &[], On::All),
    program("/usr/bin/containerd-shim-runc-v2", false, &[], On::All),
    program("/usr/local/bin/kube-proxy", true, &[10249, 10256], On::All),
    program("/usr/bin/calico-node", true, &[9099], On::All),
    program("/usr/sbin/nginx", true, &[6443, 8081], On::Workers),
    program(ETCD_PROGRAM, true, &[2379, 2380], On::ControlPlanes),
    program("/usr/local/bin/kube-apiserver", true, &[6443], On::ControlPlanes),
    program("/usr/local/bin/kube-controller-manager", true, &[10257], On::ControlPlanes),
    program("/usr/local/bin/kube-scheduler", true, &[10259], On::ControlPlanes),
];

/// The program that a kubelet ends and starts with its manifest.
const API_SERVER: &str = "/usr/local/bin/kube-apiserver";
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

/// Files of a node, beside its certificates.
const FILES: &[&str] = &[
    "/etc/kubernetes/kubelet.conf",
    "/etc/cni/net.d/10-calico.conflist",
    "/opt/cni/bin/calico",
    "/var/lib/cni/networks/k8s-pod-network/lock",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db",
    "/etc/calico/certs/key.txt",
];

/// Files of a control plane beside them.
const CONTROL_PLANE_FILES: &[&str] =
    &["/etc/kubernetes/admin.conf", "/var/lib/etcd/member/snap/db"];

/// What the control planes of a cluster have in common.
const AUTHORITIES: &[&str] = &[
    "/etc/kubernetes/ssl/front-proxy-ca.crt",
    "/etc/kubernetes/ssl/etcd/ca.crt",
    "/etc/kubernetes/ssl/sa.pub",
];

const ETCD_PROGRAM: &str = "/usr/local/bin/etcd";

/// How it was started, as kubeadm has it where a control plane joins.
const ETCD_JOINS: &str = "--initial-cluster-state=existing";

/// How an API server asks the member of etcd of its own host, as kubeadm has it.
const ETCD: &str = "--etcd-servers=https://127.0.0.1:2379";

/// Directories that a reset deletes.
const DIRECTORIES: &[&str] = &[
    "/etc/kubernetes",
    "/etc/cni",
    "/opt/cni",
    "/var/lib/cni",
    "/var/lib/etcd",
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
    /// The etcd of its cluster, if it is a control plane.
    etcd: Option<PlayedEtcd>,
}

impl Machine {
    /// A host with an OS, in `root`.
    pub(super) fn new(
        root: &Path,
        seed: &str,
        PlannedNode { name, address, .. }: PlannedNode,
        certificate: String,
        etcd: Option<PlayedEtcd>,
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
            etcd,
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
        match &self.etcd {
            Some(etcd) => self.directory.host().with_etcd(etcd.clone(), &self.address),
            None => self.directory.host(),
        }
    }

    /// Whether it is to be a control plane.
    pub(super) fn is_control_plane(&self) -> bool {
        self.etcd.is_some()
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

    /// What kubespray does to make it a node.
    pub(super) fn make_node(&mut self) -> io::Result<()> {
        for path in FILES {
            self.directory.file(path, "rehearsed")?;
        }
        for path in
            ["/etc/kubernetes/ssl/ca.crt", "/var/lib/kubelet/pki/kubelet-client-current.pem"]
        {
            self.directory.file(path, &self.certificate)?;
        }
        if self.is_control_plane() {
            for path in CONTROL_PLANE_FILES {
                self.directory.file(path, "rehearsed")?;
            }
            let ssl = "/etc/kubernetes/ssl";
            let manifest = format!(
                "    - {ETCD}\n    - --etcd-cafile={ssl}/etcd/ca.crt\n    \
                 - --etcd-certfile={ssl}/client.crt\n    - --etcd-keyfile={ssl}/client.key\n"
            );
            self.directory.file(MANIFEST, manifest)?;
            self.directory.file(&format!("{ssl}/client.crt"), &self.certificate)?;
            self.directory.file(&format!("{ssl}/client.key"), "rehearsed")?;
            self.put_authorities(None)?;
        }
        let other = if self.is_control_plane() { On::Workers } else { On::ControlPlanes };
        for (number, program) in PROGRAMS.iter().enumerate() {
            if program.on != other {
                self.start(number)?;
            }
        }
        self.listen()
    }

    /// Has the authorities of its cluster, or others.
    pub(super) fn put_authorities(&self, other: Option<&str>) -> io::Result<()> {
        let content = other.unwrap_or(&self.certificate);
        let all = AUTHORITIES.iter().chain(&["/etc/kubernetes/ssl/ca.crt"]);
        all.into_iter().try_for_each(|path| self.directory.file(path, content))
    }

    fn start(&mut self, number: usize) -> io::Result<()> {
        let Program { exe, in_pod, .. } = PROGRAMS[number];
        self.started += 1;
        let pid = 1_000 + u32::try_from(self.started * 37).unwrap_or(0);
        self.directory.process(pid, exe, 4_200 + self.started * 113, in_pod)?;
        if exe == API_SERVER {
            self.directory.file(&format!("/proc/{pid}/manifest"), MANIFEST)?;
            self.directory.file(&format!("/proc/{pid}/cmdline"), format!("{exe}\0{ETCD}\0"))?;
        }
        if exe == ETCD_PROGRAM {
            self.directory
                .file(&format!("/proc/{pid}/cmdline"), format!("{exe}\0{ETCD_JOINS}\0"))?;
        }
        self.running.push((pid, number));
        Ok(())
    }

    /// What a kubelet does about the manifest of the API server: it starts that, if it does not run.
    /// When a manifest goes, the host itself ends what it is of.
    pub(super) fn start_static_pods(&mut self) -> io::Result<()> {
        if !self.has_kubelet() || self.runs(API_SERVER) || !self.path(MANIFEST).exists() {
            return Ok(());
        }
        let number = PROGRAMS.iter().position(|program| program.exe == API_SERVER);
        number.map_or(Ok(()), |number| self.start(number))?;
        self.listen()
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
            if chosen(PROGRAMS[number].exe) {
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
            PROGRAMS[*number].ports.iter().map(move |port| (*port, pid))
        };
        let ports: Vec<(u16, u32)> = self.running.iter().flat_map(of).collect();
        self.directory.listeners_of(&ports)
    }

    /// Whether its kubelet runs.
    pub(super) fn has_kubelet(&self) -> bool {
        self.runs("/kubelet")
    }

    /// Whether a program runs whose name ends so.
    pub(super) fn runs(&self, name: &str) -> bool {
        let is = |(_, number): &(u32, usize)| PROGRAMS[*number].exe.ends_with(name);
        !self.down && self.running.iter().any(is)
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
