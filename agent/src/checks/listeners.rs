//! Ports of Kubernetes and etcd on which something listens (F4, F51).

use rehull_proto::v1::Listeners;

use crate::host::{Host, Unreadable};

/// API server, etcd, kubelet, controller manager, scheduler, kube-proxy, old API server, calico.
const PORTS: &[u32] = &[2379, 2380, 6443, 8081, 9099, 10248, 10249, 10250, 10256, 10257, 10259];

const LISTEN: &str = "0A";

/// Connections that a listener has half accepted; older kernels show them between the listeners.
const SYN_RECEIVED: &str = "03";

/// Which of the ports are listened on, over IPv4 or IPv6, on whatever address.
pub(crate) fn look(host: &Host) -> Result<Listeners, Unreadable> {
    Ok(Listeners { ports: among(host, PORTS)? })
}

/// Whether this one is, which need not be a usual one.
pub(crate) fn is_listened_on(host: &Host, port: u32) -> Result<bool, Unreadable> {
    Ok(!among(host, &[port])?.is_empty())
}

fn among(host: &Host, wanted: &[u32]) -> Result<Vec<u32>, Unreadable> {
    let mut ports = listening(host, "/proc/net/tcp", wanted)?;
    match listening(host, "/proc/net/tcp6", wanted) {
        Ok(more) => ports.extend(more),
        Err(error) if error.is_absence() => (), // a host without IPv6
        Err(error) => return Err(error),
    }
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

/// Lines are `sl: local_address:port remote_address:port state ...`, numbers in hexadecimal.
///
/// The kernel lists "first all listening TCP sockets, and next all established TCP connections"
/// (Documentation/networking/proc_net_tcp.rst). Those can be 100 000, and are not read.
fn listening(host: &Host, path: &str, wanted: &[u32]) -> Result<Vec<u32>, Unreadable> {
    let mut ports = Vec::new();
    let mut is_heading = true;
    host.lines_while(path, |line| {
        if std::mem::take(&mut is_heading) {
            return true;
        }
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, state) = (fields.next().unwrap_or_default(), fields.nth(1));
        let port = local.rsplit_once(':').and_then(|(_, port)| u32::from_str_radix(port, 16).ok());
        if state == Some(LISTEN) {
            ports.extend(port.filter(|port| wanted.contains(port)));
        }
        matches!(state, Some(LISTEN | SYN_RECEIVED))
    })?;
    Ok(ports)
}
