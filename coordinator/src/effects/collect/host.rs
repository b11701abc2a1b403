//! What the agent says about its host.

use std::collections::BTreeMap;

use rehull_proto::v1::{Collect, Identity, Nic, Process, Report};
use rehull_shared::{
    evidence::{Check, Verdict},
    ids::{ClusterName, Generation, NodeName},
    time::Timestamp,
};

use super::{super::api::few, fitness};
use crate::domain::{
    gate::Gate,
    plan::{Plan, PlannedNode},
    state::{Host, Snapshot},
};

/// What kubespray's reset deletes and a join makes anew (F17, F53); the last two are only on hosts that
/// have etcd as a service.
const NODE_PATHS: [&str; 7] = [
    "/etc/kubernetes",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/etc/cni",
    "/var/lib/containerd",
    "/etc/ssl/etcd",
    "/etc/etcd.env",
];

/// The unit whose activity would bring a kubelet back that is not running at this very moment.
const KUBELET_UNIT: &str = "kubelet.service";

/// `comm` of an API server.
const API_SERVER: &str = "kube-apiserver";

/// The port of an API server that agents look at.
const API_PORT: u32 = 6443;

/// One answer of an agent.
pub(in super::super) struct Heard {
    /// What it said.
    pub(in super::super) report: Report,
    /// The installation that said it.
    pub(in super::super) generation: Generation,
    /// When it was asked.
    pub(in super::super) asked_at: Timestamp,
    /// When the answer came.
    pub(in super::super) heard_at: Timestamp,
}

/// What the answer is compared with.
pub(super) struct Expected<'a> {
    /// The plan of the migration.
    pub(super) plan: &'a Plan,
    /// What was planned for the node.
    pub(super) planned: &'a PlannedNode,
    /// What the host was, once it is recorded.
    pub(super) snapshot: Option<&'a Snapshot>,
    /// The generation that has said farewell.
    pub(super) farewell: Option<Generation>,
    /// Every host of the fleet.
    pub(super) hosts: &'a BTreeMap<(ClusterName, NodeName), Host>,
}

/// What an agent is asked for, beside what every look shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Look {
    /// What the checks of a gate need.
    Gate(Gate),
    /// What is kept of a host.
    Snapshot,
    /// Whether the repositories that it is set up with serve.
    Repositories,
    /// Its proxy before the API servers.
    Proxy,
}

impl Look {
    /// A word that tells two questions of the same moment apart.
    pub(super) fn word(self) -> &'static str {
        match self {
            Look::Gate(_) => "gate",
            Look::Snapshot => "snapshot",
            Look::Repositories => "repositories",
            Look::Proxy => "proxy",
        }
    }
}

/// The question: everything that any check of [`appraise`] needs.
pub(super) fn question(plan: &Plan, what: Look, nonce: String) -> Collect {
    let fresh = matches!(what, Look::Gate(gate)
        if gate.needs().iter().any(|need| need.check == Check::RepositoriesServe));
    // The hosts get these by the join itself; those of the installer may be anything.
    let repositories = if fresh { plan.repos.clone() } else { Vec::new() };
    let own = what == Look::Repositories || (fresh && repositories.is_empty());
    let profiles = [plan.source.profile(), plan.target.profile()];
    let mut units = vec![KUBELET_UNIT.to_owned()];
    units.extend(profiles.iter().flat_map(|one| one.firewall_units).map(|&one| one.to_owned()));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let locks = profiles.iter().filter_map(|one| some(one.package_lock));
    Collect {
        nonce,
        certificate_dirs: Vec::new(),
        units: sorted(units),
        locks: sorted(locks.collect()),
        paths: sorted(NODE_PATHS.map(str::to_owned).into()),
        repositories,
        own_repositories: own,
        files: what == Look::Snapshot,
        proxy: what == Look::Proxy,
        ..Collect::default()
    }
}

