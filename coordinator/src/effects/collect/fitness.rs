//! Whether a host is fit for what comes next: its OS, clock, packages, disks and names.

use rehull_proto::v1::{Certificate, Certificates, Os, Report, Repositories, Repository};
use rehull_shared::{evidence::Verdict, time::Timestamp};

use super::{
    super::api::few,
    host::{Heard, part},
};
use crate::domain::{plan::Plan, policy::Policy, profile::Profile};

/// How far the clock of a host may be off, in milliseconds (F39).
const CLOCK_OFF_MAX_MS: i64 = 500;

/// Share of inodes that must be free, in percent (F43).
const INODES_FREE_MIN: u64 = 20;

/// More name servers than the C library asks (F44).
const NAMESERVERS_MAX: usize = 3;

/// The host runs the OS of this profile.
pub(super) fn runs(report: &Report, profile: &Profile) -> Result<Verdict, Verdict> {
    let Os { id, version_id, pretty_name, .. } = part(report, &report.os, "os")?;
    let words = format!("the host runs {pretty_name} ({id} {version_id})");
    Ok(Verdict::when(profile.matches(id, version_id), words))
}

/// No certificate ends within the horizon.
pub(super) fn certificates_valid(
    report: &Report,
    policy: &Policy,
    now: Timestamp,
) -> Result<Verdict, Verdict> {
    let certificates = part(report, &report.certificates, "certificates")?;
    let limit = now + policy.certificate_horizon;
    let soon: Vec<String> = ending(certificates, limit).collect();
    Ok(match soon.is_empty() {
        true => Verdict::pass(format!(
            "{} certificates are valid for {} or more",
            certificates.found.len(),
            policy.certificate_horizon
        )),
        false => Verdict::fail(few(soon)),
    })
}

/// Which of them end before then, and when.
pub(super) fn ending(
    certificates: &Certificates,
    limit: Timestamp,
) -> impl Iterator<Item = String> {
    let ends = |one: &Certificate| Timestamp::from_millis(one.not_after_ms);
    let soon = certificates.found.iter().filter(move |one| ends(one) < limit);
    soon.map(move |one| format!("{} expires at {}", one.path, ends(one)))
}

/// The host's clock is right, as far as the time that the question took can tell.
pub(super) fn clock_in_sync(heard: &Heard) -> Verdict {
    let (clock, asked, came) =
        (heard.report.clock_ms, heard.asked_at.as_millis(), heard.heard_at.as_millis());
    if clock == 0 {
        return Verdict::unknown("the agent does not report its clock"); // a clock at 1970 is none
    }
    // It was read between question and answer, so only what lies outside of that is an error.
    let off = (asked - clock).max(clock - came);
    match off <= CLOCK_OFF_MAX_MS {
        true => Verdict::pass(format!("the clock is right within {CLOCK_OFF_MAX_MS} ms")),
        false => Verdict::fail(format!("the clock is off by {off} ms or more")),
    }
}

/// Nobody holds the lock of the package manager of the OS that runs.
pub(super) fn packages_usable(report: &Report, plan: &Plan) -> Result<Verdict, Verdict> {
    let os = part(report, &report.os, "os")?;
    let packages = part(report, &report.packages, "packages")?;
    let mut known = [plan.source.profile(), plan.target.profile()].into_iter();
    let Some(profile) = known.find(|profile| profile.matches(&os.id, &os.version_id)) else {
        let (id, version) = (&os.id, &os.version_id);
        return Err(Verdict::unknown(format!("nothing is known of packages on {id} {version}")));
    };
    let lock = profile.package_lock;
    if lock.is_empty() || packages.free.iter().any(|free| free == lock) {
        Ok(Verdict::pass("nobody holds the package manager's lock"))
    } else if packages.held.iter().any(|held| held == lock) {
        Ok(Verdict::fail(format!("somebody holds {lock}")))
    } else {
        Err(Verdict::unknown(format!("the agent does not say who holds {lock}")))
    }
}

/// Every repository that was tried serves, and there is one.
pub(super) fn repositories_serve(report: &Report) -> Result<Verdict, Verdict> {
    let tried = &repositories(report)?.found;
    let dead = silent(tried);
    Ok(match (tried.is_empty(), dead.is_empty()) {
        (true, _) => Verdict::fail("no package repository is set up"),
        (false, true) => Verdict::pass(format!("{} package repositories serve", tried.len())),
        (false, false) => {
            Verdict::fail(format!("package repositories do not serve: {}", few(dead)))
        }
    })
}

/// What the agent says of the repositories that it was asked about.
pub(super) fn repositories(report: &Report) -> Result<&Repositories, Verdict> {
    part(report, &report.repositories, "repositories")
}

