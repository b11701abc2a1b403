//! The other world: simulated clusters, hosts and people, in which the real engine, log, server and
//! agents run against a virtual clock.

pub mod api;
