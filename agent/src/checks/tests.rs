//! Reports of directories that look like hosts, and one of the machine that runs the tests.

use base64::Engine as _;
use std::sync::atomic::{AtomicI64, Ordering};

use rehull_proto::v1::{Authority, ControlPlane, Process, Proxy};
use tempfile::TempDir;

use super::*;
use crate::host::directory::Directory;

const GIB: u64 = 1 << 30;

/// A worker in its usual state, as small as a whole one can be.
fn worker() -> (TempDir, Directory) {
    let dir = tempfile::tempdir().unwrap();
    let host = Directory::new(dir.path());
    let disks: String = ["/", "/var", "/var/lib"]
        .map(|path| format!("{path} {} {} 900 1000\n", 40 * GIB, 50 * GIB))
        .concat();
    for (path, content) in [
        (
            "etc/os-release",
            "NAME=x\nID=ubuntu\nVERSION_ID=\"22.04\"\nPRETTY_NAME=\"Ubuntu 22.04\"\n",
        ),
        ("etc/machine-id", "m1\n"),
        ("etc/resolv.conf", "search a\nnameserver 127.0.0.53\n"),
        ("run/systemd/resolve/resolv.conf", "nameserver 10.0.0.53\n"),
        ("proc/sys/kernel/hostname", "worker1\n"),
        ("proc/sys/kernel/random/boot_id", "b1\n"),
        ("proc/sys/kernel/osrelease", "5.15.0\n"),
        ("proc/sys/kernel/arch", "x86_64\n"),
        ("proc/statvfs", &disks),
        ("proc/swaps", "Filename Type Size Used Priority\n"),
        ("sys/fs/cgroup/cgroup.controllers", ""),
        ("sys/class/net/lo/address", "00:00:00:00:00:00\n"),
        ("sys/class/net/lo/addresses", "127.0.0.1\n"),
        ("sys/class/net/eth0/address", "02:00:00:00:00:07\n"),
        ("sys/class/net/eth0/addresses", "10.0.0.7\nfe80::1\n"),
        ("sys/class/net/cali123/address", "ee:ee:ee:ee:ee:ee\n"),
        ("sys/class/net/cali123/addresses", ""),
    ] {
        host.file(path, content).unwrap();
    }
    host.process(1, "/sbin/init", 0, false).unwrap();
    host.listeners(&[22, 10250]).unwrap();
    (dir, host)
}

fn at_zero() -> Timestamp {
    Timestamp::from_millis(0)
}

async fn look(host: &Directory) -> Report {
    collect(&host.host(), &Collect::default(), 3, &at_zero).await
}

fn comms(processes: &[Process]) -> Vec<&str> {
    processes.iter().map(|process| process.comm.as_str()).collect()
}