/// Those that do not serve, and why.
pub(super) fn silent(tried: &[Repository]) -> Vec<String> {
    let dead = tried.iter().filter(|one| !one.serves);
    dead.map(|one| format!("{} ({})", one.name, one.seen)).collect()
}

/// No swap is active.
pub(super) fn swap_off(report: &Report) -> Result<Verdict, Verdict> {
    let swap = part(report, &report.swap, "swap")?;
    Ok(match swap.active.is_empty() {
        true => Verdict::pass("no swap is active"),
        false => Verdict::fail(format!("swap is active: {}", few(&swap.active))),
    })
}

/// None of the profile's firewalls is active.
pub(super) fn firewall_off(report: &Report, profile: &Profile) -> Result<Verdict, Verdict> {
    let units = part(report, &report.units, "units")?;
    let wanted = profile.firewall_units.iter();
    let is_in = |units: &[String], unit: &str| units.iter().any(|one| one == unit);
    let active: Vec<_> = wanted.clone().filter(|unit| is_in(&units.active, unit)).collect();
    if !active.is_empty() {
        return Ok(Verdict::fail(format!("a firewall is active: {}", few(active))));
    }
    match wanted.clone().find(|unit| !is_in(&units.inactive, unit)) {
        Some(unit) => Err(Verdict::unknown(format!("the agent does not say whether {unit} runs"))),
        None => Ok(Verdict::pass("no firewall of the distribution is active")),
    }
}

/// Every file system has enough space and inodes.
pub(super) fn disk_free(report: &Report, policy: &Policy) -> Result<Verdict, Verdict> {
    let disks = part(report, &report.disks, "disks")?;
    if disks.found.is_empty() {
        return Err(Verdict::unknown("the agent reports no file system"));
    }
    let wanted = u64::from(policy.disk_free_gib);
    let full: Vec<String> = disks
        .found
        .iter()
        .filter_map(|disk| {
            let (free, path) = (disk.free_bytes >> 30, &disk.path);
            let inodes = (disk.free_inodes * 100).checked_div(disk.total_inodes);
            if free < wanted {
                Some(format!("{path} has {free} GiB free"))
            } else {
                // Some file systems have no fixed number of inodes, and report 0.
                let few = inodes.filter(|percent| *percent < INODES_FREE_MIN);
                few.map(|percent| format!("{path} has {percent} % of its inodes free"))
            }
        })
        .collect();
    Ok(match full.is_empty() {
        true => Verdict::pass(format!("every file system has {wanted} GiB free or more")),
        false => Verdict::fail(format!("{wanted} GiB are needed, but {}", few(full))),
    })
}

/// Pods would get name servers that are not themselves.
pub(super) fn resolver_usable(report: &Report, profile: &Profile) -> Result<Verdict, Verdict> {
    let resolver = part(report, &report.resolver, "resolver")?;
    // Behind a local stub, the kubelet hands out what the stub asks, if the OS keeps it in a file.
    let behind = !profile.resolver.is_empty() && !resolver.upstreams.is_empty();
    let servers = if behind { &resolver.upstreams } else { &resolver.nameservers };
    let is_local = |server: &String| server.starts_with("127.") || server == "::1";
    let names = few(servers);
    Ok(match servers.len() {
        0 => Verdict::fail("no name server is configured"),
        _ if servers.iter().any(is_local) => {
            Verdict::fail(format!("pods would ask themselves for names: {names}"))
        }
        many if many > NAMESERVERS_MAX => {
            Verdict::fail(format!("{many} name servers; the C library asks {NAMESERVERS_MAX}"))
        }
        _ => Verdict::pass(format!("pods get the name servers {names}")),
    })
}

#[cfg(test)]
mod tests {
    use rehull_proto::v1::{
        Certificate, Certificates, Disk, Disks, Packages, Resolver, Swap, Units,
    };

    use super::*;
    use crate::effects::testing::{NOW, heard, host_report, migration, says};

    fn said(verdict: Result<Verdict, Verdict>) -> Verdict {
        verdict.unwrap_or_else(|unknown| unknown)
    }

