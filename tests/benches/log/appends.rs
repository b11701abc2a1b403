//! Durable appends with writers that each wait for their event to be on disk. The writer of the log
//! takes everything that waits and commits it together, as the engine does.

use std::{
    error::Error,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rehull::{domain::event::Recorded, log::Log};
use rehull_tests::logs::Store;
use tokio::sync::{mpsc, oneshot};

use super::{Figures, Goal, TURNS, events::event};

/// As many as the engine takes at once.
const INBOX: usize = 4_096;

/// How long one turn lasts.
const TURN: Duration = Duration::from_secs(2);

/// Waiting writers, and the least ratio to the file's figure.
const ROWS: [(u64, f64); 3] = [(1, 0.65), (256, 0.9), (2_048, 0.9)];

struct Append {
    event: Recorded,
    reply: oneshot::Sender<u64>,
}

pub(crate) fn measure(dir: &Path) -> Result<(), Box<dyn Error>> {
    for (writers, least) in ROWS {
        let mut rates = Figures::default();
        for turn in 0..TURNS {
            // The first of a turn finds the disk as the last one left it: they change places.
            let mut order = Store::ALL;
            order.rotate_left(turn % 2);
            for store in order {
                let dir = tempfile::tempdir_in(dir)?;
                let rate = appended_in_a_second(store.attach(dir.path())?, writers)?;
                eprintln!("  {writers} writers, {store:?}: {rate:.0} events/s");
                rates.add(store, rate / 1_000.0);
            }
        }
        let what = format!("durable appends, {writers} waiting writers");
        rates.print(&what, "1000/s", &Goal::LeastRatio(least));
    }
    Ok(())
}

fn appended_in_a_second(log: Log, writers: u64) -> Result<f64, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (sender, inbox) = mpsc::channel(INBOX);
    let committer = thread::spawn(move || commit(log, inbox));
    let done = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + TURN;
    let tasks: Vec<_> = (0..writers)
        .map(|writer| runtime.spawn(write(writer << 32, sender.clone(), end, done.clone())))
        .collect();
    let began = Instant::now();
    drop(sender);
    for task in tasks {
        runtime.block_on(task)?;
    }
    let took = began.elapsed();
    committer.join().map_err(|_| "the committer panicked")?;
    Ok(done.load(Ordering::Relaxed) as f64 / took.as_secs_f64())
}

async fn write(mut number: u64, sender: mpsc::Sender<Append>, end: Instant, done: Arc<AtomicU64>) {
    while Instant::now() < end {
        let (reply, is_durable) = oneshot::channel();
        let event = event(number);
        sender.send(Append { event, reply }).await.unwrap_or_else(|_| panic!("the log failed"));
        is_durable.await.expect("the log failed");
        done.fetch_add(1, Ordering::Relaxed);
        number += 1;
    }
}

fn commit(mut log: Log, mut inbox: mpsc::Receiver<Append>) {
    let mut waiting = Vec::new();
    while inbox.blocking_recv_many(&mut waiting, INBOX) > 0 {
        let (events, replies): (Vec<_>, Vec<_>) =
            waiting.drain(..).map(|Append { event, reply }| (event, reply)).unzip();
        let seq = log.append(&events).expect("the log takes events");
        for reply in replies {
            _ = reply.send(seq); // the writer may have ended
        }
    }
}