/// Judges one check by an answer. `Err` is `Unknown`: a part of the report is missing.
pub(super) fn appraise(
    check: Check,
    heard: &Heard,
    expected: &Expected<'_>,
) -> Result<Verdict, Verdict> {
    let (report, plan) = (&heard.report, expected.plan);
    match check {
        Check::HostIsNode => host_is_node(report, expected.planned),
        Check::OsIsSource => fitness::runs(report, plan.source.profile()),
        Check::OsIsTarget => fitness::runs(report, plan.target.profile()),
        Check::CertificatesValid => {
            fitness::certificates_valid(report, &plan.policy, heard.heard_at)
        }
        Check::ClockInSync => Ok(fitness::clock_in_sync(heard)),
        Check::PackagesUsable => fitness::packages_usable(report, plan),
        Check::RepositoriesServe => fitness::repositories_serve(report),
        Check::ApiServerStopped => api_server_stopped(report, plan, expected.planned),
        Check::KubeletStopped => kubelet_stopped(report),
        Check::NoLeftovers => no_leftovers(report),
        Check::PortsFree => ports_free(report),
        Check::NodeFilesGone => node_files_gone(report),
        Check::InstallationNew => installation_new(heard, expected),
        Check::AddressesKept => addresses_kept(report, expected),
        Check::HardwareKept => hardware_kept(report, expected),
        Check::SwapOff => fitness::swap_off(report),
        Check::FirewallOff => fitness::firewall_off(report, plan.target.profile()),
        Check::DiskFree => fitness::disk_free(report, &plan.policy),
        Check::ResolverUsable => fitness::resolver_usable(report, plan.target.profile()),
        other => Err(Verdict::unknown(format!("no agent can answer {other}"))),
    }
}

/// The processes that a kill would be for: all but kubelets, which no agent kills.
pub(super) fn leftovers(report: &Report) -> Vec<&Process> {
    let found = report.processes.iter().flat_map(|processes| &processes.found);
    found.filter(|process| process.comm != "kubelet").collect()
}

/// The identity of the host, of which these fields could be read: an empty one may be the truth.
pub(super) fn identity<'a>(report: &'a Report, fields: &[&str]) -> Result<&'a Identity, Verdict> {
    for field in fields {
        readable(report, &format!("identity.{field}"))?;
    }
    part(report, &report.identity, "identity")
}

/// A part of a report. One that is incomplete is as unknown as one that is not there.
pub(super) fn part<'a, T>(
    report: &Report,
    part: &'a Option<T>,
    name: &str,
) -> Result<&'a T, Verdict> {
    readable(report, name)?;
    let missing = || Verdict::unknown(format!("the agent does not report its {name}"));
    part.as_ref().ok_or_else(missing)
}

fn readable(report: &Report, name: &str) -> Result<(), Verdict> {
    match report.unread.iter().find(|unread| unread.part == name) {
        None => Ok(()),
        Some(unread) => {
            let why = &unread.why;
            Err(Verdict::unknown(format!("the agent cannot read its {name}: {why}")))
        }
    }
}

fn recorded<'a>(expected: &Expected<'a>) -> Result<&'a Snapshot, Verdict> {
    expected.snapshot.ok_or_else(|| Verdict::unknown("what the host was is not recorded"))
}

fn host_is_node(report: &Report, planned: &PlannedNode) -> Result<Verdict, Verdict> {
    let host = identity(report, &["hostname", "nics"])?;
    let addresses: Vec<&str> =
        host.nics.iter().flat_map(|nic| &nic.addresses).map(String::as_str).collect();
    if host.hostname != planned.name.as_str() {
        let (is, name) = (&host.hostname, planned.name.as_str());
        return Ok(Verdict::fail(format!("the host calls itself {is:?}, not {name:?}")));
    }
    let words = match addresses.contains(&planned.address.as_str()) {
        true => return Ok(Verdict::pass(format!("{} has {}", planned.name, planned.address))),
        false => format!("the host has {}, not {}", few(addresses), planned.address),
    };
    Ok(Verdict::fail(words))
}

fn kubelet_stopped(report: &Report) -> Result<Verdict, Verdict> {
    let processes = part(report, &report.processes, "processes")?;
    if let Some(kubelet) = processes.found.iter().find(|one| one.comm == "kubelet") {
        return Ok(Verdict::fail(format!("kubelet runs (pid {})", kubelet.pid)));
    }
    // Between two restarts there is no process; where units can be read, they tell.
    let active = report.units.iter().flat_map(|units| &units.active);
    if active.into_iter().any(|unit| unit == KUBELET_UNIT) {
        return Ok(Verdict::fail(format!("{KUBELET_UNIT} is active")));
    }
    Ok(Verdict::pass("no kubelet runs"))
}

