//! The rules: pure, synchronous, without clock, chance or IO. In reading order.

pub mod approval;
pub mod calendar;
#[expect(missing_docs, reason = "the fields of commands mean what their types say")]
pub mod command;
mod deadline;
pub mod decide;
#[expect(missing_docs, reason = "the fields of effects mean what their types say")]
pub mod effect;
#[expect(missing_docs, reason = "the fields of events mean what their types say")]
pub mod event;
pub mod fragility;
pub mod gate;
pub mod operation;
pub mod plan;
pub mod policy;
pub mod profile;
pub mod schedule;
pub mod state;
