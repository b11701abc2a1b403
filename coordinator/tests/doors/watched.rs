//! `rehull watch`, on a terminal of 80 columns and in a pipe.

use std::{
    fs::File,
    io::Read,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use rehull_proto::v1::intent::{Pause, Resume, Wish};
use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{
    house::{Coordinator, coordinator},
    operators::{intent, register, start},
};

/// Longest wait for something to be shown.
const PATIENCE: Duration = Duration::from_secs(30);

/// A `rehull watch` that ends with this.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        _ = self.0.kill(); // it may have ended
        _ = self.0.wait();
    }
}

fn watch(coordinator: &Coordinator, stdout: Stdio) -> Watching {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rehull"));
    command.arg("watch").env("REHULL_DIR", coordinator.dir.path()).env_remove("REHULL_SERVER");
    // Errors go elsewhere: the picture does not depend on it.
    let command = command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
    Watching(command.spawn().unwrap())
}

/// What comes out, read beside the test.
fn output(from: OwnedFd) -> Receiver<Vec<u8>> {
    let (sender, pieces) = channel();
    std::thread::spawn(move || {
        let (mut from, mut piece) = (File::from(from), [0; 4096]);
        while let Ok(read) = from.read(&mut piece) {
            if read == 0 || sender.send(piece[..read].to_vec()).is_err() {
                break;
            }
        }
    });
    pieces
}

/// Reads on until the text says so.
fn read_until(text: &mut String, pieces: &Receiver<Vec<u8>>, so: impl Fn(&str) -> bool) {
    while !so(text) {
        let piece = pieces.recv_timeout(PATIENCE);
        let piece = piece.unwrap_or_else(|_| panic!("nothing more than this came: {text:?}"));
        text.push_str(&String::from_utf8_lossy(&piece));
    }
}

async fn begun() -> Coordinator {
    let coordinator = coordinator().await;
    register(&coordinator);
    coordinator.operator().await.start(start()).await.unwrap();
    coordinator
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_of_eighty_columns_is_never_overrun() {
    for (columns, rows) in [(80, 24), (60, 24), (80, 3)] {
        let coordinator = begun().await;
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let side = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let watching = watch(&coordinator, Stdio::from(side));
        let pieces = output(terminal);
        let mut text = String::new();
        read_until(&mut text, &pieces, |text| text.contains("Preflight"));
        let mut operator = coordinator.operator().await;
        operator.submit(intent(Wish::Pause(Pause {}))).await.unwrap();
        read_until(&mut text, &pieces, |text| text.contains("Paused"));
        drop(watching);
        let mut screen = vt100::Parser::new(rows, columns, 0);
        screen.process(text.as_bytes());
        let shown: Vec<String> = screen.screen().rows(0, columns).collect();
        let shown: Vec<&str> = shown.iter().map(|row| row.trim_end()).collect();
        // A line that were too long would go on in the next row.
        let meant: &[&str] = match rows {
            // Where the title has no room for two nodes below it, those that wait are left out.
            3 => &["prod  Paused  ", "", ""],
            _ => &["prod  Paused  ", "  worker1  ", "  worker2  ", ""],
        };
        for (row, meant) in shown.iter().zip(meant) {
            let fits = if meant.is_empty() { row.is_empty() } else { row.starts_with(meant) };
            assert!(fits, "{columns} columns: {shown:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_gets_one_line_a_change_and_no_control_sequences() {
    let coordinator = begun().await;
    let mut watching = watch(&coordinator, Stdio::piped());
    let pieces = output(OwnedFd::from(watching.0.stdout.take().unwrap()));
    let mut text = String::new();
    let whole = |text: &str, lines: usize| text.matches('\n').count() >= lines;
    read_until(&mut text, &pieces, |text| whole(text, 3));
    // Without news the coordinator sends its picture again every two seconds; it is no line.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut operator = coordinator.operator().await;
    operator.submit(intent(Wish::Pause(Pause {}))).await.unwrap();
    read_until(&mut text, &pieces, |text| whole(text, 4));
    operator.submit(intent(Wish::Resume(Resume {}))).await.unwrap();
    read_until(&mut text, &pieces, |text| whole(text, 5));
    drop(watching);
    let meant = [
        "prod  Preflight  ",
        "prod/worker1  Planned 0%  ",
        "prod/worker2  Planned 0%  ",
        "prod  Paused  ",
        "prod  Preflight  ",
    ];
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), meant.len(), "{lines:#?}");
    for (line, meant) in lines.iter().zip(meant) {
        assert!(line.starts_with(meant), "{line:?} does not begin with {meant:?}");
    }
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}
