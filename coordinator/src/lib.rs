//! The coordinator: everything behind `rehull`, in reading order.

pub mod domain;
