//! A coordinator whose disk is full ends, and says why: what its last append has left is unknown.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

const REHULL: &str = env!("CARGO_BIN_EXE_rehull");

#[test]
fn a_coordinator_that_cannot_write_its_log_ends_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let rehull = |args: &[&str]| Command::new(REHULL).args(args).args(["--dir", dir]).output();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let made = rehull(&["init", "--listen", &free.to_string()]).unwrap();
    assert!(made.status.success(), "{made:?}");
    // It can make no file larger than some 100 KB, and lives when it tries.
    let mut coordinator = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "sh"])
        .args([REHULL, "serve", "--dir", dir])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut refused = 0;
    for number in 0.. {
        if coordinator.try_wait().unwrap().is_some() {
            break;
        }
        let node = format!("n{number}");
        if !rehull(&["agent", "token", "prod", &node]).unwrap().status.success() {
            // It is not there yet, or not any more; or it hangs, and shall not outlive this test.
            refused += 1;
            if refused == 600 {
                coordinator.kill().unwrap();
            }
            sleep(Duration::from_millis(100));
        }
    }
    let output = coordinator.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    for word in ["the engine has died", "log failed", "File too large"] {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}
