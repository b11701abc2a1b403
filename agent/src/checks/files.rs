//! Files and directories that Kubernetes leaves behind (F17, F53), and the resolver (F44).

use rehull_proto::v1::{Paths, Resolver};
use rehull_shared::text::bounded;

use super::{Gaps, TEXT_BYTES_MAX, union};
use crate::host::{Host, Unreadable};

/// What kubespray's reset deletes and a fresh system does not have.
const PATHS: &[&str] = &[
    "/etc/kubernetes",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/etc/cni",
    "/opt/cni",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/etc/calico",
    "/etc/ssl/etcd",
    "/etc/etcd.env",
];

const RESOLVER_BYTES_MAX: usize = 64 * 1024;
const NAMESERVERS_MAX: usize = 16;

/// Which of the paths are there.
pub(super) fn paths(host: &Host, asked: &[String], gaps: &mut Gaps) -> Paths {
    let mut paths = Paths::default();
    for path in union(PATHS, asked, "paths", gaps) {
        match host.is_present(&path) {
            Ok(true) => paths.present.push(path),
            Ok(false) => paths.absent.push(path),
            Err(error) => gaps.add("paths", error),
        }
    }
    paths
}

/// The name servers that programs use, and those behind the local stub of systemd-resolved.
pub(super) fn resolver(host: &Host) -> Result<Resolver, Unreadable> {
    let upstreams = match nameservers(host, "/run/systemd/resolve/resolv.conf") {
        Err(error) if error.is_absence() => Vec::new(), // no systemd-resolved here
        upstreams => upstreams?,
    };
    Ok(Resolver { nameservers: nameservers(host, "/etc/resolv.conf")?, upstreams })
}

fn nameservers(host: &Host, path: &str) -> Result<Vec<String>, Unreadable> {
    let text = host.text(path, RESOLVER_BYTES_MAX)?;
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten().map(str::to_owned)
    };
    let servers = text.lines().filter_map(server).take(NAMESERVERS_MAX);
    Ok(servers.map(|server| bounded(&server, TEXT_BYTES_MAX)).collect())
}
