//! Words that the coordinator and the agent use with the same meaning.
//!
//! Nothing here decides anything, and nothing here talks to the world but the one clock.

pub mod evidence;
pub mod ids;
pub mod text;
pub mod time;
