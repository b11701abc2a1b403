//! Which systemd units are active, without asking systemd: its bus may hang when it is needed most.

use rehull_proto::v1::Units;

use super::{ASKED_MAX, Gaps};
use crate::host::{Host, Unreadable};

/// systemd 237 and later keep a link here for every unit that is active, also for one without
/// processes, and remove it when the unit stops.
const STARTED: &str = "/run/systemd/units";

/// Where older systemd (CentOS 7 has 219) shows the processes of a unit: cgroup v1, then v2.
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup/systemd/system.slice", "/sys/fs/cgroup/system.slice"];

const UNIT_DIRS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

const UNIT_BYTES_MAX: usize = 64 * 1024;

/// ufw's unit is active on every Ubuntu, whether it filters or not; its configuration tells.
const UFW: &str = "ufw.service";
const UFW_CONFIG: &str = "/etc/ufw/ufw.conf";

/// Which of the units are active.
pub(super) fn look(host: &Host, asked: &[String], gaps: &mut Gaps) -> Units {
    let mut units = Units::default();
    for unit in asked.iter().take(ASKED_MAX) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.@:\\".contains(c);
        if unit.len() > 100 || !unit.chars().all(is_name) || unit.starts_with('.') {
            gaps.add("units", format!("{unit}: not a name of a unit"));
            continue;
        }
        match is_active(host, unit) {
            Ok(true) => units.active.push(unit.clone()),
            Ok(false) => units.inactive.push(unit.clone()),
            Err(error) => gaps.add("units", error),
        }
    }
    if asked.len() > ASKED_MAX {
        gaps.add("units", format!("{} asked for, {ASKED_MAX} is the most", asked.len()));
    }
    units
}

fn is_active(host: &Host, unit: &str) -> Result<bool, Unreadable> {
    if unit == UFW && !ufw_filters(host)? {
        return Ok(false);
    }
    if host.exists(STARTED)? {
        return host.exists(&format!("{STARTED}/invocation:{unit}"));
    }
    if has_processes(host, unit)? {
        return Ok(true);
    }
    match unit_file(host, unit)? {
        // Without processes and without systemd's own word such a unit may be either.
        Some(text) if has_no_processes_when_active(&text) => {
            Err(Unreadable::nonsense(unit, "cannot be known: this systemd keeps no record of it"))
        }
        Some(_) | None => Ok(false),
    }
}

/// By the unit's cgroup, or where units have none (a host without systemd) by the program's name.
fn has_processes(host: &Host, unit: &str) -> Result<bool, Unreadable> {
    let slices = CGROUPS.iter().filter(|slice| host.exists(slice).unwrap_or(false));
    let mut slices = slices.peekable();
    if slices.peek().is_some() {
        for slice in slices {
            match host.text(&format!("{slice}/{unit}/cgroup.procs"), UNIT_BYTES_MAX) {
                Ok(pids) if !pids.trim().is_empty() => return Ok(true),
                Ok(_) => (),
                Err(error) if error.is_absence() => (),
                Err(error) => return Err(error),
            }
        }
        return Ok(false);
    }
    let name: String = unit.trim_end_matches(".service").chars().take(15).collect();
    Ok(!super::processes::named(host, &[&name])?.is_empty())
}

fn unit_file(host: &Host, unit: &str) -> Result<Option<String>, Unreadable> {
    for dir in UNIT_DIRS {
        match host.text(&format!("{dir}/{unit}"), UNIT_BYTES_MAX) {
            Ok(text) => return Ok(Some(text)),
            Err(error) if error.is_absence() => (),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn has_no_processes_when_active(unit: &str) -> bool {
    unit.lines().map(str::trim).any(|line| line == "Type=oneshot" || line == "RemainAfterExit=yes")
}

/// No configuration: ufw is not installed.
fn ufw_filters(host: &Host) -> Result<bool, Unreadable> {
    match host.text(UFW_CONFIG, UNIT_BYTES_MAX) {
        Ok(text) => Ok(text.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes"))),
        Err(error) if error.is_absence() => Ok(false),
        Err(error) => Err(error),
    }
}