#[tokio::test]
async fn a_whole_host_is_reported_with_no_gap() {
    let (_dir, host) = worker();
    host.process(70, "/usr/local/bin/kubelet", 700, false).unwrap();
    host.file("etc/kubernetes/kubelet.conf", "x").unwrap();
    let ticks = AtomicI64::new(1_000);
    let clock = || Timestamp::from_millis(ticks.fetch_add(7, Ordering::Relaxed));
    let asked = Collect {
        nonce: "round 4".to_owned(),
        units: vec!["firewalld.service".to_owned()],
        paths: vec!["/srv/extra".to_owned()],
        ..Collect::default()
    };
    let report = collect(&host.host(), &asked, 3, &clock).await;
    assert_eq!(report.unread, []);
    assert_eq!((report.nonce.as_str(), report.epoch), ("round 4", 3));
    assert_eq!((report.clock_ms, report.took_ms), (1_000, 7));
    let identity = report.identity.unwrap();
    assert_eq!(identity.hostname, "worker1");
    assert_eq!((identity.machine_id.as_str(), identity.boot_id.as_str()), ("m1", "b1"));
    assert_eq!(identity.product_uuid, "", "this machine has none");
    let [nic] = &identity.nics[..] else { panic!("only the host's own card: {identity:?}") };
    assert_eq!((nic.name.as_str(), nic.mac.as_str()), ("eth0", "02:00:00:00:00:07"));
    assert_eq!(nic.addresses, ["10.0.0.7"]);
    let os = report.os.unwrap();
    assert_eq!((os.id.as_str(), os.version_id.as_str()), ("ubuntu", "22.04"));
    assert_eq!((os.kernel.as_str(), os.architecture.as_str()), ("5.15.0", "x86_64"));
    assert_eq!(report.listeners.unwrap().ports, [10250], "22 is none of Kubernetes'");
    let paths = report.paths.unwrap();
    assert_eq!(paths.present, ["/etc/kubernetes"]);
    assert!(paths.absent.contains(&"/srv/extra".to_owned()));
    assert_eq!(report.disks.unwrap().found[0].free_bytes, 40 * GIB);
    let resolver = report.resolver.unwrap();
    assert_eq!(resolver.nameservers, ["127.0.0.53"]);
    assert_eq!(resolver.upstreams, ["10.0.0.53"]);
    assert_eq!(report.units.unwrap().inactive, ["firewalld.service"]);
    assert_eq!(report.packages.unwrap().free.len(), 2);
    let processes = report.processes.unwrap();
    assert_eq!((comms(&processes.found), processes.total), (vec!["kubelet"], 2));
}

/// Whatever is taken away, the report names it, and says nothing in its place.
#[tokio::test]
async fn what_cannot_be_read_is_a_gap_and_never_a_default() {
    type Is = fn(&Report) -> bool;
    let parts: [(&str, &str, Is); 12] = [
        ("proc/sys/kernel/hostname", "identity.hostname", |r| r.identity.is_some()),
        ("etc/machine-id", "identity.machine_id", |r| r.identity.is_some()),
        ("proc/sys/kernel/random/boot_id", "identity.boot_id", |r| r.identity.is_some()),
        ("sys/class/net", "identity.nics", |r| r.identity.is_some()),
        ("etc/os-release", "os", |r| r.os.is_none()),
        ("proc/sys/kernel/osrelease", "os", |r| r.os.is_none()),
        ("sys/fs/cgroup", "pods", |r| r.pods.is_none()),
        ("proc/1", "processes", |r| r.processes.is_none()),
        ("proc/net/tcp", "listeners", |r| r.listeners.is_none()),
        ("proc/statvfs", "disks", |r| r.disks.as_ref().is_some_and(|d| d.found.is_empty())),
        ("proc/swaps", "swap", |r| r.swap.is_none()),
        ("etc/resolv.conf", "resolver", |r| r.resolver.is_none()),
    ];
    for (path, part, is_missing) in parts {
        let (_dir, host) = worker();
        host.remove(path).unwrap();
        let report = look(&host).await;
        let gap = report.unread.iter().find(|gap| gap.part == part);
        let gap = gap.unwrap_or_else(|| panic!("{path} is gone, {part} not named: {report:?}"));
        assert!(gap.why.len() > 10, "{gap:?}");
        assert!(is_missing(&report), "{path}");
    }
}

