//! The other world: simulated clusters, hosts and people, in which the real engine, log, server and
//! agents run against a virtual clock.
//!
//! A world is made of originals: objects of clusters, made up (`prepared`) or read once from
//! somebody's APIs (`copy`). The demo plays the one, `rehull rehearse` the other (`play`).
//!
//! ```text
//!            ┌────────────────────────── driver: one turn ──────────────────────────┐
//!  clock ───▶│ world moves ─▶ tick ─▶ passes of what is due ─▶ person ─▶ clock moves │
//!            └──────┬───────────────────────────┬──────────────────────┬────────────┘
//!                   ▼                           ▼                      ▼
//!     hosts (directories), APIs,      engine, log, gRPC, agents    what explain says
//!     Kubean, installer (faults)         (the real ones)
//! ```

pub mod api;
mod clock;
mod cluster;
mod control_planes;
mod coordinator;
mod copy;
pub mod demo;
mod driver;
pub mod faults;
mod installer;
mod kubean;
mod machine;
mod person;
mod play;
mod prepared;
mod record;
pub mod rehearse;
mod scheduler;
mod watch;
mod workloads;
mod world;

/// What nobody may ever see outside the rehearsed clusters: it stands in inventories (as Kubean
/// encrypts it), variables, kubeconfigs and environments of pods, and operations print it.
pub const SECRETS: [&str; 5] = [
    "planted-in-the-inventory",
    "planted-in-the-variables",
    "planted-in-the-kubeconfig",
    "planted-in-a-pod",
    "planted-in-a-log",
];

#[cfg(test)]
mod rights;
