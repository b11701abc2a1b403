//! The coordinator: everything behind `rehull`, in reading order.

pub mod agents;
pub mod authority;
pub mod backups;
pub mod blobs;
pub mod capacity;
pub mod cli;
pub mod clients;
pub mod config;
pub mod document;
pub mod domain;
pub mod effects;
pub mod engine;
pub mod etcd;
pub mod history;
pub mod ingest;
pub mod inventory;
mod items;
pub mod kubean;
pub mod log;
mod pods;
mod preview;
pub mod projection;
pub mod readiness;
pub mod rehearsal;
pub mod telemetry;
pub mod webhook;
pub mod yaml;
