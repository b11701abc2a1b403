//! `rehull rehearse`: reads a cluster once, rehearses its migration, and says how it went.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rehull_shared::{ids::NodeName, time::Span};

use super::{Failure, HELD, Reach, ask, output};
use crate::{
    clients::{self, Clients},
    document::{Fault, planned},
    domain::event::Event,
    projection,
    rehearsal::{
        faults,
        rehearse::{self, Chosen, Options, Report, Scene, Step},
    },
};

/// Lines of one list that a person gets.
const LINES_MAX: usize = 40;

/// Faults that are drawn if none is chosen.
const DRAWN: usize = 3;

/// What is asked of a rehearsal.
#[derive(ClapArgs, Debug)]
pub(super) struct Wanted {
    /// A fault that strikes, and the node that it strikes; the next one of the plan, if not given.
    /// Can be given several times; `rehull rehearse --help` lists them.
    #[arg(long = "fault", value_name = "NAME[@NODE]", value_parser = chosen)]
    chosen: Vec<Chosen>,
    /// How many more faults are drawn; 3 if none is chosen.
    #[arg(long = "faults", value_name = "N")]
    drawn: Option<usize>,
    /// Which faults are drawn, and how long things take, follow from it.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Keep the log here, for `explain --offline` and `history --offline`.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// The faults, for the help of the command.
pub(super) fn known() -> String {
    let rows = faults::Fault::ALL.map(|fault| {
        format!("  {:22} {} ({})\n", fault.name(), fault.story(), fault.family().name())
    });
    format!("Faults:\n{}\nExit code 5: something would be held as the cluster is.", rows.concat())
}

fn chosen(text: &str) -> Result<Chosen, String> {
    let (fault, node) = match text.split_once('@') {
        Some((fault, node)) => (fault, Some(node)),
        None => (text, None),
    };
    let node: Option<NodeName> =
        node.map(str::parse).transpose().map_err(|bad| format!("{bad}"))?;
    Ok((fault.parse::<faults::Fault>().map_err(|unknown| unknown.to_string())?, node))
}

/// Rehearses a document for a person or a program.
pub(super) async fn rehearse(
    reach: &Reach,
    file: &Path,
    wanted: Wanted,
) -> Result<ExitCode, Failure> {
    let document = ask::read(file)?;
    let wrong =
        |fault: Fault| ask::of_file(file, tonic::Status::invalid_argument(fault.to_string()));
    let clients = Clients::new(clients::real());
    let (plan, nodes) = planned(&document, &clients).await.map_err(wrong)?;
    let Wanted { chosen, drawn, seed, keep } = wanted;
    let drawn = drawn.unwrap_or(if chosen.is_empty() { DRAWN } else { 0 });
    let begin = rehull_shared::time::now();
    let options = Options { seed, chosen, drawn, keep, begin };
    let faults = rehearse::faults(&options, &nodes).map_err(Failure::usage)?;
    let screen = Screen::new(nodes.len());
    let mut show = |step: Step<'_>| screen.show(&step);
    let subject = (document.as_str(), &plan, nodes.as_slice());
    let report = rehearse::rehearse(subject, (&options, faults), &clients, &mut show).await;
    screen.bar.finish_and_clear();
    let report = report.map_err(Failure::new)?;
    let done = output::print(reach.output, &report, table)?;
    Ok(match (report.is_good(), report.is_held()) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::from(HELD),
        (true, false) => done,
    })
}

/// How far it is, on a terminal.
struct Screen {
    bar: ProgressBar,
}

impl Screen {
    fn new(nodes: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(nodes as u64), ProgressDrawTarget::stderr());
        if !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{bar:20} {pos}/{len} nodes  {wide_msg}");
        bar.set_style(style.expect("the template is a constant"));
        Self { bar }
    }

    fn show(&self, step: &Step<'_>) {
        match step {
            Step::Read(kind, count) => self.bar.set_message(format!("reading {kind}: {count}")),
            Step::Scene(Scene::Event(recorded)) => {
                let over = matches!(
                    recorded.event,
                    Event::NodeFinished { .. } | Event::NodeAborted { .. }
                );
                self.bar.inc(u64::from(over));
                if over || matches!(recorded.event, Event::NodeStarted { .. } | Event::Held { .. })
                {
                    self.bar.set_message(projection::sentence(recorded));
                }
            }
            Step::Scene(Scene::Turn(..)) => self.bar.tick(),
        }
    }
}

fn table(report: &Report) -> String {
    let Report { cluster, source, target, seed, objects, nodes, .. } = report;
    let mut out = format!(
        "{cluster}: {source} to {target}, rehearsed on a copy of {objects} objects; seed {seed}\n\n"
    );
    let span = |span: &Option<Span>| span.map(|span| span.to_string()).unwrap_or_default();
    let rows: Vec<_> = nodes
        .iter()
        .map(|went| {
            [
                format!("  {}", went.node),
                went.state.to_owned(),
                span(&went.began),
                span(&went.took),
                went.evicted.to_string(),
            ]
        })
        .collect();
    out += &output::table(["  NODE", "WENT", "BEGAN", "TOOK", "EVICTED"], &rows);
    for (number, fault) in (1..).zip(&report.faults) {
        if number == 1 {
            out += "\nFaults, and what caught them\n";
        }
        _ = write!(out, "  {number}. {}", fault.words(5));
    }
    let own = report.held.iter().filter(|hold| hold.fault.is_empty());
    for (number, hold) in (1..).zip(own) {
        if number == 1 {
            out += "\nHeld because of the cluster as it is\n";
        }
        let whom = if hold.node.is_empty() { &hold.cluster } else { &hold.node };
        _ = writeln!(out, "  {number}. {whom}, {} in, at {}", hold.after, hold.gate);
        for why in &hold.why {
            _ = writeln!(out, "     words     {why}");
        }
        let resolved = if hold.resolved.is_empty() { "by nothing" } else { &hold.resolved };
        _ = writeln!(out, "     resolved  {resolved}");
    }
    let notices = report.clients.iter().map(|notice| {
        let by = if notice.node.is_empty() { "" } else { ", while it is the turn of " };
        format!("{}: {}{by}{}", notice.about, notice.words, notice.node)
    });
    for (title, lines) in [
        ("What clients may notice", notices.collect()),
        ("Faults that found nothing to strike", report.idle.clone()),
        ("Must never happen, and did", report.violations.clone()),
        ("Assumed", report.assumed.iter().map(|&line| line.to_owned()).collect::<Vec<_>>()),
    ] {
        if !lines.is_empty() {
            _ = writeln!(out, "\n{title}");
            lines.iter().take(LINES_MAX).for_each(|line| _ = writeln!(out, "  {line}"));
            if let more @ 1.. = lines.len().saturating_sub(LINES_MAX) {
                _ = writeln!(out, "  and {more} more, which `--output json` has");
            }
        }
    }
    let (end, took) = (if report.finished { "It ends" } else { "It goes no further" }, report.took);
    _ = writeln!(out, "\n{end} after {took} of virtual time.");
    out
}
