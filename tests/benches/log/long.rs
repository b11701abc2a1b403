//! The long log: its bytes on disk, how it opens after a kill -9 in the middle of appends, and how
//! fast it is read.

use std::{
    error::Error,
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use rehull::log;
use rehull_tests::logs::Store;

use super::{Figures, Goal, TURNS, events::event};

/// Events that are committed together: about what 2,048 waiting writers make.
const LOADED_AT_ONCE: u64 = 2_048;
const APPENDED_AT_ONCE: u64 = 256;

/// Groups that a process appends before it is killed.
const GROUPS_BEFORE_KILL: usize = 100;

pub(crate) fn measure(dir: &Path, events: u64) -> Result<(), Box<dyn Error>> {
    let place = |store: Store| dir.join(format!("{store:?}"));
    let (mut loaded, mut disk) = (Figures::default(), Figures::default());
    for store in Store::ALL {
        let (raw, seconds) = load_and_kill(store, &place(store), events)?;
        loaded.add(store, events as f64 / seconds / 1e6);
        disk.add(store, bytes_on_disk(&place(store))? as f64 / raw);
    }
    let millions = events as f64 / 1e6;
    loaded.print(&format!("appended by one, {LOADED_AT_ONCE} at once"), "M/s", &Goal::None);
    disk.print(&format!("bytes on disk to raw, {millions} M"), "", &Goal::Most(0.95));

    let (mut whole, mut indexed) = (Figures::default(), Figures::default());
    let (mut scanned, mut on_core, mut replayed) =
        (Figures::default(), Figures::default(), Figures::default());
    for turn in 0..TURNS {
        let mut order = Store::ALL;
        order.rotate_left(turn % 2);
        for store in order {
            let dir = place(store);
            if turn > 0 {
                append_and_kill(store, &dir, events)?;
                // sled writes its index when it opens. Without it the log is as after one long life
                // that began with the first event.
                remove_index(&dir)?;
            }
            whole.add(store, run("attach", store, &dir, 0)?[0]);
            append_and_kill(store, &dir, events)?;
            indexed.add(store, run("attach", store, &dir, 0)?[0]);
        }
        for store in order {
            let figures = run("replay", store, &place(store), 0)?;
            scanned.add(store, figures[0]);
            on_core.add(store, figures[1]);
            replayed.add(store, figures[2]);
        }
    }
    let opened = format!("open after kill -9, {millions} M");
    whole.print(&opened, "ms", &Goal::Most(1_000.0));
    indexed.print("  the same, opened before its last appends", "ms", &Goal::None);
    scanned.print(&format!("scan and decode, {millions} M"), "M/s", &Goal::Least(2.9));
    on_core.print("  in a second of one core's own time", "M/s", &Goal::LeastRatio(1.0));
    replayed.print(&format!("open and replay, {millions} M"), "s", &Goal::None);
    Ok(())
}

/// What a process of its own does. Says its figures in words on its output.
pub(crate) fn child(
    task: &str,
    store: Store,
    dir: &Path,
    events: u64,
) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let mut log = store.attach(dir)?;
    let attached = began.elapsed().as_secs_f64();
    let mut out = io::stdout().lock();
    match task {
        "load" => {
            let mut raw = Vec::new();
            let mut bytes = 0;
            for from in (0..events).step_by(LOADED_AT_ONCE as usize) {
                let group: Vec<_> = (from..events.min(from + LOADED_AT_ONCE)).map(event).collect();
                log.append(&group)?;
                raw.clear();
                group.iter().for_each(|event| log::encode(event, &mut raw));
                bytes += raw.len();
                if (from / LOADED_AT_ONCE) % 500 == 499 {
                    eprintln!("  {store:?}: {from} events");
                }
            }
            writeln!(out, "loaded {bytes} {}", began.elapsed().as_secs_f64())?;
            append_for_ever(&mut log, &mut out)
        }
        "append" => {
            writeln!(out, "attached {attached}")?;
            append_for_ever(&mut log, &mut out)
        }
        "attach" => Ok(writeln!(out, "done {}", attached * 1_000.0)?),
        "replay" => {
            let (began, used) = (Instant::now(), processor_seconds()?);
            let mut read = 0u64;
            log.replay(|seq, recorded| {
                std::hint::black_box(&recorded);
                read = seq;
            })?;
            let (seconds, used) = (began.elapsed().as_secs_f64(), processor_seconds()? - used);
            let millions = read as f64 / 1e6;
            let total = attached + seconds;
            Ok(writeln!(out, "done {} {} {total}", millions / seconds, millions / used)?)
        }
        other => Err(format!("{other} is no task").into()),
    }
}

fn append_for_ever(log: &mut log::Log, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    loop {
        let from = log.head().seq;
        let group: Vec<_> = (from..from + APPENDED_AT_ONCE).map(event).collect();
        log.append(&group)?;
        writeln!(out, "acknowledged {}", log.head().seq)?;
    }
}

fn start(task: &str, store: Store, dir: &Path, events: u64) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["child", task, &format!("{store:?}")]).arg(dir).arg(events.to_string());
    command.stdout(Stdio::piped()).spawn()
}

/// Runs a task to its end; its figures.
fn run(task: &str, store: Store, dir: &Path, events: u64) -> Result<Vec<f64>, Box<dyn Error>> {
    let output = start(task, store, dir, events)?.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    let figures = text.trim().strip_prefix("done ").ok_or("the process has failed")?;
    eprintln!("  {task}, {store:?}: {figures}");
    Ok(figures.split(' ').map(str::parse).collect::<Result<_, _>>()?)
}

/// Fills a log in one life, and kills the process in the middle of further appends. Raw bytes of
/// the events, and how many seconds they took.
fn load_and_kill(store: Store, dir: &Path, events: u64) -> Result<(f64, f64), Box<dyn Error>> {
    let mut child = start("load", store, dir, events)?;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next().ok_or("nothing was loaded")??;
    let mut words = line.split(' ').skip(1).map(str::parse);
    let (raw, seconds) = (words.next().ok_or("bytes")??, words.next().ok_or("seconds")??);
    kill_in_the_middle(child, lines)?;
    Ok((raw, seconds))
}

fn append_and_kill(store: Store, dir: &Path, events: u64) -> Result<(), Box<dyn Error>> {
    let mut child = start("append", store, dir, events)?;
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    kill_in_the_middle(child, lines)
}

fn kill_in_the_middle(
    mut child: Child,
    lines: impl Iterator<Item = io::Result<String>>,
) -> Result<(), Box<dyn Error>> {
    for line in lines.take(GROUPS_BEFORE_KILL) {
        line?;
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Time that this thread has had on a processor: what a busy machine gives to others is not in it.
fn processor_seconds() -> Result<f64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanos / 1e9)
}

fn remove_index(dir: &Path) -> io::Result<()> {
    for file in files(dir)? {
        if file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"snap.")) {
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

fn bytes_on_disk(dir: &Path) -> io::Result<u64> {
    let sizes = files(dir)?.into_iter().map(|file| Ok(fs::metadata(file)?.blocks() * 512));
    sizes.sum()
}

/// Every file below a directory.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(self::files(&path)?) } else { files.push(path) }
    }
    Ok(files)
}