#[tokio::test]
async fn leftovers_are_the_family_by_name_and_whatever_runs_in_a_pod() {
    let (_dir, host) = worker();
    host.process(20, "/usr/sbin/sshd", 5, false).unwrap();
    host.process(21, "/usr/sbin/nginx", 5, false).unwrap();
    host.process(30, "/usr/local/bin/kube-controller-manager", 5, true).unwrap();
    host.process(31, "/usr/local/bin/containerd-shim-runc-v2", 5, false).unwrap();
    host.process(32, "/usr/bin/java", 5, true).unwrap();
    // Below a shim, with cgroups of its own.
    let stat = "33 (nginx: a) b) S 31 33 33 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0\n";
    host.process(33, "/usr/sbin/nginx", 5, false).unwrap();
    host.file("proc/33/stat", stat).unwrap();
    // Ended, but its parent has not asked yet.
    host.process(34, "/usr/local/bin/kubelet", 5, false).unwrap();
    host.file("proc/34/stat", "34 (kubelet) Z 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0\n")
        .unwrap();
    let processes = look(&host).await.processes.unwrap();
    let found: Vec<_> =
        processes.found.iter().map(|p| (p.pid, p.comm.as_str(), p.in_pod)).collect();
    assert_eq!(
        found,
        [
            (30, "kube-controller", true),
            (31, "containerd-shim", false),
            (32, "java", true),
            (33, "nginx: a) b", true),
        ]
    );
    assert_eq!(processes.found[1].exe, "/usr/local/bin/containerd-shim-runc-v2");
    assert!(!beat(&host.host(), 0).await.unwrap().kubelet_running, "a zombie runs nothing");
}

#[tokio::test]
async fn a_beat_shows_kubelet_and_api_servers() {
    let (_dir, host) = worker();
    host.process(40, "/usr/local/bin/kubelet", 9, false).unwrap();
    host.process(41, "/usr/local/bin/kube-apiserver", 9, true).unwrap();
    let seen = beat(&host.host(), 7).await.unwrap();
    assert!(seen.kubelet_running && seen.sequence == 7);
    assert_eq!(seen.apiservers.iter().map(|p| p.pid).collect::<Vec<_>>(), [41]);
    host.remove("proc").unwrap();
    assert!(beat(&host.host(), 8).await.is_err(), "no kubelet seen is not: no kubelet");
}

#[tokio::test]
async fn pods_are_counted_by_cgroups_of_either_driver_and_version() {
    let (_dir, host) = worker();
    for pod in ["burstable.slice/kubepods-burstable-poda.slice", "podb.slice"] {
        host.file(&format!("sys/fs/cgroup/kubepods.slice/kubepods-{pod}/x"), "").unwrap();
    }
    let pods = look(&host).await.pods.unwrap();
    assert_eq!((pods.count, pods.from.as_str()), (2, "cgroup"));
    for controller in ["memory", "systemd"] {
        for pod in ["poda", "burstable/podb", "besteffort/podc"] {
            let path = format!("sys/fs/cgroup/{controller}/kubepods/{pod}/tasks");
            host.file(&path, "").unwrap();
        }
    }
    assert_eq!(look(&host).await.pods.unwrap().count, 3, "v1 shows each pod once a controller");
}

#[tokio::test]
async fn ports_are_found_over_both_protocols_and_only_listening_ones() {
    let (_dir, host) = worker();
    host.listeners(&[6443]).unwrap();
    let heading = "  sl  local_address remote_address st\n";
    let listening = format!(" 0: {}:2809 {}:0000 0A\n", "0".repeat(32), "0".repeat(32));
    let half_open = listening.replace("0A", "03").replace("2809", "280A");
    let connected = listening.replace("0A", "01").replace("2809", "094B");
    let table = format!("{heading}{half_open}{listening}{connected}");
    host.file("proc/net/tcp6", table).unwrap();
    assert_eq!(look(&host).await.listeners.unwrap().ports, [6443, 10249]);
    host.remove("proc/net/tcp6").unwrap();
    assert_eq!(look(&host).await.listeners.unwrap().ports, [6443], "a host without IPv6");
}

#[tokio::test]
async fn locks_of_package_managers_are_seen_and_never_taken() {
    let (_dir, host) = worker();
    host.file("var/run/yum.pid", "1\n").unwrap();
    host.file("var/lib/dpkg/lock-frontend", "").unwrap();
    let packages = look(&host).await.packages.unwrap();
    assert_eq!(packages.held, ["/var/run/yum.pid"]);
    assert_eq!(packages.free, ["/var/lib/dpkg/lock-frontend"]);
    host.file("var/run/yum.pid", "4711\n").unwrap();
    assert_eq!(look(&host).await.packages.unwrap().held, Vec::<String>::new(), "its pid is gone");
    host.file("var/run/yum.pid", "?").unwrap();
    assert_eq!(look(&host).await.unread[0].part, "packages");
}

