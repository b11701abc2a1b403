//! `rehull-agent`: parses its arguments and runs.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};
use rehull_agent::{checks, config::Settings, host::Host};
use rehull_proto::v1::Collect;
use tokio::signal::unix::{SignalKind, signal};

/// Observes this host for rehull's coordinator, and carries out its orders.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Run until told to stop (TERM or INT).
    Run {
        /// The configuration, JSON.
        #[arg(long, default_value = "/etc/rehull-agent/config.json")]
        config: PathBuf,
    },
    /// Print one report as JSON. Needs no network and no configuration, but root to see all.
    Check {
        /// Look at a directory as if it were the host.
        #[arg(long, default_value = "/")]
        root: PathBuf,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match go(Args::parse().mode).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rehull-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn go(mode: Mode) -> anyhow::Result<()> {
    match mode {
        Mode::Run { config } => {
            let (mut term, mut int) =
                (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let shutdown = async {
                tokio::select! { _ = term.recv() => (), _ = int.recv() => () }
            };
            Ok(rehull_agent::run(Settings::read(&config)?, shutdown).await?)
        }
        Mode::Check { root } => {
            let now = &rehull_shared::time::now;
            let report = checks::collect(&Host::at(root), &Collect::default(), 0, now).await;
            let text = serde_json::to_string_pretty(&report).context("print the report")?;
            use std::io::Write;
            writeln!(std::io::stdout(), "{text}").context("print the report")
        }
    }
}
