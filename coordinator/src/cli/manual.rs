//! What the grammar of the command line gives beside itself: completions and manual pages.

use std::{path::Path, process::ExitCode};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Args, Failure, output};

/// Prints the completions of a shell.
pub(super) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "rehull", &mut script);
    output::text(&String::from_utf8_lossy(&script))
}

/// Writes a page of `rehull` and of each of its commands.
pub(super) fn pages(dir: &Path) -> Result<ExitCode, Failure> {
    let fail = |error| Failure::new(format!("{}: {error}", dir.display()));
    clap_mangen::generate_to(Args::command(), dir).map_err(fail)?;
    output::text(&format!("Pages are in {}: `man -l {0}/rehull.1`\n", dir.display()))
}
