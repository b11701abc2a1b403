//! How answers are printed: tables for people, JSON and YAML for programs.

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
};

use rehull_proto::v1::{
    AgentStatus, ClusterStatus, ExplainResponse, Found, ListAgentsResponse, PlanResponse, Receipt,
    StatusResponse, TokenResponse,
};
use rehull_shared::ids::{ClusterName, NodeName};
use serde::Serialize;

use super::Failure;

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
            let canary = if node.canary { "canary" } else { "" };
            [
                format!("  {place}"),
                node.name.clone(),
                node.address.clone(),
                node.os_image.clone(),
                canary.to_owned(),
            ]
        })
        .collect();
    out += &table(["  #", "NODE", "ADDRESS", "RUNS", ""], &rows);
    let duration =
        |secs: u64| rehull_shared::time::Span::from_secs(u32::try_from(secs).unwrap_or(u32::MAX));
    _ = writeln!(
        out,
        "\nWindows and soaks alone take {} a node, {} in all; `rehull gates` shows what is asked.",
        duration(plan.node_seconds_min),
        duration(plan.total_seconds_min)
    );
    out += &found(&plan.found);
    for (title, lines) in [
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
        let item = match one.item.as_str() {
            "" => String::new(),
            item => format!(" (item {item})"),
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
    use rehull_proto::v1::NodeStatus;

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
