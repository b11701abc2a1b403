//! `rehull watch`: the status, live. Bars on a terminal, one line a change in a pipe.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal, Write},
    process::ExitCode,
};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rehull_proto::v1::{ClusterStatus, NodeStatus, StatusRequest, StatusResponse};
use rehull_shared::{ids::ClusterName, text::bounded};

use super::{Failure, Output, Reach, client::connect};

/// A terminal's usual width: nothing is drawn beyond it, and less where it is narrower.
const WIDTH_MAX: usize = 80;

/// A bar with its node; 37 columns before the message.
const ROW: &str = "  {prefix:16.16} {bar:12} {pos:>3}% {msg}";

/// Columns taken by a bar, its node and its state.
const BEFORE_WORDS: usize = 37 + STATE + 1;

/// Columns of a state; the longest is `ReinstallRequested`.
const STATE: usize = 18;

/// Shows every change until the coordinator ends.
pub(super) async fn watch(
    reach: &Reach,
    cluster: Option<ClusterName>,
) -> Result<ExitCode, Failure> {
    let request = StatusRequest { cluster: cluster.map(String::from).unwrap_or_default() };
    let mut pictures = connect(reach).await?.watch(request).await?.into_inner();
    let live = std::io::stdout().is_terminal() && reach.output == Output::Table;
    let mut screen = if live { Screen::Bars(Bars::new()) } else { Screen::lines(reach.output) };
    while let Some(picture) = pictures.message().await? {
        screen.show(&picture)?;
        let over =
            |cluster: &ClusterStatus| matches!(cluster.state.as_str(), "Completed" | "Aborted");
        if !picture.clusters.is_empty() && picture.clusters.iter().all(over) {
            return Ok(ExitCode::SUCCESS);
        }
    }
    Err(Failure::unreachable("the coordinator has ended the connection; watch again"))
}

enum Screen {
    Bars(Bars),
    Lines { output: Output, told: BTreeMap<String, String> },
}

impl Screen {
    fn lines(output: Output) -> Self {
        Screen::Lines { output, told: BTreeMap::new() }
    }