/// Neither its process nor its port: the kubelet may be about to start it again.
fn api_server_stopped(
    report: &Report,
    plan: &Plan,
    planned: &PlannedNode,
) -> Result<Verdict, Verdict> {
    let processes = part(report, &report.processes, "processes")?;
    let listeners = part(report, &report.listeners, "listeners")?;
    if let Some(found) = processes.found.iter().find(|one| one.comm == API_SERVER) {
        return Ok(Verdict::fail(format!("{API_SERVER} runs (pid {})", found.pid)));
    }
    let own = plan.control_plane(&planned.name).map(|own| own.api_server.as_str());
    let port = own.and_then(|own| own.rsplit_once(':')?.1.parse::<u32>().ok());
    let port = port.ok_or_else(|| Verdict::unknown("the plan has no API server of this node"))?;
    if port != API_PORT {
        let why =
            format!("the agent looks at port {API_PORT} alone, and the API server has {port}");
        return Err(Verdict::unknown(why));
    }
    Ok(match listeners.ports.contains(&port) {
        true => Verdict::fail(format!("something listens on {port}")),
        false => Verdict::pass(format!("no {API_SERVER} runs, and nothing listens on {port}")),
    })
}

fn no_leftovers(report: &Report) -> Result<Verdict, Verdict> {
    let processes = part(report, &report.processes, "processes")?;
    let left = processes.found.iter().map(|one| format!("{} (pid {})", one.comm, one.pid));
    Ok(match processes.found.is_empty() {
        true => Verdict::pass("no process of Kubernetes is left"),
        false => Verdict::fail(format!("processes are left: {}", few(left))),
    })
}

fn ports_free(report: &Report) -> Result<Verdict, Verdict> {
    let listeners = part(report, &report.listeners, "listeners")?;
    Ok(match listeners.ports.is_empty() {
        true => Verdict::pass("nothing listens on a port of Kubernetes"),
        false => Verdict::fail(format!("something listens on {}", few(&listeners.ports))),
    })
}

fn node_files_gone(report: &Report) -> Result<Verdict, Verdict> {
    let paths = part(report, &report.paths, "paths")?;
    let left: Vec<&str> =
        NODE_PATHS.into_iter().filter(|dir| paths.present.iter().any(|path| path == dir)).collect();
    if !left.is_empty() {
        return Ok(Verdict::fail(format!("still there: {}", few(left))));
    }
    let mut unseen = NODE_PATHS.iter().filter(|dir| !paths.absent.iter().any(|path| path == *dir));
    match unseen.next() {
        Some(dir) => Err(Verdict::unknown(format!("the agent does not say whether {dir} exists"))),
        None => Ok(Verdict::pass("the directories of Kubernetes are gone")),
    }
}

fn installation_new(heard: &Heard, expected: &Expected<'_>) -> Result<Verdict, Verdict> {
    let (host, before) =
        (identity(&heard.report, &["boot_id", "machine_id"])?, recorded(expected)?);
    let Some(farewell) = expected.farewell else {
        return Err(Verdict::unknown("no farewell of the old installation is known"));
    };
    if host.boot_id.is_empty() || host.machine_id.is_empty() {
        return Err(Verdict::unknown("the agent does not say which boot and machine it runs on"));
    }
    let mut same = Vec::new();
    if heard.generation <= farewell {
        same.push(format!("generation {} has said farewell", heard.generation));
    }
    if host.boot_id == before.boot_id {
        same.push("the boot id is the old one".to_owned());
    }
    if host.machine_id == before.machine_id {
        same.push("the machine id is the old one".to_owned());
    }
    // An image that was cloned with its machine id gives two hosts the same network leases and
    // system logs (F34).
    let own = (&expected.plan.cluster, &expected.planned.name);
    let mut others = expected.hosts.iter().filter(|((cluster, node), _)| (cluster, node) != own);
    let twin = others.find(|(_, other)| {
        other.identity.as_ref().is_some_and(|other| other.machine_id == host.machine_id)
    });
    if let Some(((cluster, node), _)) = twin {
        same.push(format!("the machine id is also that of {node} in {cluster}"));
    }
    Ok(match same.is_empty() {
        true => Verdict::pass("boot id and machine id are new"),
        false => Verdict::fail(few(same)),
    })
}

/// Whether a network card that was recorded is there with the planned address.
fn carries(nic: &Nic, address: &str, macs: &[String]) -> bool {
    nic.addresses.iter().any(|one| one == address) && is_recorded(nic, macs)
}

fn is_recorded(nic: &Nic, macs: &[String]) -> bool {
    macs.iter().any(|mac| mac.eq_ignore_ascii_case(&nic.mac))
}

