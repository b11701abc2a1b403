//! `kill -9`, at any moment, of a process that appends: the log opens again, whole, and with every
//! event that was acknowledged. `SEED=` repeats the choices of one run, `ROUNDS=` makes it longer.
//!
//! The processes are this program itself, which runs one test of itself.

#![expect(clippy::unwrap_used, reason = "a test stops where its ground is missing")]

use std::{
    env,
    io::{self, BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    thread::{self, sleep},
    time::Duration,
};

use rehull::{
    domain::command,
    engine::Engine,
    log::{Error, Log},
};
use rehull_shared::time::{Timestamp, now};
use rehull_tests::{
    chance::Chance,
    logs::{Store, event, read},
    story::{node, prod},
};
use tempfile::TempDir;

/// Set for the processes that are killed: store, seed and directory.
const WRITER: &str = "REHULL_TEST_WRITER";

/// Set for the process whose disk is full: its directory.
const ENGINE: &str = "REHULL_TEST_ENGINE";

/// What a process says before the number of the last event that is on disk.
const ACKNOWLEDGED: &str = "acknowledged ";

/// On a disk: a temporary directory may be in memory.
fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Says something past the harness, which keeps what `println!` says for itself.
fn say(line: &str) {
    io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// This program, as a process that runs only the test of this name.
fn this(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command
}

/// The writer: appends until it is killed or cannot. Without its variable there is nothing to do.
#[test]
fn writer() {
    let Ok(task) = env::var(WRITER) else { return };
    let mut words = task.splitn(3, ' ');
    let store = Store::named(words.next().unwrap());
    let mut chance = Chance(words.next().unwrap().parse().unwrap());
    let mut log = opened(store, Path::new(words.next().unwrap()));
    loop {
        let next = log.head().seq + 1;
        let group: Vec<_> = (next..=next + chance.below(60)).map(event).collect();
        match log.append(&group) {
            Ok(last) => say(&format!("{ACKNOWLEDGED}{last}")),
            Err(error) => {
                say(&format!("first {error}"));
                say(&format!("then {}", log.append(&[event(next)]).unwrap_err()));
                break;
            }
        }
    }
}

/// Opens a log. What another test of this program starts has the locks that were held at that moment, too,
/// until it runs.
fn opened(store: Store, dir: &Path) -> Log {
    for _ in 0..500 {
        match store.attach(dir) {
            Err(Error::Locked { .. }) => sleep(Duration::from_millis(10)),
            log => return log.unwrap(),
        }
    }
    panic!("the log in {} stays locked", dir.display());
}

fn writer_of(store: Store, seed: u64, dir: &Path) -> Command {
    let mut command = this("writer");
    command.env(WRITER, format!("{store:?} {seed} {}", dir.display()));
    command
}

struct Writer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(store: Store, seed: u64, dir: &Path) -> Self {
        let mut child = writer_of(store, seed, dir).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The last event of the next group that is on disk; `None` when the writer is dead.
    fn acknowledged(&mut self) -> Option<u64> {
        self.lines.by_ref().map_while(Result::ok).find_map(|line| number(&line))
    }

    /// Kills it, and gives the last number that it has said since it was last asked.
    fn kill(mut self) -> Option<u64> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.acknowledged()).last()
    }
}

/// The number in a line that acknowledges one.
fn number(line: &str) -> Option<u64> {
    line.strip_prefix(ACKNOWLEDGED).map(|number| number.parse().unwrap())
}

fn survives_kill_9(store: Store) {
    let variable = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = variable("SEED").unwrap_or_else(|| std::process::id().into());
    println!("SEED={seed}: shown if this test fails");
    let mut chance = Chance(seed);
    let dir = directory();
    let (mut acknowledged, mut last) = (0, 0);
    for round in 0..variable("ROUNDS").unwrap_or(25) {
        let mut writer = Writer::start(store, chance.number(), dir.path());
        // Now and then while it opens the log, else some groups later.
        for _ in 0..chance.below(4).min(1) * chance.below(15) {
            acknowledged = writer.acknowledged().expect("the writer has died of itself");
        }
        sleep(Duration::from_micros(chance.below(20_000)));
        acknowledged = writer.kill().unwrap_or(acknowledged);
        let before = last;
        last = read(&store.attach(dir.path()).unwrap()).unwrap();
        println!("round {round}: {acknowledged} acknowledged, {last} there");
        assert!(last >= acknowledged.max(before), "events are gone");
    }
    assert!(acknowledged > 0, "nothing was ever written");
}

