//! What tests share: a plan to start from, a story to tell, chance from a seed, logs of either kind,
//! and the invariants, written apart from the rules that must keep them.

pub mod chance;
pub mod invariants;
pub mod logs;
pub mod story;