fn addresses_kept(report: &Report, expected: &Expected<'_>) -> Result<Verdict, Verdict> {
    let (host, before) = (identity(report, &["nics"])?, recorded(expected)?);
    let address = &expected.planned.address;
    if host.nics.iter().any(|nic| carries(nic, address, &before.macs)) {
        return Ok(Verdict::pass(format!("{address} is on the recorded network card")));
    }
    let (macs, nics) = (before.macs.join(", "), &host.nics);
    let found = nics.iter().map(|nic| format!("{} [{}]", nic.mac, nic.addresses.join(" ")));
    let found = few(found);
    Ok(Verdict::fail(format!("{address} is not on network card {macs}; there are {found}")))
}

fn hardware_kept(report: &Report, expected: &Expected<'_>) -> Result<Verdict, Verdict> {
    let (host, before) = (identity(report, &["product_uuid", "nics"])?, recorded(expected)?);
    if before.product_uuid.is_empty() {
        // A machine without firmware tables is told by its network cards.
        let kept = host.nics.iter().any(|nic| is_recorded(nic, &before.macs));
        let words = "the machine has no product uuid; its network cards are";
        let verb = if kept { "the recorded ones" } else { "others than recorded" };
        return Ok(Verdict::when(kept, format!("{words} {verb}")));
    }
    let (is, was) = (&host.product_uuid, &before.product_uuid);
    let words = format!("the product uuid is {is:?}, and was {was:?}");
    Ok(Verdict::when(is.eq_ignore_ascii_case(was), words))
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use rehull_proto::v1::{Listeners, Paths, Processes, Units, Unread};

    use super::*;
    use crate::{
        domain::state::{HostIdentity, Migration},
        effects::testing::{heard, host_report, migration, says, snapshot},
    };

    fn judge(check: Check, report: Report) -> Verdict {
        let Migration { plan, nodes, .. } = migration();
        let snapshot = snapshot();
        let (snapshot, farewell) = (Some(&snapshot), Some(Generation(1)));
        let enrolled = |machine_id: &str| Host {
            identity: Some(HostIdentity { machine_id: machine_id.into(), ..Default::default() }),
            ..Host::default()
        };
        let hosts = BTreeMap::from([
            ((plan.cluster.clone(), nodes[0].planned.name.clone()), enrolled("machine-2")),
            ((plan.cluster.clone(), "n2".parse().unwrap()), enrolled("another")),
        ]);
        let (planned, hosts) = (&nodes[0].planned, &hosts);
        let expected = Expected { plan: &plan, planned, snapshot, farewell, hosts };
        appraise(check, &heard(report), &expected).unwrap_or_else(|unknown| unknown)
    }

    fn with_identity(change: impl FnOnce(&mut Identity)) -> Report {
        let mut report = host_report();
        change(report.identity.as_mut().unwrap());
        report
    }

    fn process(comm: &str) -> Process {
        let exe = format!("/usr/local/bin/{comm}");
        Process { pid: 42, start_ticks: 7, comm: comm.into(), exe, in_pod: false }
    }

    #[test]
    fn a_part_that_is_missing_or_incomplete_is_unknown() {
        for check in [
            Check::HostIsNode,
            Check::KubeletStopped,
            Check::NoLeftovers,
            Check::PortsFree,
            Check::NodeFilesGone,
            Check::InstallationNew,
            Check::AddressesKept,
            Check::HardwareKept,
        ] {
            says(&judge(check, Report::default()), "unknown", "does not report its");
        }
        let mut report = host_report();
        let why = "permission denied".to_owned();
        report.unread = vec![Unread { part: "processes".into(), why }];
        says(&judge(Check::NoLeftovers, report), "unknown", "its processes: permission denied");
        let mut report = with_identity(|host| host.hostname.clear());
        let why = "permission denied".to_owned();
        report.unread = vec![Unread { part: "identity.hostname".into(), why }];
        says(&judge(Check::HostIsNode, report), "unknown", "its identity.hostname");
        says(&judge(Check::NodeAbsent, host_report()), "unknown", "no agent can answer NodeAbsent");
    }

    #[test]
    fn the_host_is_known_by_name_and_address() {
        says(&judge(Check::HostIsNode, host_report()), "pass", "worker1 has 10.0.0.1");
        let renamed = with_identity(|host| host.hostname = "Worker1".into());
        says(
            &judge(Check::HostIsNode, renamed),
            "fail",
            "calls itself \"Worker1\", not \"worker1\"",
        );
        let moved = with_identity(|host| host.nics[0].addresses = vec!["10.0.0.9".into()]);
        says(&judge(Check::HostIsNode, moved), "fail", "has 10.0.0.9, not 10.0.0.1");
    }

    #[test]
    fn a_kubelet_is_seen_by_its_process_and_by_its_unit() {
        says(&judge(Check::KubeletStopped, host_report()), "pass", "no kubelet runs");
        let running = Processes { found: vec![process("kubelet")], total: 9 };
        let report = Report { processes: Some(running), ..host_report() };
        assert!(leftovers(&report).is_empty(), "no agent kills a kubelet");
        says(&judge(Check::KubeletStopped, report), "fail", "pid 42");
        let units = Units { active: vec![KUBELET_UNIT.into()], inactive: Vec::new() };
        let report = Report { units: Some(units), ..host_report() };
        says(&judge(Check::KubeletStopped, report), "fail", "kubelet.service is active");
    }

    #[test]
    fn leftovers_are_named() {
        says(&judge(Check::NoLeftovers, host_report()), "pass", "no process");
        let left = Processes { found: vec![process("kube-proxy")], total: 9 };
        let report = Report { processes: Some(left), ..host_report() };
        assert_eq!(leftovers(&report).len(), 1);
        says(&judge(Check::NoLeftovers, report), "fail", "kube-proxy (pid 42)");
        says(&judge(Check::PortsFree, host_report()), "pass", "nothing listens");
        let report = Report { listeners: Some(Listeners { ports: vec![6443] }), ..host_report() };
        says(&judge(Check::PortsFree, report), "fail", "6443");
    }

    #[test]
    fn directories_must_be_seen_to_be_absent() {
        says(&judge(Check::NodeFilesGone, host_report()), "pass", "are gone");
        let absent: Vec<String> = NODE_PATHS[1..].iter().map(|&dir| dir.into()).collect();
        let paths = Paths { present: Vec::new(), absent: absent.clone() };
        let report = Report { paths: Some(paths), ..host_report() };
        says(&judge(Check::NodeFilesGone, report), "unknown", "whether /etc/kubernetes exists");
        let paths = Paths { present: vec![NODE_PATHS[0].into()], absent };
        let report = Report { paths: Some(paths), ..host_report() };
        says(&judge(Check::NodeFilesGone, report), "fail", "still there: /etc/kubernetes");
        let etcd = ["/etc/ssl/etcd", "/etc/etcd.env"].map(str::to_owned).to_vec();
        let mut report = host_report();
        report.paths.as_mut().unwrap().present = etcd;
        says(
            &judge(Check::NodeFilesGone, report),
            "fail",
            "still there: /etc/ssl/etcd, /etc/etcd.env",
        );
    }

    #[test]
    fn an_installation_is_new_in_every_way_or_not_at_all() {
        says(&judge(Check::InstallationNew, host_report()), "pass", "are new");
        let same_boot = with_identity(|host| host.boot_id = "boot-1".into());
        says(&judge(Check::InstallationNew, same_boot), "fail", "the boot id is the old one");
        let cloned = with_identity(|host| host.machine_id = "machine-1".into());
        says(&judge(Check::InstallationNew, cloned), "fail", "the machine id is the old one");
        let twin = with_identity(|host| host.machine_id = "another".into());
        says(&judge(Check::InstallationNew, twin), "fail", "machine id is also that of n2 in prod");
        let silent = with_identity(|host| host.boot_id.clear());
        says(&judge(Check::InstallationNew, silent), "unknown", "which boot");
    }

    #[test]
    fn address_and_hardware_are_those_that_were_recorded() {
        says(&judge(Check::AddressesKept, host_report()), "pass", "recorded network card");
        let other = || with_identity(|host| host.nics[0].mac = "52:54:00:00:00:99".into());
        says(&judge(Check::AddressesKept, other()), "fail", "52:54:00:00:00:99 [10.0.0.1]");
        says(&judge(Check::HardwareKept, other()), "pass", "4c4c4544");
        let swapped = with_identity(|host| host.product_uuid = "ffff".into());
        says(&judge(Check::HardwareKept, swapped), "fail", "is \"ffff\", and was \"4c4c4544\"");
    }

    #[test]
    fn the_question_asks_for_everything_once() {
        let asked = question(&migration().plan, Look::Snapshot, "n".into());
        assert_eq!(asked.units, ["firewalld.service", "kubelet.service", "ufw.service"]);
        assert_eq!(asked.locks, ["/var/lib/dpkg/lock-frontend", "/var/run/yum.pid"]);
        assert!(NODE_PATHS.iter().all(|dir| asked.paths.iter().any(|path| path == dir)));
    }
}