    fn target() -> &'static Profile {
        migration().plan.target.profile()
    }

    #[test]
    fn what_is_not_reported_is_unknown() {
        let (empty, plan) = (Report::default(), migration().plan);
        for verdict in [
            runs(&empty, target()),
            certificates_valid(&empty, &plan.policy, NOW),
            packages_usable(&empty, &plan),
            swap_off(&empty),
            firewall_off(&empty, target()),
            disk_free(&empty, &plan.policy),
            resolver_usable(&empty, target()),
            Ok(clock_in_sync(&heard(empty.clone()))),
        ] {
            says(&said(verdict), "unknown", "does not report its");
        }
    }

    #[test]
    fn the_os_is_that_of_the_profile() {
        says(&said(runs(&host_report(), target())), "pass", "Ubuntu 22.04");
        let source = migration().plan.source.profile();
        says(&said(runs(&host_report(), source)), "fail", "Ubuntu 22.04");
    }

    #[test]
    fn certificates_that_end_soon_are_named() {
        let judge = |days: i64| {
            let not_after_ms = NOW.as_millis() + days * 86_400_000;
            let (path, subject) = ("/etc/kubernetes/ssl/ca.crt".into(), String::new());
            let found = vec![Certificate { path, not_after_ms, subject }];
            let report = Report { certificates: Some(Certificates { found }), ..host_report() };
            said(certificates_valid(&report, &migration().plan.policy, NOW))
        };
        says(&judge(31), "pass", "1 certificates");
        says(&judge(29), "fail", "/etc/kubernetes/ssl/ca.crt expires at 2023-12-13");
    }

    #[test]
    fn a_clock_is_right_between_question_and_answer() {
        let judge = |off_ms: i64| {
            let clock_ms = NOW.as_millis() + off_ms;
            clock_in_sync(&heard(Report { clock_ms, ..host_report() })) // answered after 100 ms
        };
        for off_ms in [-500, 0, 100, 600] {
            says(&judge(off_ms), "pass", "right within 500 ms");
        }
        says(&judge(-501), "fail", "off by 501 ms");
        says(&judge(60_000), "fail", "off by 59900 ms");
    }

    #[test]
    fn the_lock_that_counts_is_that_of_the_os_that_runs() {
        let judge = |held: &[&str], free: &[&str]| {
            let own = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
            let packages = Some(Packages { held: own(held), free: own(free) });
            said(packages_usable(&Report { packages, ..host_report() }, &migration().plan))
        };
        let (yum, dpkg) = ("/var/run/yum.pid", "/var/lib/dpkg/lock-frontend");
        says(&judge(&[yum], &[dpkg]), "pass", "nobody holds");
        says(&judge(&[dpkg], &[yum]), "fail", dpkg);
        says(&judge(&[], &[yum]), "unknown", dpkg);
    }

    #[test]
    fn swap_and_firewalls_must_be_off() {
        says(&said(swap_off(&host_report())), "pass", "no swap");
        let swap = Some(Swap { active: vec!["/dev/sda2".into()] });
        says(&said(swap_off(&Report { swap, ..host_report() })), "fail", "/dev/sda2");
        says(&said(firewall_off(&host_report(), target())), "pass", "no firewall");
        let judge = |active: &[&str], inactive: &[&str]| {
            let own = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
            let units = Some(Units { active: own(active), inactive: own(inactive) });
            said(firewall_off(&Report { units, ..host_report() }, target()))
        };
        says(&judge(&["ufw.service"], &["firewalld.service"]), "fail", "ufw.service");
        says(&judge(&[], &["ufw.service"]), "unknown", "whether firewalld.service runs");
    }

    #[test]
    fn disks_need_space_and_inodes() {
        let judge = |free_gib: u64, free_inodes: u64, total_inodes: u64| {
            let (free_bytes, total_bytes) = (free_gib << 30, 100 << 30);
            let path = "/var".to_owned();
            let disk = Disk { path, free_bytes, total_bytes, free_inodes, total_inodes };
            let disks = Some(Disks { found: vec![disk] });
            said(disk_free(&Report { disks, ..host_report() }, &migration().plan.policy))
        };
        says(&judge(20, 20, 100), "pass", "20 GiB free or more");
        says(&judge(20, 0, 0), "pass", "20 GiB free or more");
        says(&judge(19, 20, 100), "fail", "/var has 19 GiB free");
        says(&judge(20, 19, 100), "fail", "/var has 19 % of its inodes free");
        let none = Report { disks: Some(Disks::default()), ..host_report() };
        says(&said(disk_free(&none, &migration().plan.policy)), "unknown", "no file system");
    }

    #[test]
    fn pods_must_not_be_given_a_stub() {
        let judge = |nameservers: &[&str], upstreams: &[&str]| {
            let own = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
            let (nameservers, upstreams) = (own(nameservers), own(upstreams));
            let resolver = Some(Resolver { nameservers, upstreams });
            said(resolver_usable(&Report { resolver, ..host_report() }, target()))
        };
        says(&judge(&["10.0.0.53"], &[]), "pass", "10.0.0.53");
        says(&judge(&["127.0.0.53"], &["10.0.0.53"]), "pass", "10.0.0.53");
        says(&judge(&["127.0.0.53"], &[]), "fail", "ask themselves");
        says(&judge(&["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"], &[]), "fail", "4 name");
        says(&judge(&[], &[]), "fail", "no name server");
    }
}
