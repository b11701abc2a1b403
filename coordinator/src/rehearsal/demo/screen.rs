//! What a person sees of a demo: bars and news on a terminal, lines in a pipe.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Instant,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rehull_shared::{
    text::bounded,
    time::{Span, Timestamp},
};

use super::{Error, Options, Outcome, Scene, rehearse};
use crate::{
    domain::event::{Event, Recorded},
    engine::Published,
    history::History,
    projection::{self, View},
};

/// Longest line of news: two rows of a usual terminal.
const NEWS_MAX: usize = 160;

/// Rehearses for a person. The exit code says whether every fault was caught.
///
/// # Errors
/// As [`rehearse`], and if nothing can be printed.
pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    let seed = options.seed;
    let mut out = io::stdout();
    writeln!(
        out,
        "Three clusters move from CentOS 7.9 to Ubuntu 22.04: 13 workers and 3 control planes.\n\
         Engine, log, gRPC server, mTLS and agents are the real ones; clusters, hosts, people\n\
         and time are rehearsed, and 18 things go wrong. Policy: production. Seed: {seed}.\n"
    )?;
    let began = Instant::now();
    let mut screen = Screen::new();
    let outcome = rehearse(options, &mut |scene| screen.show(&scene)).await;
    screen.clear();
    let outcome = outcome?;
    let seconds = began.elapsed().as_secs_f64();
    write!(out, "{}", report(&outcome, seconds))?;
    Ok(if outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The end of the story.
fn report(outcome: &Outcome, seconds: f64) -> String {
    let mut text = "\nWhat went wrong, and what caught it\n".to_owned();
    for (number, fault) in (1..).zip(&outcome.faults) {
        text += &format!("\n {number}. {}", fault.words(4));
    }
    for violation in &outcome.violations {
        text += &format!("\n !! {violation}\n");
    }
    let Outcome { head, took, evidence, operations, .. } = outcome;
    text += &format!(
        "\nTotal: {took} of virtual time in {seconds:.1} s; {} events, {evidence} pieces of \
         evidence,\n{operations} operations of Kubean. Head of the log: {}\n",
        head.seq, head.hash
    );
    let dir = outcome.dir.display();
    let held = outcome.faults.iter().find(|fault| fault.fault == "wrong-os");
    let (cluster, node) = held.map_or(("north", "north-worker1"), |f| (&f.cluster, &f.node));
    let program = format!("{} --dir {dir}", typed());
    text + &format!(
        "\nLook further:\n  {program} log verify\n  {program} explain --offline {cluster} {node}\n  \
         {program} history --offline {cluster} {node}\n"
    )
}

enum Screen {
    Bars { all: MultiProgress, rows: BTreeMap<String, ProgressBar>, begin: Option<Timestamp> },
    Lines { begin: Option<Timestamp> },
}

impl Screen {
    fn new() -> Self {
        match io::stdout().is_terminal() {
            true => Screen::Bars { all: MultiProgress::new(), rows: BTreeMap::new(), begin: None },
            false => Screen::Lines { begin: None },
        }
    }

    fn show(&mut self, scene: &Scene<'_>) {
        let (Screen::Bars { begin, .. } | Screen::Lines { begin }) = self;
        match scene {
            Scene::Event(event) => {
                let begin = *begin.get_or_insert(event.at);
                if let Some(line) = news(event, event.at.since(begin)) {
                    self.tell(&line);
                }
            }
            Scene::Turn(published, now) => self.draw(published, *now),
        }
    }

    fn tell(&self, line: &str) {
        match self {
            Screen::Bars { all, .. } => _ = all.println(line), // a picture: nothing depends on it
            Screen::Lines { .. } => _ = writeln!(io::stdout(), "{line}"),
        }
    }

    fn draw(&mut self, published: &Published, now: Timestamp) {
        let Screen::Bars { all, rows, begin } = self else { return };
        let view = View {
            fleet: &published.fleet,
            sequence: published.sequence,
            history: &History::default(),
            troubles: &BTreeMap::new(),
            connected: &BTreeMap::new(),
            refused: &BTreeMap::new(),
            etcd: &Default::default(),
            readiness: &Default::default(),
            now,
        };
        for cluster in projection::status(&view, None).clusters {
            for node in &cluster.nodes {
                let row = rows.entry(node.node.clone()).or_insert_with(|| {
                    let style = "{prefix:15} {bar:30} {msg}";
                    let style = ProgressStyle::with_template(style);
                    let style = style.expect("the template is a constant");
                    all.add(ProgressBar::new(100).with_style(style))
                });
                row.set_prefix(node.node.clone());
                row.set_position(u64::from(node.percent));
                let after = clock(now.since(begin.unwrap_or(now)));
                row.set_message(format!("{:18} {after}", node.state));
            }
        }
    }

    fn clear(&self) {
        if let Screen::Bars { all, .. } = self {
            _ = all.clear(); // the story above it stays
        }
    }
}

/// A line about an event, if a person would want one.
fn news(recorded: &Recorded, after: Span) -> Option<String> {
    let is_news = match &recorded.event {
        Event::AgentEnrolled { generation, .. } => generation.0 > 1,
        Event::NodeStarted { .. }
        | Event::OperationEnded { .. }
        | Event::Held { .. }
        | Event::RetryRequested { .. }
        | Event::LeftoversOrdered { .. }
        | Event::LeftoversAnswered { .. }
        | Event::ReinstallAuthorized { .. }
        | Event::NodeFinished { .. }
        | Event::MigrationCompleted => true,
        _ => false,
    };
    let cluster = recorded.cluster.as_ref()?;
    let words = bounded(&projection::sentence(recorded), NEWS_MAX);
    is_news.then(|| format!("{}  {cluster}  {words}", clock(after)))
}

/// `h:mm:ss`.
fn clock(span: Span) -> String {
    let seconds = span.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// This program as it was called: after `cargo run` it is on nobody's path.
fn typed() -> String {
    std::env::args().next().unwrap_or_else(|| "rehull".to_owned())
}
