//! What it costs to put the first control plane of an inventory last, and to prove that nothing else
//! has changed.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use rehull::inventory::with_last;

const ROUNDS: usize = 21;

fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return; // built as a test: nothing to prove here
    }
    println!("{:>6}  {:>8}  {:>12}  {:>12}", "hosts", "KiB", "median", "slowest");
    for count in [50, 500, 5_000] {
        let text = inventory(count);
        let last = "node-0".parse().expect("a name");
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let begun = Instant::now();
                let edited = with_last(&text, &last).expect("it can be edited");
                let took = begun.elapsed();
                assert_eq!(edited.len(), text.len(), "text was only moved");
                took
            })
            .collect();
        times.sort_unstable();
        let (median, slowest) = (times[ROUNDS / 2], times[ROUNDS - 1]);
        println!("{count:>6}  {:>8}  {median:>12.1?}  {slowest:>12.1?}", text.len() / 1024);
    }
}

/// Three control planes, and workers, as Kubean's examples are written.
fn inventory(count: usize) -> String {
    let mut text = "all:\n  hosts:\n".to_owned();
    for number in 0..count {
        let ip = format!("10.{}.{}.{}", number / 40_000, number / 200 % 200, number % 200 + 1);
        write!(
            text,
            "    node-{number}:\n      ip: {ip}\n      access_ip: {ip}\n      ansible_host: {ip}\n      \
             ansible_connection: ssh\n      ansible_user: root\n"
        )
        .expect("text takes everything");
    }
    text += "  children:\n";
    for (group, hosts) in [("kube_control_plane", 3), ("kube_node", count), ("etcd", 3)] {
        write!(text, "    {group}:\n      hosts:\n").expect("text takes everything");
        for number in 0..hosts {
            writeln!(text, "        node-{number}: null").expect("text takes everything");
        }
    }
    text
}