#[tokio::test]
async fn units_are_known_by_systemd_then_by_cgroups_then_by_name() {
    let (_dir, host) = worker();
    let asked = Collect { units: vec!["firewalld.service".to_owned()], ..Collect::default() };
    let ask = async |host: &Directory| collect(&host.host(), &asked, 0, &at_zero).await;
    let active = |report: &Report| report.units.as_ref().unwrap().active.len();
    assert_eq!(active(&ask(&host).await), 0);
    host.process(50, "/usr/sbin/firewalld", 1, false).unwrap();
    assert_eq!(active(&ask(&host).await), 1, "no systemd: by name");
    let procs = "sys/fs/cgroup/systemd/system.slice/firewalld.service/cgroup.procs";
    host.file(procs, "").unwrap();
    assert_eq!(active(&ask(&host).await), 0, "an empty cgroup");
    host.file(procs, "50\n").unwrap();
    assert_eq!(active(&ask(&host).await), 1, "a cgroup with a process");
    host.file("run/systemd/units/invocation:other.service", "").unwrap();
    assert_eq!(active(&ask(&host).await), 0, "systemd's own word goes first");
    host.file("run/systemd/units/invocation:firewalld.service", "").unwrap();
    assert_eq!(active(&ask(&host).await), 1);
}

#[tokio::test]
async fn a_unit_that_may_be_active_without_processes_is_unknown_to_old_systemd() {
    let (_dir, host) = worker();
    host.file("usr/lib/systemd/system/once.service", "[Service]\nType=oneshot\n").unwrap();
    let asked = Collect { units: vec!["once.service".to_owned()], ..Collect::default() };
    let report = collect(&host.host(), &asked, 0, &at_zero).await;
    assert_eq!(report.units.unwrap(), Default::default());
    assert_eq!(report.unread[0].part, "units");
}

#[tokio::test]
async fn ufw_is_active_only_if_it_filters() {
    let (_dir, host) = worker();
    host.file("run/systemd/units/invocation:ufw.service", "").unwrap();
    let asked = Collect { units: vec!["ufw.service".to_owned()], ..Collect::default() };
    for (config, filters) in [("ENABLED=no\n", false), ("# x\nENABLED=yes\n", true)] {
        host.file("etc/ufw/ufw.conf", config).unwrap();
        let units = collect(&host.host(), &asked, 0, &at_zero).await.units.unwrap();
        assert_eq!(!units.active.is_empty(), filters, "{config}");
    }
}

