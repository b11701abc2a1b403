//! Runs one program to its end, with what it prints bounded.

use std::{collections::VecDeque, process::Stdio, sync::Arc, time::Duration};

use rehull_shared::text::bounded;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
};

use super::{Exit, Invocation, RunProgram};
use crate::clients::Trouble;

/// How long one call may take; a reinstall itself goes on without its caller.
const CALL_MAX: Duration = Duration::from_secs(100);

/// Lines that are kept of both streams together.
const LINES_MAX: usize = 20;

/// Longest line that is kept, in bytes.
const LINE_MAX: usize = 300;

/// Called with each line of standard output.
type OnLine = Arc<dyn Fn(String) + Send + Sync>;

/// Where a program finds others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs programs of this machine. The program dies with its caller, and sees nothing of the
/// coordinator's environment.
pub fn run_program() -> RunProgram {
    Arc::new(|call, line| Box::pin(run(call, line)))
}

async fn run(call: Invocation, line: OnLine) -> Result<Exit, Trouble> {
    let program = call.program.clone();
    let child = Command::new(&call.program)
        .args(&call.args)
        .env_clear()
        .env("PATH", PATH)
        .envs(&call.env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let child = child.map_err(|why| Trouble::new(&program, why))?;
    match tokio::time::timeout(CALL_MAX, to_the_end(child, line)).await {
        Ok(exit) => exit.map_err(|why| Trouble::new(program, why)),
        Err(_) => {
            let why = format!(
                "it did not end within {} s: it must begin the work and return, and say later \
                 how far it is",
                CALL_MAX.as_secs()
            );
            Err(Trouble::new(program, why))
        }
    }
}

async fn to_the_end(mut child: Child, line: OnLine) -> std::io::Result<Exit> {
    let tail = std::sync::Mutex::new(VecDeque::with_capacity(LINES_MAX));
    let keep = |text: &str| {
        let mut tail = tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if tail.len() == LINES_MAX {
            tail.pop_front();
        }
        tail.push_back(text.to_owned());
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let seen = |text: String| {
        keep(&text);
        line(text);
    };
    let (out, err, status) =
        tokio::join!(lines(out, seen), lines(err, |text| keep(&text)), child.wait());
    out?;
    err?;
    let code = status?.code();
    let tail = tail.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Exit { code, tail: Vec::from(tail).join("\n") })
}

/// Calls `see` with each line, cut to [`LINE_MAX`]: a program may print one without an end.
async fn lines(
    stream: Option<impl AsyncRead + Unpin>,
    see: impl Fn(String),
) -> std::io::Result<()> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut buffer = [0; 4096];
    let mut line: Vec<u8> = Vec::with_capacity(LINE_MAX);
    let finish = |line: &mut Vec<u8>| {
        see(bounded(&String::from_utf8_lossy(line), LINE_MAX));
        line.clear();
    };
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        for byte in &buffer[..read] {
            match byte {
                b'\n' => finish(&mut line),
                byte if line.len() < LINE_MAX => line.push(*byte),
                _ => (),
            }
        }
    }
    if !line.is_empty() {
        finish(&mut line);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Mutex};

    use super::*;

    async fn shell(script: &str) -> (Result<Exit, Trouble>, Vec<String>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = lines.clone();
        let env = BTreeMap::from([("REHULL_NODE".to_owned(), "n1".to_owned())]);
        let args = vec!["-c".to_owned(), script.to_owned()];
        let call = Invocation { program: "/bin/sh".into(), args, env };
        let exit = run(call, Arc::new(move |line| seen.lock().unwrap().push(line))).await;
        let lines = lines.lock().unwrap().clone();
        (exit, lines)
    }

    #[tokio::test]
    async fn lines_codes_and_the_last_words_come_back() {
        let (exit, lines) = shell("echo progress 5 $REHULL_NODE; echo oops >&2; exit 11").await;
        let exit = exit.unwrap();
        assert_eq!((exit.code, lines), (Some(11), vec!["progress 5 n1".to_owned()]));
        assert!(exit.tail.contains("oops"), "{}", exit.tail);
        let (exit, _) = shell("kill -9 $$").await;
        assert_eq!(exit.unwrap().code, None);
    }

    #[tokio::test]
    async fn what_it_prints_is_bounded_and_its_environment_is_ours() {
        let (exit, lines) = shell(
            "i=0; while [ $i -lt 100 ]; do echo $i; i=$((i+1)); done; \
             head -c 100000 /dev/zero | tr '\\0' x",
        )
        .await;
        assert_eq!(lines.len(), 101);
        let tail = exit.unwrap().tail;
        assert!(tail.len() <= LINES_MAX * (LINE_MAX + 1), "{} bytes", tail.len());
        let (_, lines) = shell("env | cut -d= -f1 | sort | tr '\\n' ' '").await;
        assert!(!lines[0].contains("HOME") && lines[0].contains("REHULL_NODE"), "{lines:?}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_a_trouble() {
        let call = Invocation {
            program: "/nowhere/reinstall".into(),
            args: Vec::new(),
            env: BTreeMap::new(),
        };
        let trouble = run(call, Arc::new(|_| ())).await.unwrap_err();
        assert!(trouble.to_string().starts_with("/nowhere/reinstall: "), "{trouble}");
    }
}
