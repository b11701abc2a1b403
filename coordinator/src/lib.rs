//! The coordinator: everything behind `rehull`, in reading order.

pub mod agents;
pub mod blobs;
pub mod clients;
pub mod document;
pub mod domain;
pub mod effects;
pub mod engine;
pub mod history;
pub mod inventory;
pub mod kubean;
pub mod log;
pub mod rehearsal;
pub mod yaml;