#[tokio::test]
async fn certificates_are_found_once_and_replaced_ones_are_left_out() {
    let (dir, host) = worker();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(2031, 1, 1);
    let pem = params.self_signed(&key).unwrap().pem();
    host.file("etc/kubernetes/ssl/ca.crt", &pem).unwrap();
    host.file("etc/kubernetes/ssl/ca.key", key.serialize_pem()).unwrap();
    std::os::unix::fs::symlink("ssl", dir.path().join("etc/kubernetes/pki")).unwrap();
    let kubelet = format!("{pem}{}", key.serialize_pem());
    host.file("var/lib/kubelet/pki/kubelet-client-current.pem", &kubelet).unwrap();
    host.file("var/lib/kubelet/pki/kubelet-client-2026-01-01-00-00-00.pem", &kubelet).unwrap();
    host.file("etc/ssl/etcd/ssl/admin-key.pem", key.serialize_pem()).unwrap();
    host.file("etc/ssl/etcd/ssl/admin.pem", "-----BEGIN CERTIFICATE-----\n!").unwrap();
    let client = base64::engine::general_purpose::STANDARD.encode(&pem);
    let user = format!("users:\n- user:\n    client-certificate-data: {client}\n");
    host.file("etc/kubernetes/scheduler.conf", user).unwrap();
    // Nobody verifies what a kubelet has signed for itself.
    host.file("var/lib/kubelet/pki/kubelet.crt", &pem).unwrap();
    let copy = look(&host).await.certificates.unwrap().found;
    assert_eq!(copy.len(), 2, "a kubeconfig that was left on a worker is nobody's");
    host.file("etc/kubernetes/manifests/kube-apiserver.yaml", "spec:\n").unwrap();
    let report = look(&host).await;
    let found = report.certificates.unwrap().found;
    let paths: Vec<_> = found.iter().map(|certificate| certificate.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/etc/kubernetes/ssl/ca.crt",
            "/var/lib/kubelet/pki/kubelet-client-current.pem",
            "/etc/kubernetes/scheduler.conf",
        ]
    );
    assert_eq!(found[0].not_after_ms, 1_924_992_000_000); // date -d 2031-01-01Z +%s
    let [gap] = &report.unread[..] else { panic!("{:?}", report.unread) };
    assert!(gap.why.starts_with("/etc/ssl/etcd/ssl/admin.pem: "), "{gap:?}");
    host.file("etc/kubernetes/admin.conf", "    client-certificate-data: hunter2!\n").unwrap();
    let unread = look(&host).await.unread;
    let why: Vec<&str> = unread.iter().map(|gap| gap.why.as_str()).collect();
    let words = "/etc/kubernetes/admin.conf: client-certificate-data: is not base64";
    assert!(why.iter().any(|why| why.starts_with(words)) && !why.join(" ").contains("hunter2"));
}

/// A certificate as text, and the hash of what it says.
fn authority(name: &str) -> (String, String) {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    (made.pem(), rehull_shared::text::sha256_hex(made.der()))
}

async fn control_plane(host: &Directory) -> (ControlPlane, Vec<String>) {
    let asked = Collect { control_plane: true, ..Collect::default() };
    let report = collect(&host.host(), &asked, 0, &at_zero).await;
    let gaps = report.unread.into_iter().filter(|gap| gap.part == "control_plane");
    (report.control_plane.unwrap(), gaps.map(|gap| gap.why).collect())
}

#[tokio::test]
async fn authorities_are_the_same_under_kubeadm_and_kubespray() {
    let names = ["ca.crt", "front-proxy-ca.crt", "etcd/ca.crt"];
    let made = names.map(authority);
    let mut expected: Vec<Authority> = names
        .iter()
        .zip(&made)
        .map(|(name, (_, hash))| Authority { name: (*name).to_owned(), sha256: hash.clone() })
        .collect();
    expected.push(Authority {
        name: "sa.pub".to_owned(),
        sha256: rehull_shared::text::sha256_hex(b"public\n"),
    });
    let kubeadm = ["pki/ca.crt", "pki/front-proxy-ca.crt", "pki/etcd/ca.crt", "pki/sa.pub"];
    let kubespray =
        ["ssl/ca.crt", "ssl/front-proxy-ca.crt", "../ssl/etcd/ssl/ca.pem", "ssl/sa.pub"];
    for (paths, link) in [(kubeadm, false), (kubespray, true)] {
        let (dir, host) = worker();
        // Not a part of the certificate.
        let texts = made.iter().map(|(pem, _)| format!("# of the cluster\n{pem}"));
        std::fs::create_dir_all(dir.path().join("etc/kubernetes")).unwrap();
        for (path, text) in paths.iter().zip(texts.chain(["public\n".to_owned()])) {
            host.file(&format!("etc/kubernetes/{path}"), text).unwrap();
        }
        if link {
            std::os::unix::fs::symlink("ssl", dir.path().join("etc/kubernetes/pki")).unwrap();
        }
        let (seen, gaps) = control_plane(&host).await;
        assert_eq!((seen.authorities, gaps), (expected.clone(), Vec::new()), "{paths:?}");
        assert_eq!(look(&host).await.control_plane, None, "it was not asked for");
    }
}

