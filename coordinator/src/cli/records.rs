//! Commands about a log: read from disk if nobody holds it, else through who does.

use std::{
    io::{self, BufWriter, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rehull_proto::v1::VerifyLogRequest;
use rehull_shared::{
    ids::{ClusterName, NodeName},
    time::{Timestamp, now},
};
use serde_json::Value;

use super::{Failure, Reach, ask, client::connect, output};
use crate::{
    blobs::{Blobs, DIRECTORY as BLOBS},
    engine,
    history::History,
    log,
    projection::{self, View},
};

/// Where the log of a coordinator is; the directory of the log itself will do, too.
pub(super) fn log_dir(dir: &Path) -> PathBuf {
    let inner = dir.join("log");
    if inner.is_dir() { inner } else { dir.to_owned() }
}

/// A picture of a log that nobody writes, as it was at its last event.
fn picture<T>(reach: &Reach, look: impl FnOnce(&View<'_>) -> T) -> Result<T, Failure> {
    let (published, history) = engine::read(&log_dir(&reach.dir)).map_err(Failure::new)?;
    Ok(look(&View {
        fleet: &published.fleet,
        sequence: published.sequence,
        history: &history,
        troubles: &Default::default(),
        connected: &Default::default(),
        refused: &Default::default(),
        etcd: &Default::default(),
        readiness: &Default::default(),
        now: last_moment(&published.fleet, &history),
    }))
}

/// The time of the last event: a log that was written in virtual time is read in it.
fn last_moment(fleet: &crate::domain::state::Fleet, history: &History) -> Timestamp {
    let last = fleet.migrations.keys().filter_map(|cluster| history.of(cluster).pop());
    last.map(|(_, recorded)| recorded.at).max().unwrap_or_else(now)
}

pub(super) fn status(
    reach: &Reach,
    cluster: Option<&ClusterName>,
    exit_code: bool,
) -> Result<ExitCode, Failure> {
    let status = picture(reach, |view| projection::status(view, cluster))?;
    ask::print_status(reach, &status, exit_code)
}

pub(super) fn explain(
    reach: &Reach,
    cluster: &ClusterName,
    node: Option<&NodeName>,
) -> Result<ExitCode, Failure> {
    let explained = picture(reach, |view| projection::explain(view, cluster, node))?;
    let unknown = || Failure::new(format!("the log knows no migration of {cluster} with it"));
    output::print(reach.output, &explained.ok_or_else(unknown)?, output::explain)
}

/// Checks the whole log.
pub(super) async fn verify(reach: &Reach) -> Result<ExitCode, Failure> {
    let bar = bar();
    let dir = log_dir(&reach.dir);
    let locked = |error: &log::Error| matches!(error, log::Error::Locked { .. });
    let (events, head) = match reach.server {
        Some(_) => asked(reach, &bar).await?,
        None => match log::verify(&dir, |events, of| show(&bar, events, of)) {
            Ok(head) => (head.seq, head.hash.to_string()),
            Err(error) if locked(&error) => asked(reach, &bar).await?,
            Err(error) => return Err(Failure::new(error)),
        },
    };
    bar.finish_and_clear();
    output::text(&format!("The log is whole: {events} events, head {head}.\n"))
}

async fn asked(reach: &Reach, bar: &ProgressBar) -> Result<(u64, String), Failure> {
    let mut steps = connect(reach).await?.verify_log(VerifyLogRequest {}).await?.into_inner();
    while let Some(step) = steps.message().await? {
        if step.done {
            return Ok((step.events, step.head));
        }
        show(bar, step.events, step.of);
    }
    Err(Failure::unreachable("the coordinator has ended before the log was read"))
}

/// Prints every event as one line of JSON.
pub(super) fn export(reach: &Reach) -> Result<ExitCode, Failure> {
    match log::export(&log_dir(&reach.dir), BufWriter::new(io::stdout().lock())) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(log::Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            Err(Failure::from(source))
        }
        Err(error) => Err(Failure::new(error)),
    }
}

/// Prints a record, or one file of it. Records are written once, so nobody holds them.
pub(super) fn record(reach: &Reach, hash: &str, path: Option<&str>) -> Result<ExitCode, Failure> {
    let blobs = Blobs::open(reach.dir.join(BLOBS)).map_err(Failure::new)?;
    let hash = blobs.find(hash).map_err(Failure::new)?;
    let content = blobs.get(&hash).map_err(Failure::new)?;
    let record: Value = serde_json::from_slice(&content)
        .map_err(|why| Failure::new(format!("record {hash} is no JSON: {why}")))?;
    let Some(path) = path else {
        return output::text(&format!("{record:#}\n"));
    };
    let files = || record["files"]["found"].as_array().into_iter().flatten();
    match files().find(|file| file["path"] == path) {
        Some(file) => output::text(file["content"].as_str().unwrap_or_default()),
        None => {
            let known: Vec<_> = files().filter_map(|file| file["path"].as_str()).collect();
            let known = if known.is_empty() { "no files".to_owned() } else { known.join(", ") };
            Err(Failure::new(format!("record {hash} has no file {path}: it has {known}")))
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} events, {eta} to go");
    bar.set_style(style.expect("the template is a constant"));
    bar
}

fn show(bar: &ProgressBar, events: u64, of: u64) {
    bar.set_length(of);
    bar.set_position(events);
}
