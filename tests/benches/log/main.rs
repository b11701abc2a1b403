//! The log in sled beside the log in a plain file: the same packs, the same flush, turn by turn in
//! one run. Every figure is a median, its ratio the median of the pairs' ratios.
//!
//! `BENCH_EVENTS` is how many events the long log has: 10 million, unless it says otherwise. The
//! figures of processes are taken in processes of their own, which this program starts of itself.

#![expect(clippy::unwrap_used, reason = "a measurement stops where its ground is missing")]

use std::{error::Error, fs, path::Path};

use rehull_tests::logs::Store;

mod appends;
mod events;
mod long;

/// Turns of each store.
const TURNS: usize = 5;

/// What was measured of both, turn by turn.
#[derive(Default)]
struct Figures {
    sled: Vec<f64>,
    file: Vec<f64>,
}

/// What is asked of a figure of sled's, or of its ratio to the file's.
enum Goal {
    Least(f64),
    Most(f64),
    LeastRatio(f64),
    None,
}

impl Figures {
    fn add(&mut self, store: Store, figure: f64) {
        match store {
            Store::Sled => self.sled.push(figure),
            Store::File => self.file.push(figure),
        }
    }

    fn print(&self, what: &str, unit: &str, goal: &Goal) {
        let ratio = median(self.sled.iter().zip(&self.file).map(|(sled, file)| sled / file));
        let (sled, file) = (median(self.sled.iter().copied()), median(self.file.iter().copied()));
        let word = |is_met| if is_met { "met" } else { "MISSED" };
        let goal = match goal {
            Goal::Least(least) => format!(">= {least} {unit}: {}", word(sled >= *least)),
            Goal::Most(most) => format!("<= {most} {unit}: {}", word(sled <= *most)),
            Goal::LeastRatio(least) => format!("ratio >= {least}: {}", word(ratio >= *least)),
            Goal::None => String::new(),
        };
        println!("{what:<42} {sled:>10.3} {file:>10.3} {ratio:>6.2}  {unit:<8} {goal}");
    }
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [child, task, store, dir, count] = &args[..]
        && child == "child"
    {
        return long::child(task, Store::named(store), Path::new(dir), count.parse()?);
    }
    if !args.iter().any(|arg| arg == "--bench") {
        return Ok(()); // built as a test: nothing to prove here
    }
    let events = std::env::var("BENCH_EVENTS").ok().map(|text| text.parse()).transpose()?;
    let events: u64 = events.unwrap_or(10_000_000);
    // On a real disk: where cargo keeps its own files.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    println!(
        "\nthe log, events of {:.0} bytes, {TURNS} turns of each store; load {}",
        events::mean_bytes(),
        load()
    );
    println!("{:<42} {:>10} {:>10} {:>6}", "median", "sled", "file", "ratio");
    appends::measure(dir.path())?;
    long::measure(dir.path(), events)?;
    println!("load at the end {}", load());
    Ok(())
}

/// Mean numbers of running processes of the last 1, 5 and 15 minutes.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