#[tokio::test]
async fn an_authority_that_cannot_be_read_or_is_there_twice_is_a_gap() {
    let (_dir, host) = worker();
    assert_eq!(control_plane(&host).await, (ControlPlane::default(), Vec::new()), "a worker");
    host.file("etc/kubernetes/ssl/ca.crt", authority("one").0).unwrap();
    host.file("etc/kubernetes/pki/ca.crt", authority("other").0).unwrap();
    host.file("etc/kubernetes/pki/front-proxy-ca.crt", "").unwrap();
    host.file("etc/ssl/etcd/ssl/ca.pem", "-----BEGIN CERTIFICATE-----\n!").unwrap();
    host.file("etc/kubernetes/pki/sa.pub", "x").unwrap();
    let (seen, gaps) = control_plane(&host).await;
    assert_eq!(
        seen.authorities.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
        ["sa.pub"]
    );
    let beginnings = [
        "/etc/kubernetes/pki/ca.crt: is another one than /etc/kubernetes/ssl/ca.crt",
        "/etc/kubernetes/pki/front-proxy-ca.crt: holds no certificate",
        "/etc/ssl/etcd/ssl/ca.pem: ",
    ];
    assert_eq!(gaps.len(), beginnings.len(), "{gaps:?}");
    for (gap, beginning) in gaps.iter().zip(beginnings) {
        assert!(gap.starts_with(beginning), "{gap}");
    }
}

#[tokio::test]
async fn the_etcd_servers_are_those_of_the_api_server_that_runs() {
    let (_dir, host) = worker();
    let two = ["https://10.0.0.1:2379".to_owned(), "https://10.0.0.2:2379".to_owned()];
    let line = |flag: &str| format!("kube-apiserver\0--etcd-cafile=x\0{flag}\0--v=1\0");
    let one_word = line("--etcd-servers=https://10.0.0.1:2379,https://10.0.0.2:2379");
    let two_words = line("--etcd-servers\0https://10.0.0.1:2379,https://10.0.0.2:2379");
    host.process(40, "/usr/bin/vi", 400, false).unwrap();
    host.file("proc/40/cmdline", line("--etcd-servers=https://10.0.0.9:2379")).unwrap();
    assert_eq!(control_plane(&host).await.0.etcd_servers, Vec::<String>::new(), "none runs");
    for pid in [41, 42] {
        host.process(pid, "/usr/local/bin/kube-apiserver", 410, true).unwrap();
    }
    for (first, second) in [(&one_word, &two_words), (&two_words, &one_word)] {
        host.file("proc/41/cmdline", first).unwrap();
        host.file("proc/42/cmdline", second).unwrap();
        let (seen, gaps) = control_plane(&host).await;
        assert_eq!((&seen.etcd_servers[..], gaps), (&two[..], Vec::new()));
    }
    let many = (0..33).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    for (other, words) in [
        (line("--etcd-servers-overrides=x"), "/proc/42/cmdline: does not say --etcd-servers"),
        (line("--etcd-servers=https://10.0.0.3:2379"), "another API server has other"),
        (line(&format!("--etcd-servers={many}")), "33 etcd servers, 32 is the most"),
    ] {
        host.file("proc/42/cmdline", other).unwrap();
        let (seen, gaps) = control_plane(&host).await;
        assert_eq!(seen.etcd_servers, Vec::<String>::new(), "not a part of them");
        assert!(gaps.len() == 1 && gaps[0].contains(words), "{gaps:?}");
    }
}

