//! `rehull`: everything that an operator types, and the coordinator itself.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match rehull::cli::run(rehull::cli::Args::parse()).await {
        Ok(code) => code,
        Err(failure) => {
            failure.tell();
            failure.code()
        }
    }
}
