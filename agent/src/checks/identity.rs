//! Who the host is: names, ids, network cards; and which operating system it runs.

use rehull_proto::v1::{Identity, Nic, Os};
use rehull_shared::text::bounded;

use super::TEXT_BYTES_MAX;
use crate::host::{Host, Unreadable};

const LINE_BYTES_MAX: usize = 4 * 1024;
const CARDS_SEEN_MAX: usize = 4 * 1024;
const CARDS_MAX: usize = 32;
const ADDRESSES_MAX: usize = 8;

/// Beginnings of the names of cards that Kubernetes, its networks and Docker make: hundreds on a
/// busy node, and none of them is the host's.
const MADE_BY_KUBERNETES: &[&str] = &[
    "cali",
    "veth",
    "lxc",
    "cilium",
    "vxlan.calico",
    "wireguard.cali",
    "flannel",
    "cni",
    "kube-",
    "nodelocaldns",
    "docker",
    "tunl",
    "dummy",
];

/// Who the host is. What cannot be read is told to `gap` and left empty.
pub(crate) fn look(host: &Host, mut gap: impl FnMut(&str, Unreadable)) -> Identity {
    let mut line =
        |part: &str, path: &str, may_be_absent: bool| match host.text(path, LINE_BYTES_MAX) {
            Ok(text) => bounded(text.trim(), TEXT_BYTES_MAX),
            Err(error) if may_be_absent && error.is_absence() => String::new(),
            Err(error) => {
                gap(part, error);
                String::new()
            }
        };
    let mut identity = Identity {
        hostname: line("identity.hostname", "/proc/sys/kernel/hostname", false),
        machine_id: line("identity.machine_id", "/etc/machine-id", false),
        boot_id: line("identity.boot_id", "/proc/sys/kernel/random/boot_id", false),
        product_uuid: line("identity.product_uuid", "/sys/class/dmi/id/product_uuid", true),
        product_serial: line("identity.product_serial", "/sys/class/dmi/id/product_serial", true),
        nics: Vec::new(),
    };
    match nics(host) {
        Ok(nics) => identity.nics = nics,
        Err(error) => gap("identity.nics", error),
    }
    identity
}

fn nics(host: &Host) -> Result<Vec<Nic>, Unreadable> {
    let addresses = host.addresses()?;
    let is_ours = |name: &String| {
        name != "lo" && !MADE_BY_KUBERNETES.iter().any(|made| name.starts_with(made))
    };
    let names = host.names("/sys/class/net", CARDS_SEEN_MAX)?;
    let cards = names.into_iter().filter(is_ours).take(CARDS_MAX);
    let nic = |name: String| {
        let mac = match host.text(&format!("/sys/class/net/{name}/address"), LINE_BYTES_MAX) {
            Ok(mac) => bounded(mac.trim(), TEXT_BYTES_MAX),
            Err(error) if error.is_absence() => String::new(), // gone again, or not Ethernet
            Err(error) => return Err(error),
        };
        let of_card = addresses.iter().filter(|(card, _)| *card == name);
        let usable = of_card.map(|(_, address)| address).filter(|a| !a.starts_with("fe80:"));
        Ok(Nic { addresses: usable.take(ADDRESSES_MAX).cloned().collect(), name, mac })
    };
    cards.map(nic).collect()
}

/// The operating system, as `/etc/os-release` and the kernel name it.
pub(crate) fn os(host: &Host) -> Result<Os, Unreadable> {
    const FILE: &str = "/etc/os-release";
    let text = host.text(FILE, 64 * 1024)?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        bounded(line.unwrap_or_default().trim().trim_matches(['"', '\'']), TEXT_BYTES_MAX)
    };
    if value("ID").is_empty() {
        return Err(Unreadable::nonsense(FILE, "has no ID"));
    }
    let (kernel, architecture) = host.kernel()?;
    Ok(Os {
        id: value("ID"),
        version_id: value("VERSION_ID"),
        pretty_name: value("PRETTY_NAME"),
        kernel,
        architecture,
    })
}
