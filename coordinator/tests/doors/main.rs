//! The doors, over real TLS and a real socket, with everything behind them but the clusters.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agents;
mod backups;
mod control_planes;
mod house;
mod kept;
mod operators;
mod typed;
mod watched;
