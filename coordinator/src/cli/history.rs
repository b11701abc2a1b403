//! `rehull history`: what has happened, from the coordinator or from the log that it left.

use std::{
    collections::BTreeSet,
    io::{BufWriter, Write},
    process::ExitCode,
    str::FromStr,
};

use clap::Args as ClapArgs;
use rehull_proto::v1::{HistoryEntry, HistoryRequest};
use rehull_shared::{
    ids::{ClusterName, NodeName},
    time::{Span, Timestamp, now},
};

use super::{
    Failure, Output, Reach,
    client::connect,
    output::{self, seconds},
    records::log_dir,
};
use crate::{domain::event::Event, log::Log, projection::Filter};

/// Which part of the log.
#[derive(ClapArgs, Debug)]
pub(super) struct Wanted {
    /// The cluster.
    cluster: ClusterName,
    /// Only what is about this node.
    node: Option<NodeName>,
    /// Only since then: how long ago, as in `2h`, or a moment, as in `2026-01-02T03:04:05Z`.
    #[arg(long)]
    since: Option<Since>,
    /// Only events of these names, as in `Held,GatePassed`; if not given, all but those that only
    /// confirm.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    events: Vec<EventName>,
    /// Read the log in --dir, which no coordinator may hold; `2h` ago is counted from its end.
    #[arg(long)]
    offline: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    At(Timestamp),
    Ago(Span),
}

impl FromStr for Since {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let at = || text.parse().map(Since::At).ok();
        let ago = || text.parse().map(Since::Ago).ok();
        at().or_else(ago).ok_or_else(|| {
            "give a length of time (`90m`) or a moment (`2026-01-02T03:04:05Z`)".to_owned()
        })
    }
}

impl Since {
    fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            Since::At(at) => at,
            Since::Ago(span) => {
                Timestamp::from_millis(now.as_millis() - i64::from(span.as_secs()) * 1_000)
            }
        }
    }
}

/// The name of a kind of event, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
struct EventName(String);

impl FromStr for EventName {
    type Err = String;
    /// The decoder of the log knows all names, and lists them.
    fn from_str(name: &str) -> Result<Self, String> {
        let decoded = serde_json::from_value::<Event>(name.into());
        match decoded.map_err(|error| error.to_string()) {
            Err(why) if why.starts_with("unknown variant") => Err(why),
            _ => Ok(Self(name.to_owned())),
        }
    }
}

/// Tells everything that is asked for, oldest first.
pub(super) async fn history(reach: &Reach, wanted: Wanted) -> Result<ExitCode, Failure> {
    let mut out = BufWriter::new(std::io::stdout());
    let told = match wanted.offline {
        true => from_log(reach, wanted, &mut out)?,
        false => from_coordinator(reach, wanted, &mut out).await?,
    };
    out.flush()?;
    drop(out);
    match (told, reach.output) {
        (false, Output::Table) => output::text("Nothing of that has happened.\n"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

async fn from_coordinator(
    reach: &Reach,
    wanted: Wanted,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let Wanted { cluster, node, since, events, offline: _ } = wanted;
    let request = HistoryRequest {
        cluster: cluster.into(),
        node: node.map(String::from).unwrap_or_default(),
        since: since.map(|since| since.moment(now()).to_string()).unwrap_or_default(),
        events: events.into_iter().map(|name| name.0).collect(),
    };
    let mut entries = connect(reach).await?.history(request).await?.into_inner();
    let mut told = false;
    while let Some(entry) = entries.message().await? {
        tell(reach.output, &entry, out)?;
        told = true;
    }
    Ok(told)
}

fn from_log(reach: &Reach, wanted: Wanted, out: &mut impl Write) -> Result<bool, Failure> {
    let Wanted { cluster, node, since, events, offline: _ } = wanted;
    let log = Log::existing(&log_dir(&reach.dir)).map_err(Failure::new)?;
    let last = log.read(log.head().seq).map_err(Failure::new)?.pop();
    let end = last.map_or_else(now, |(_, recorded)| recorded.at);
    let since = since.map(|since| since.moment(end));
    let events: BTreeSet<String> = events.into_iter().map(|name| name.0).collect();
    let filter = Filter { cluster, node, since, events };
    let mut told = Ok(false);
    log.replay(|seq, recorded| {
        if told.is_ok()
            && let Some(entry) = filter.entry(seq, &recorded)
        {
            told = tell(reach.output, &entry, out).map(|()| true);
        }
    })
    .map_err(Failure::new)?;
    told
}

fn tell(output: Output, entry: &HistoryEntry, out: &mut impl Write) -> Result<(), Failure> {
    match output {
        Output::Table => {
            let HistoryEntry { sequence, at, words, .. } = entry;
            writeln!(out, "{}  #{sequence:<6} {words}", seconds(at))?;
        }
        Output::Json => {
            let line = serde_json::to_string(entry).map_err(Failure::new)?;
            writeln!(out, "{line}")?;
        }
        Output::Yaml => {
            let text = serde_saphyr::to_string(entry).map_err(Failure::new)?;
            writeln!(out, "---\n{text}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_moment_or_so_long_ago() {
        let now = Timestamp::from_millis(10_000_000);
        let moment = |text: &str| text.parse::<Since>().map(|since| since.moment(now));
        assert_eq!(moment("1h 30m"), Ok(Timestamp::from_millis(10_000_000 - 5_400_000)));
        assert_eq!(moment("1970-01-01T00:00:05Z"), Ok(Timestamp::from_millis(5_000)));
        assert!(moment("yesterday").unwrap_err().contains("90m"));
    }

    #[test]
    fn a_misspelt_name_of_an_event_is_refused_with_the_names_there_are() {
        for name in ["Held", "LeadershipTaken", "AgentRevoked"] {
            assert_eq!(name.parse(), Ok(EventName(name.to_owned())));
        }
        let why = "held".parse::<EventName>().unwrap_err();
        assert!(why.contains("`Held`") && why.contains("`AgentRevoked`"), "{why}");
    }
}