#[tokio::test]
async fn what_an_api_server_keeps_in_another_etcd_is_told() {
    let (_dir, host) = worker();
    host.process(42, "/usr/local/bin/kube-apiserver", 400, true).unwrap();
    for (words, meant) in
        [("", ""), ("--etcd-servers-overrides=/events#https://x:2381\0", "/events#https://x:2381")]
    {
        let line = format!("kube-apiserver\0--etcd-servers=https://127.0.0.1:2379\0{words}");
        host.file("proc/42/cmdline", line).unwrap();
        let (seen, gaps) = control_plane(&host).await;
        assert_eq!((seen.etcd_servers_overrides.as_str(), gaps), (meant, Vec::new()));
    }
}

#[tokio::test]
async fn how_etcd_was_started_is_told_by_its_flag_else_by_its_environment() {
    let (_dir, host) = worker();
    assert_eq!(control_plane(&host).await.0.etcd_initial_state, "", "none runs");
    host.process(51, "/usr/local/bin/etcd", 400, true).unwrap();
    for (line, environment, meant) in [
        ("etcd\0--initial-cluster-state=existing\0", "", "existing"),
        ("etcd\0--initial-cluster-state\0existing\0--x\0", "", "existing"),
        ("etcd\0", "A=1\0ETCD_INITIAL_CLUSTER_STATE=existing\0", "existing"),
        ("etcd\0", "XETCD_INITIAL_CLUSTER_STATE=existing\0", "new"),
    ] {
        host.file("proc/51/cmdline", line).unwrap();
        host.file("proc/51/environ", environment).unwrap();
        let (seen, gaps) = control_plane(&host).await;
        assert_eq!((seen.etcd_initial_state.as_str(), gaps), (meant, Vec::new()), "{line:?}");
    }
    host.process(52, "/usr/local/bin/etcd", 400, true).unwrap();
    host.file("proc/52/cmdline", "etcd\0--initial-cluster-state=existing\0").unwrap();
    let (seen, gaps) = control_plane(&host).await;
    assert_eq!(seen.etcd_initial_state, "");
    assert!(gaps.len() == 1 && gaps[0].contains("started another way"), "{gaps:?}");
}

async fn proxy(host: &Directory) -> Proxy {
    let asked = Collect { proxy: true, ..Collect::default() };
    collect(&host.host(), &asked, 0, &at_zero).await.proxy.unwrap()
}

#[tokio::test]
async fn a_proxy_is_one_that_runs_in_a_pod_and_knows_api_servers() {
    let (dir, host) = worker();
    host.file("proc/stat", "cpu 1 2\nbtime 1700000000\nprocesses 7\n").unwrap();
    assert_eq!(look(&host).await.proxy, None, "it was not asked for");
    assert_eq!(proxy(&host).await, Proxy::default(), "none runs");
    let config = "upstream kube_apiserver {\n  server 10.0.0.1:6443;\n}\n";
    host.file("etc/nginx/nginx.conf", config).unwrap();
    host.process(60, "/usr/sbin/nginx", 500, false).unwrap();
    assert_eq!(proxy(&host).await, Proxy::default(), "that is one of the site's own");
    host.process(61, "/usr/sbin/nginx", 600, true).unwrap();
    host.process(62, "/usr/sbin/nginx", 900, true).unwrap();
    let path = dir.path().join("etc/nginx/nginx.conf");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let changed = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(4_500);
    file.set_modified(changed).unwrap();
    let seen = proxy(&host).await;
    assert_eq!(seen.servers, ["10.0.0.1:6443"]);
    assert_eq!((seen.config.as_str(), seen.changed_ms), ("/etc/nginx/nginx.conf", 4_500));
    assert_eq!(seen.started_ms, 1_700_000_009_000, "the youngest: it read the file last");
    host.file("etc/nginx/nginx.conf", "http {}\n").unwrap();
    assert_eq!(proxy(&host).await, Proxy::default(), "a pod of somebody");
}

