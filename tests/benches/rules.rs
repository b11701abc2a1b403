//! What one decision of the rules costs, in clusters of 50 to 5,000 nodes of which a few are under
//! way: it must grow no faster than the nodes do, and stay far below a beat of the coordinator.

use std::time::{Duration, Instant};

use rehull::domain::{command::Command, decide::decide, gate::Gate};
use rehull_tests::story::{Story, plan};

const DECISIONS: usize = 50;

fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return; // built as a test: nothing to prove here
    }
    println!("{:>6}  {:>12}  {:>12}", "nodes", "median", "slowest");
    for count in [50, 500, 5_000] {
        let (median, slowest) = measured(count);
        println!("{count:>6}  {median:>12.1?}  {slowest:>12.1?}");
    }
}

/// One tick after the other, while the second node waits for its drain: the canary is done.
fn measured(count: usize) -> (Duration, Duration) {
    let names: Vec<String> = (1..=count).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut story = Story::with(plan(), &names);
    story.reaches("n1", Gate::Soak);
    story.passes(&rehull_tests::story::on("n1"));
    story.reaches("n2", Gate::Drain);
    let mut times: Vec<Duration> = (0..DECISIONS)
        .map(|_| {
            let begun = Instant::now();
            let decision = decide(&story.fleet, &Command::Tick, story.now);
            let took = begun.elapsed();
            assert!(decision.is_ok(), "a tick is never refused");
            took
        })
        .collect();
    times.sort_unstable();
    (times[DECISIONS / 2], times[DECISIONS - 1])
}
