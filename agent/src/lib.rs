//! The agent: it observes one host, answers rounds of evidence, and carries out a closed list of
//! orders. It decides nothing, listens on nothing and never learns the phase of a node.
//!
//! ```text
//!  coordinator ──ToAgent──▶ session ──▶ carry_out ──Collect───────▶ checks ──▶ host (/proc /sys)
//!       ▲                      │            ├───────KillLeftovers──▶ kill ────▶ host (signals)
//!       │                      │            ├───────MoveLeader ...─▶ etcd ────▶ the host's member
//!       │                      │            ├───────StopApiServer ─▶ api_server ─▶ host (rename)
//!       └─────FromAgent────────┘            └───────every answer───▶ journal ─▶ disk
//! ```
//!
//! All that the agent reads of the machine it reads through [`host::Host`], so that a directory can
//! be a host in tests and rehearsals. Nothing is global: many agents can live in one process.

pub mod config;
pub mod host;

mod answer;
mod api_server;
mod backup;
pub mod checks;
pub mod etcd;
mod kill;

mod carry_out;
mod journal;
mod state;

mod credentials;
mod enrol;
mod link;
mod session;

mod run;
pub use run::{Error, run};