#[tokio::test]
async fn requests_are_bounded_and_stay_on_the_host() {
    let (_dir, host) = worker();
    let many = |what: &str| (0..100).map(|n| format!("{what}{n}")).collect::<Vec<_>>();
    let asked = Collect {
        nonce: "n".repeat(10_000),
        paths: many("/p"),
        units: many("u.service/../"),
        locks: vec!["/a/../../etc/shadow".to_owned(), "relative".to_owned()],
        certificate_dirs: vec!["x".repeat(10_000)],
        repositories: many("http://gone/"),
        own_repositories: true,
        files: true,
        etcd: true,
        etcd_hash_revision: i64::MAX,
        control_plane: true,
        proxy: true,
    };
    let report = collect(&host.host(), &asked, 0, &at_zero).await;
    assert_eq!(report.paths.unwrap().absent.iter().filter(|p| p.starts_with("/p")).count(), 64);
    assert_eq!(report.units.unwrap(), Default::default());
    assert_eq!(report.unread.len(), UNREAD_MAX);
    assert!(report.nonce.len() <= TEXT_BYTES_MAX);
    assert!(report.unread.iter().all(|gap| gap.why.len() <= TEXT_BYTES_MAX));
}

/// The worst host and the worst request together still fit the largest message.
#[tokio::test]
async fn the_largest_report_fits_a_message() {
    let (_dir, host) = worker();
    let long = "x".repeat(180);
    for pid in 100..100 + 520 {
        host.process(pid, &format!("/{long}/kubelet"), u64::MAX, true).unwrap();
    }
    for card in 0..40 {
        let addresses = format!("{}\n", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").repeat(20);
        host.file(&format!("sys/class/net/ethernet{card:03}/addresses"), addresses).unwrap();
        host.file(&format!("sys/class/net/ethernet{card:03}/address"), "02:00:00:00:00:07")
            .unwrap();
    }
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "o".repeat(60));
    let pem = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    for n in 0..130 {
        host.file(&format!("{long}/{n:04}.pem"), &pem).unwrap();
    }
    for n in 0..10 {
        host.file(&format!("etc/sysctl.d/{n}.conf"), "x".repeat(32_000)).unwrap();
    }
    let many = || (0..64).map(|n| format!("/{long}/{n}")).collect::<Vec<_>>();
    let asked = Collect {
        nonce: "n".repeat(10_000),
        paths: many(),
        locks: many(),
        units: (0..64).map(|n| format!("{n:0100}")).collect(),
        certificate_dirs: vec![format!("/{long}")],
        repositories: (0..64).map(|n| format!("http://{}/{n}", "x".repeat(300))).collect(),
        own_repositories: true,
        files: true,
        etcd: false, // asked for alone
        etcd_hash_revision: i64::MAX,
        control_plane: true,
        proxy: true,
    };
    let report = collect(&host.host(), &asked, u64::MAX, &at_zero).await;
    let parts: Vec<_> = report.unread.iter().map(|gap| gap.part.as_str()).collect();
    assert_eq!(parts, ["processes.found", "repositories", "files"], "all were cut, and say so");
    let certificates = report.certificates.as_ref().unwrap();
    assert_eq!(certificates.found.len(), 128, "those that end first are enough");
    let bytes = prost::Message::encoded_len(&report);
    assert!(bytes < 480 * 1024, "{bytes} bytes");
}

/// The real thing: this machine, whatever it is.
#[tokio::test]
async fn the_machine_itself_is_read() {
    let report = collect(&Host::machine(), &Collect::default(), 0, &at_zero).await;
    let os = report.os.expect("every Linux has an os-release");
    assert!(!os.kernel.is_empty() && !os.architecture.is_empty(), "{os:?}");
    assert!(report.processes.expect("/proc").total > 0);
    assert_eq!(report.disks.expect("statvfs").found.len(), 3);
    assert!(!report.identity.expect("hostname").hostname.is_empty());
    let beat = beat(&Host::machine(), 0).await.unwrap();
    assert!(beat.agent_rss_kib > 500, "{beat:?}");
}
