//! Ports of Kubernetes and etcd on which something listens (F4, F51).

use rehull_proto::v1::Listeners;

use crate::host::{Host, Unreadable};

/// API server, etcd, kubelet, controller manager, scheduler, kube-proxy, old API server, calico.
const PORTS: &[u32] = &[2379, 2380, 6443, 8081, 9099, 10248, 10249, 10250, 10256, 10257, 10259];

/// Some 100 000 connections of 150 bytes each.
const TABLE_BYTES_MAX: usize = 16 * 1024 * 1024;

const LISTEN: &str = "0A";

/// Which of the ports are listened on, over IPv4 or IPv6, on whatever address.
pub(crate) fn look(host: &Host) -> Result<Listeners, Unreadable> {
    let mut ports = listening(&host.text("/proc/net/tcp", TABLE_BYTES_MAX)?);
    match host.text("/proc/net/tcp6", TABLE_BYTES_MAX) {
        Ok(table) => ports.extend(listening(&table)),
        Err(error) if error.is_absence() => (), // a host without IPv6
        Err(error) => return Err(error),
    }
    ports.sort_unstable();
    ports.dedup();
    Ok(Listeners { ports })
}

/// Lines are `sl: local_address:port remote_address:port state ...`, numbers in hexadecimal.
fn listening(table: &str) -> Vec<u32> {
    let port = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (_, port) = fields.next()?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let port = u32::from_str_radix(port, 16).ok()?;
        (state == LISTEN && PORTS.contains(&port)).then_some(port)
    };
    table.lines().filter_map(port).collect()
}
