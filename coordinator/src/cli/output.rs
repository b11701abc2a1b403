//! How answers are printed: tables for people, JSON and YAML for programs.

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
};

use rehull_proto::v1::{
    AgentStatus, ClusterStatus, EtcdResponse, ExplainResponse, Found, ListAgentsResponse,
    PlanResponse, Receipt, StatusResponse, TokenResponse,
};
use rehull_shared::{
    ids::{ClusterName, NodeName},
    time::Span,
};
use serde::Serialize;

use super::Failure;
use crate::{clients::calls::at_most, etcd::voters_in_words};

/// A form of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// One JSON value.
    Json,
    /// YAML.
    Yaml,
}

/// Prints an answer.
pub(super) fn print<T: Serialize>(
    output: Output,
    answer: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<ExitCode, Failure> {
    text(&match output {
        Output::Table => table(answer),
        Output::Json => serde_json::to_string_pretty(answer).map_err(Failure::new)? + "\n",
        Output::Yaml => serde_saphyr::to_string(answer).map_err(Failure::new)?,
    })
}

/// Prints text; a reader that goes away is no failure.
pub(super) fn text(text: &str) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Names in one line.
const NAMES_SHOWN: usize = 20;

/// Some names, and how many more there are.
pub(super) fn few(names: &[String]) -> String {
    at_most(NAMES_SHOWN, names)
}

/// Rows under a header, each column as wide as its widest cell; the last one is not padded.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = header.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let head = header.map(str::to_owned);
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line += &format!("{cell:width$}  ");
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

pub(super) fn receipt(receipt: &Receipt) -> String {
    match receipt.sequence {
        0 => format!("{}\n", receipt.said),
        sequence => format!("{} (event {sequence})\n", receipt.said),
    }
}

pub(super) fn status(status: &StatusResponse) -> String {
    if status.clusters.is_empty() {
        return "No migration is known. Begin one with `rehull migrate start -f`.\n".to_owned();
    }
    status.clusters.iter().map(cluster).collect::<Vec<_>>().join("\n")
}

fn cluster(cluster: &ClusterStatus) -> String {
    let mut out = format!(
        "{}  {}  {} to {}, begun {} by {}\n",
        cluster.cluster,
        cluster.state,
        cluster.source,
        cluster.target,
        seconds(&cluster.started_at),
        cluster.started_by
    );
    for (label, value) in [
        ("paused by", &cluster.paused_by),
        ("UNSAFE, because", &cluster.r#unsafe),
        ("deletion protection is off since", &seconds(&cluster.unprotected_since)),
        ("etcd is", &cluster.etcd),
        ("API servers", &cluster.api_servers),
        ("waits for", &cluster.waits_for),
    ] {
        if !value.is_empty() {
            out += &format!("  {label}: {value}\n");
        }
    }
    let rows: Vec<_> = cluster
        .nodes
        .iter()
        .map(|node| {
            let canary = if node.canary { " (canary)" } else { "" };
            [
                format!("  {}{canary}", node.node),
                node.state.clone(),
                format!("{}%", node.percent),
                seconds(&node.since),
                node.waits_for.clone(),
            ]
        })
        .collect();
    out + &table(["  NODE", "STATE", "DONE", "SINCE", "WAITS FOR"], &rows)
}

pub(super) fn explain(explained: &ExplainResponse) -> String {
    let mut out = format!("{} is {}", explained.subject, explained.state);
    out += &format!(" since {}", seconds(&explained.since));
    if !explained.deadline.is_empty() {
        out += &format!(", until {} at the latest", seconds(&explained.deadline));
    }
    out += ".\n";
    if !explained.unprotected_since.is_empty() {
        let since = seconds(&explained.unprotected_since);
        out += &format!("The deletion protection of the cluster is off since {since}.\n");
    }
    if !explained.waits_for.is_empty() {
        out += &format!("It waits for {}\n", explained.waits_for);
    }
    if !explained.gate.is_empty() {
        out += &format!("\nGate {}\n", explained.gate);
        let rows: Vec<_> = explained
            .needs
            .iter()
            .map(|need| {
                [
                    format!("  {}", need.verdict),
                    need.check.clone(),
                    need.source.clone(),
                    seconds(&need.observed_at),
                    need.seen.clone(),
                ]
            })
            .collect();
        out += &table(["  VERDICT", "CHECK", "SOURCE", "OBSERVED", "SEEN"], &rows);
    }
    for (title, lines) in [
        ("What was accepted", &explained.approvals),
        ("What would unblock it", &explained.unblock),
        ("What happened last", &explained.history),
    ] {
        if !lines.is_empty() {
            out += &format!("\n{title}\n");
            for line in lines {
                out += &format!("  {line}\n");
            }
        }
    }
    out
}

pub(super) fn plan(plan: &PlanResponse) -> String {
    let mut out = format!(
        "{}: {} to {}, Kubernetes {}, image {}\n\n",
        plan.cluster, plan.source, plan.target, plan.kubernetes_version, plan.image
    );
    let rows: Vec<_> = (1..)
        .zip(&plan.nodes)
        .map(|(place, node)| {
            let role = if node.canary { "canary" } else { &node.role };
            [
                format!("  {place}"),
                node.name.clone(),
                node.address.clone(),
                node.os_image.clone(),
                role.to_owned(),
            ]
        })
        .collect();
    out += &table(["  #", "NODE", "ADDRESS", "RUNS", ""], &rows);
    _ = writeln!(
        out,
        "\nWindows and soaks alone take {} a node, {} in all; `rehull gates` shows what is asked.",
        duration(plan.node_seconds_min),
        duration(plan.total_seconds_min)
    );
    out += &schedule(plan);
    out += &found(&plan.found);
    for (title, lines) in [
        ("Control planes, and who may notice", &plan.control_planes),
        ("In the way now", &plan.blockers),
        ("Warnings", &plan.warnings),
        ("Under the floor", &plan.under_floor),
    ] {
        if !lines.is_empty() {
            _ = writeln!(out, "\n{title}");
            for line in lines {
                _ = writeln!(out, "  {line}");
            }
        }
    }
    if plan.blockers.is_empty() {
        out += "\nNothing is in the way now. Begin with `rehull migrate start -f`.\n";
    }
    out
}

fn duration(secs: u64) -> Span {
    Span::from_secs(u32::try_from(secs).unwrap_or(u32::MAX))
}

/// When nodes may begin, and how long they would take.
fn schedule(plan: &PlanResponse) -> String {
    let lines =
        |lines: &[String]| -> String { lines.iter().map(|line| format!("  {line}\n")).collect() };
    let Some(all) = &plan.schedule else {
        return match plan.calendar.is_empty() {
            true => String::new(),
            false => format!("\nCalendar\n{}", lines(&plan.calendar)),
        };
    };
    let mut out = format!("\nExpected\n{}", lines(&plan.calendar));
    let node = duration(all.node_seconds);
    _ = writeln!(
        out,
        "  first node: begins {}, done by {} if it takes {node}, as the policy or the slowest node \
         so far says",
        seconds(&all.begins),
        seconds(&all.first_ends)
    );
    let (turns, work) = (all.turns, duration(all.work_seconds));
    _ = write!(out, "  all {}: {turns} turns, {work}", all.nodes);
    if all.work_seconds < all.one_by_one_seconds {
        let (max_out, alone) = (all.max_out, duration(all.one_by_one_seconds));
        _ = write!(out, " with {max_out} at a time ({alone} one by one)");
    }
    if all.wait_seconds > 0 {
        _ = write!(out, ", and {} between windows", duration(all.wait_seconds));
    }
    _ = writeln!(out, "; done by {}", seconds(&all.ends));
    out
}

/// What the preflight found, node by node.
fn found(found: &[Found]) -> String {
    let mut out = String::new();
    let mut node = "";
    for one in found {
        if one.node != node {
            node = &one.node;
            _ = writeln!(out, "\nFound on {node}");
        }
        let about = match (one.kind.as_str(), one.namespace.as_str()) {
            ("Pod", namespace) => format!("{namespace}/{}", one.name),
            (kind, "") => format!("{kind} {}", one.name),
            (kind, namespace) => format!("{kind} {namespace}/{}", one.name),
        };
        let item = match (one.item.as_str(), one.accepted_by.as_str()) {
            ("", _) => String::new(),
            (item, "") => format!(" (item {item})"),
            (item, by) => {
                format!(" (item {item}, accepted by {by} until {})", seconds(&one.accepted_until))
            }
        };
        _ = writeln!(out, "  {:<14}  {about}: {}{item}", one.weight, one.what);
    }
    out
}

pub(super) fn agents(answer: &ListAgentsResponse) -> String {
    if answer.agents.is_empty() {
        return "No host has been invited. Invite one with `rehull agent token`.\n".to_owned();
    }
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let heard = |agent: &AgentStatus, word: String| match agent.last_beat.is_empty() {
        true => "-".to_owned(),
        false => word,
    };
    let rows: Vec<_> = answer
        .agents
        .iter()
        .map(|agent| {
            [
                agent.cluster.clone(),
                agent.node.clone(),
                agent.generation.to_string(),
                if agent.revoked { "revoked".to_owned() } else { yes(agent.connected) },
                heard(agent, seconds(&agent.last_beat)),
                heard(agent, yes(agent.kubelet_running)),
                heard(agent, agent.pods.to_string()),
                agent.version.clone(),
                agent.os.clone(),
            ]
        })
        .collect();
    table(
        ["CLUSTER", "NODE", "GEN", "HERE", "LAST BEAT", "KUBELET", "PODS", "VERSION", "OS"],
        &rows,
    )
}

/// Members, and what is wrong.
pub(super) fn etcd(answer: &EtcdResponse) -> String {
    let EtcdResponse { cluster, voters, tolerance, cluster_id, hash_revision, raft_term, .. } =
        answer;
    let rows: Vec<_> = answer
        .members
        .iter()
        .map(|member| {
            let known = |word: String| if member.node.is_empty() { "-".to_owned() } else { word };
            [
                member.id.clone(),
                member.role.clone(),
                known(member.node.clone()),
                known(member.version.clone()),
                known(format!("{:.1} MiB", member.db_bytes as f64 / f64::from(1 << 20))),
                known(member.raft_index.to_string()),
                member.name.clone(),
                member.peer_urls.join(" "),
            ]
        })
        .collect();
    let mut out = String::new();
    if !rows.is_empty() {
        let equal = match hash_revision {
            0 => "stores not compared".to_owned(),
            revision => format!("stores compared at revision {revision}"),
        };
        out += &format!(
            "etcd of {cluster}: cluster {cluster_id}, {}, {tolerance} could be lost, term {raft_term}, \
             {equal}\n\n",
            voters_in_words(*voters)
        );
        let header = ["ID", "ROLE", "NODE", "VERSION", "STORE", "RAFT INDEX", "NAME", "PEERS"];
        out += &table(header, &rows);
    }
    match answer.problems.is_empty() {
        true => out += "\nIt is healthy.\n",
        false => {
            out += if rows.is_empty() { "Not healthy:\n" } else { "\nNot healthy:\n" };
            answer.problems.iter().for_each(|why| out += &format!("  {why}\n"));
        }
    }
    out
}

/// The token with what a host needs beside it; it is shown once and stored nowhere.
pub(super) fn token(cluster: &ClusterName, node: &NodeName, token: &TokenResponse) -> String {
    format!(
        "Token for {node} of {cluster}, good for one enrolment until {}:\n\n  {}\n\n\
         On the host, put it into /etc/rehull-agent/token (mode 0600), and this into \
         /etc/rehull-agent/config.json:\n\n  \
         {{\"coordinator\":\"{}\",\"cluster\":\"{cluster}\",\"node\":\"{node}\",\n   \
         \"ca_sha256\":\"{}\",\n   \
         \"token_file\":\"/etc/rehull-agent/token\",\"state_dir\":\"/var/lib/rehull-agent\"}}\n",
        seconds(&token.expires),
        token.token,
        token.coordinator,
        token.ca_sha256
    )
}

/// A time without its milliseconds.
pub(super) fn seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rehull_proto::v1::{NodeStatus, Schedule};

    use super::*;

    #[test]
    fn what_was_found_is_listed_by_node_with_its_weight() {
        let one = |node: &str, weight: &str, kind: &str, namespace: &str| Found {
            node: node.to_owned(),
            weight: weight.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: "a".to_owned(),
            what: "why".to_owned(),
            ..Found::default()
        };
        let all = [
            one("n1", "blocks", "Pod", "shop"),
            one("n1", "needs approval", "Deployment", "shop"),
            one("n2", "shown", "PersistentVolume", ""),
        ];
        assert_eq!(
            found(&all),
            "\nFound on n1\n  blocks          shop/a: why\n  needs approval  Deployment shop/a: why\n\
             \nFound on n2\n  shown           PersistentVolume a: why\n"
        );
        assert_eq!(found(&[]), "");
        let (item, by) = ("0123456789ab".to_owned(), "ann".to_owned());
        let accepted = Found {
            item,
            accepted_by: by,
            accepted_until: "2026-01-02T03:04:05.678Z".to_owned(),
            ..one("n1", "accepted", "Pod", "shop")
        };
        assert_eq!(
            found(&[accepted]),
            "\nFound on n1\n  accepted        shop/a: why (item 0123456789ab, accepted by ann \
             until 2026-01-02T03:04:05Z)\n"
        );
    }

    #[test]
    fn what_is_expected_is_told_with_its_parts() {
        let plain = PlanResponse::default();
        assert_eq!(schedule(&plain), "");
        let time = |hour: u32| format!("2026-01-02T{hour:02}:00:00.000Z");
        let all = Schedule {
            node_seconds: 3_600,
            nodes: 3,
            max_out: 1,
            turns: 3,
            work_seconds: 10_800,
            one_by_one_seconds: 10_800,
            begins: time(1),
            first_ends: time(2),
            ends: time(4),
            ..Schedule::default()
        };
        let said =
            schedule(&PlanResponse { schedule: Some(all.clone()), ..PlanResponse::default() });
        assert!(said.contains("  first node: begins 2026-01-02T01:00:00Z, done by 2026-01-02T02:"));
        assert!(said.ends_with("  all 3: 3 turns, 3h; done by 2026-01-02T04:00:00Z\n"), "{said}");
        let all =
            Schedule { max_out: 2, turns: 2, work_seconds: 7_350, wait_seconds: 3_600, ..all };
        let calendar = vec!["window: 0 22 * * * for 2h (UTC)".to_owned()];
        let plan = PlanResponse { schedule: Some(all), calendar, ..PlanResponse::default() };
        let said = schedule(&plan);
        assert!(said.starts_with("\nExpected\n  window: 0 22 * * * for 2h (UTC)\n"), "{said}");
        let parts = "2 turns, 2h 2m 30s with 2 at a time (3h one by one), and 1h between windows;";
        assert!(said.contains(parts), "{said}");
    }

    #[test]
    fn a_status_is_a_table_json_or_yaml() {
        let node = NodeStatus {
            node: "worker1".to_owned(),
            state: "Held".to_owned(),
            since: "2026-01-02T03:04:05.678Z".to_owned(),
            percent: 42,
            waits_for: "a person".to_owned(),
            ..NodeStatus::default()
        };
        let cluster = ClusterStatus {
            cluster: "prod".to_owned(),
            state: "Workers".to_owned(),
            nodes: vec![node],
            ..ClusterStatus::default()
        };
        let answer = StatusResponse { epoch: 1, sequence: 9, clusters: vec![cluster] };
        let table = status(&answer);
        assert!(table.contains("worker1  Held   42%   2026-01-02T03:04:05Z  a person"), "{table}");
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!(json["clusters"][0]["nodes"][0]["state"], "Held");
        assert!(serde_saphyr::to_string(&answer).unwrap().contains("state: Held"));
    }
}
