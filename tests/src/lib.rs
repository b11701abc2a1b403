//! What tests share: a plan to start from, a story to tell, and the invariants, written apart from
//! the rules that must keep them.

pub mod invariants;
pub mod story;