    fn show(&mut self, picture: &StatusResponse) -> Result<(), Failure> {
        match self {
            Screen::Bars(bars) => {
                bars.show(picture);
                Ok(())
            }
            Screen::Lines { output: Output::Json, .. } => {
                let line = serde_json::to_string(picture).map_err(Failure::new)?;
                Ok(writeln!(std::io::stdout(), "{line}")?)
            }
            Screen::Lines { output: Output::Yaml, .. } => {
                let text = serde_saphyr::to_string(picture).map_err(Failure::new)?;
                Ok(writeln!(std::io::stdout(), "---\n{text}")?)
            }
            Screen::Lines { told, .. } => {
                for Line { who, state, words } in lines(picture) {
                    // Times run in the words; a line is news when its state is.
                    if told.insert(who.clone(), state.clone()) != Some(state.clone()) {
                        writeln!(std::io::stdout(), "{who}  {state}{words}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// A line for a pipe: it is written when its state is another one.
#[derive(Debug, PartialEq)]
struct Line {
    who: String,
    state: String,
    words: String,
}

fn lines(picture: &StatusResponse) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut add = |who: String, state: String, words: String| {
        lines.push(Line { who, state, words });
    };
    for cluster in &picture.clusters {
        let ClusterStatus { cluster: name, waits_for, .. } = cluster;
        add(name.clone(), state(cluster), format!("  {waits_for}"));
        for (what, words) in health(cluster) {
            // What runs in it stands in brackets.
            let (state, words) = words.split_at(words.find(" (").unwrap_or(words.len()));
            add(format!("{name} {what}"), state.to_owned(), words.to_owned());
        }
        for node in &cluster.nodes {
            let state = format!("{} {}%", node.state, node.percent);
            add(format!("{name}/{}", node.node), state, format!("  {}", node.waits_for));
        }
    }
    lines
}

/// How etcd and the API servers are, where that is looked at.
fn health(cluster: &ClusterStatus) -> impl Iterator<Item = (&'static str, &str)> {
    let all = [("etcd", cluster.etcd.as_str()), ("API servers", cluster.api_servers.as_str())];
    all.into_iter().filter(|(_, words)| !words.is_empty())
}

/// Its state, and what must not be forgotten.
fn state(cluster: &ClusterStatus) -> String {
    let off = match cluster.unprotected_since.is_empty() {
        true => "",
        false => " (deletion protection off)",
    };
    format!("{}{off}", cluster.state)
}

struct Bars {
    terminal: Term,
    all: MultiProgress,
    rows: BTreeMap<String, ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        Self { terminal: Term::stdout(), all, rows: BTreeMap::new() }
    }

    fn show(&mut self, picture: &StatusResponse) {
        let (height, width) = self.terminal.size();
        let width = usize::from(width).min(WIDTH_MAX);
        let rows = |cluster: &ClusterStatus| 1 + health(cluster).count() + cluster.nodes.len();
        let rows = picture.clusters.iter().map(rows).sum::<usize>();
        let all_fit = rows < usize::from(height);
        let mut shown = BTreeSet::new();
        for cluster in &picture.clusters {
            let title = format!("{}  {}  {}", cluster.cluster, state(cluster), cluster.waits_for);
            self.row(&cluster.cluster, "{msg}", None).set_message(bounded(&title, width));
            shown.insert(cluster.cluster.clone());
            let mut above = cluster.cluster.clone();
            for (what, words) in health(cluster) {
                let key = format!("{} {what}", cluster.cluster);
                let words = bounded(&format!("  {what}: {words}"), width);
                // It may be the first time that it is looked at.
                self.row(&key, "{msg}", Some(&above)).set_message(words);
                shown.insert(key.clone());
                above = key;
            }
            for node in cluster.nodes.iter().filter(|node| all_fit || is_under_way(node)) {
                let key = format!("{}/{}", cluster.cluster, node.node);
                let row = self.row(&key, ROW, None);
                row.set_prefix(node.node.clone());
                row.set_position(u64::from(node.percent));
                let words = bounded(&node.waits_for, width.saturating_sub(BEFORE_WORDS));
                row.set_message(format!("{:STATE$.STATE$} {words}", node.state));
                shown.insert(key);
            }
        }
        self.rows.retain(|key, row| {
            let stays = shown.contains(key);
            if !stays {
                self.all.remove(row);
            }
            stays
        });
    }

    /// A row, as it is there or made now: below another one, or behind all.
    fn row(&mut self, key: &str, style: &str, below: Option<&str>) -> &ProgressBar {
        let below = below.map(|above| self.rows[above].clone());
        self.rows.entry(key.to_owned()).or_insert_with(|| {
            let style = ProgressStyle::with_template(style).expect("the template is a constant");
            let row = ProgressBar::new(100).with_style(style);
            match below {
                Some(above) => self.all.insert_after(&above, row),
                None => self.all.add(row),
            }
        })
    }
}

/// Where a terminal has no room for all nodes, those that have begun and are not done are shown.
fn is_under_way(node: &NodeStatus) -> bool {
    !matches!(node.state.as_str(), "Planned" | "Done")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_one_line_for_each_change_of_a_state() {
        let node = NodeStatus {
            node: "worker1".to_owned(),
            state: "Drained".to_owned(),
            waits_for: "5 s to go".to_owned(),
            ..NodeStatus::default()
        };
        let cluster = ClusterStatus {
            cluster: "prod".to_owned(),
            nodes: vec![node],
            etcd: "healthy: 3 voters, 1 could be lost, m2 leads; bears no loss since 03:00 (1m), for m3 is \
                   away"
                .to_owned(),
            ..ClusterStatus::default()
        };
        let picture = StatusResponse { clusters: vec![cluster], ..StatusResponse::default() };
        let lines = lines(&picture);
        let line = |who: &str, state: &str, words: &str| {
            let [who, state, words] = [who, state, words].map(str::to_owned);
            Line { who, state, words }
        };
        assert_eq!(
            lines[1..],
            [
                line(
                    "prod etcd",
                    "healthy: 3 voters, 1 could be lost, m2 leads; bears no loss since 03:00",
                    " (1m), for m3 is away"
                ),
                line("prod/worker1", "Drained 0%", "  5 s to go"),
            ]
        );
    }
}