#[test]
fn nothing_acknowledged_is_lost_from_sled() {
    survives_kill_9(Store::Sled);
}

#[test]
fn nothing_acknowledged_is_lost_from_a_plain_file() {
    survives_kill_9(Store::File);
}

#[test]
fn a_second_process_is_told_who_has_the_log() {
    for store in Store::ALL {
        let dir = directory();
        let mut writer = Writer::start(store, 1, dir.path());
        let acknowledged = writer.acknowledged().expect("the writer has died of itself");
        let refused = store.attach(dir.path()).map(|log| log.head());
        let holder = format!("process {} (", writer.child.id());
        match refused {
            Err(Error::Locked { holder: said, .. }) => {
                assert!(said.starts_with(&holder), "{said} instead of {holder}");
            }
            other => panic!("{other:?}"),
        }
        writer.kill();
        assert!(read(&store.attach(dir.path()).unwrap()).unwrap() >= acknowledged);
    }
}

/// The lines of a process that can make no file larger than 3 MB: its disk is full.
fn said_on_a_full_disk(command: &Command) -> Vec<String> {
    let mut full = Command::new("sh");
    full.args(["-c", "trap '' XFSZ; ulimit -f 3000; exec \"$@\"", "sh"]);
    full.arg(command.get_program()).args(command.get_args());
    full.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = full.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn nothing_follows_an_append_that_has_failed() {
    for store in Store::ALL {
        let dir = directory();
        let lines = said_on_a_full_disk(&writer_of(store, 1, dir.path()));
        let acknowledged = lines.iter().filter_map(|line| number(line)).max().unwrap();
        let said = |word: &str| lines.iter().find_map(|line| line.strip_prefix(word)).unwrap();
        assert!(said("first ").contains("File too large"), "{}", said("first "));
        assert!(said("then ").contains("an earlier append failed"), "{}", said("then "));
        assert!(read(&store.attach(dir.path()).unwrap()).unwrap() >= acknowledged);
    }
}

/// The engine, on a disk that will be full: issues tokens until it has stopped.
#[test]
fn engine() {
    let Ok(dir) = env::var(ENGINE) else { return };
    let (engine, handle) = Engine::open(Path::new(&dir), Arc::new(now)).unwrap();
    let thread = thread::spawn(move || engine.run());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let token = |number: u64| {
        let sha256 = format!("{number:064}").repeat(100);
        let token = rehull::domain::state::Token { sha256, expires: Timestamp::from_millis(0) };
        let request = command::Request::IssueToken { node: node("n1"), token, by: "ann".into() };
        command::Command::Of(prod(), request)
    };
    let refused = (0..).find_map(|number| match runtime.block_on(handle.submit(token(number))) {
        Ok(seq) => {
            say(&format!("{ACKNOWLEDGED}{}", seq.unwrap()));
            None
        }
        Err(stopped) => Some(stopped),
    });
    say(&format!("refused {}", refused.unwrap()));
    say(&format!("published {}", handle.published().sequence));
    say(&format!("ended {}", thread.join().unwrap().unwrap_err()));
}

#[test]
fn an_engine_that_cannot_write_ends_and_has_shown_nothing_that_is_not_on_disk() {
    let dir = directory();
    let lines = said_on_a_full_disk(this("engine").env(ENGINE, dir.path()));
    let acknowledged = lines.iter().filter_map(|line| number(line)).max().unwrap();
    let said = |word: &str| lines.iter().find_map(|line| line.strip_prefix(word)).unwrap();
    assert_eq!(said("refused "), "the engine has stopped");
    assert!(said("ended ").contains("File too large"), "{}", said("ended "));
    assert_eq!(said("published "), acknowledged.to_string());
    let log = Store::Sled.attach(dir.path()).unwrap();
    assert!(log.verify(|_, _| ()).unwrap().seq >= acknowledged);
}
