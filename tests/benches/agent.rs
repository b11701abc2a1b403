//! What the agent costs a host: memory, processor, and the time of one round of all checks; with
//! Prometheus' node exporter, scraped as often as the agent beats, measured beside it.
//!
//! `BENCH_SECONDS` is how long both are watched; `REHULL_AGENT_BIN` names the agent's file.

#![expect(clippy::unwrap_used, reason = "a measurement stops where its ground is missing")]

#[path = "../../agent/tests/coordinator/mod.rs"]
#[expect(dead_code, reason = "tests of the agent's session use more of it")]
mod coordinator;

use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use coordinator::{Coordinator, Link};
use rehull_proto::v1::{Collect, Report, ToAgent, from_agent::Message, to_agent::Order};

const EXPORTER: &str = "/usr/bin/prometheus-node-exporter";
const BEAT: Duration = Duration::from_secs(10);
const ROUNDS: usize = 20;

const RSS_KIB_MAX: u64 = 6 * 1024;
const CPU_PERCENT_MAX: f64 = 0.1;
const ROUND_MS_MAX: f64 = 50.0;

/// A child that is gone with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// What a process has used so far.
struct Usage {
    rss_kib: u64,
    peak_kib: u64,
    cpu: Duration,
}

impl Running {
    fn start(command: &mut Command) -> io::Result<Self> {
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Self)
    }

    fn usage(&self) -> io::Result<Usage> {
        let process = format!("/proc/{}", self.0.id());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
        };
        // Nanoseconds on a processor, of each thread that still lives.
        let mut nanos = 0;
        for task in fs::read_dir(format!("{process}/task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let used = text.split(' ').next().and_then(|used| used.parse::<u64>().ok());
            nanos += used.unwrap_or_default();
        }
        Ok(Usage {
            rss_kib: kib("VmRSS:"),
            peak_kib: kib("VmHWM:"),
            cpu: Duration::from_nanos(nanos),
        })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(()); // built as a test: nothing to prove here
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    let watch = Duration::from_secs(seconds.unwrap_or(60));
    let program = program()?;
    let dir = tempfile::tempdir()?;
    let mut coordinator = Coordinator::start("rehull-coordinator").await;
    let config = configure(dir.path(), &coordinator)?;
    let agent = Running::start(Command::new(&program).arg("run").arg("--config").arg(config))?;
    let mut link = coordinator.link().await;
    let idle = agent.usage()?;
    let mut rounds = Vec::new();
    for n in 0..ROUNDS {
        rounds.push(round(&mut link, n).await?);
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let exporter = exporter()?;
    println!(
        "\nthe agent, {} KiB on disk, {} processes on this host, watched for {} s at a beat of {} s",
        fs::metadata(&program)?.len() / 1024,
        rounds[0].1,
        watch.as_secs(),
        BEAT.as_secs()
    );
    println!("{:<22} {:>10} {:>10} {:>10}", "", "RSS KiB", "peak KiB", "CPU %");
    let (agent_used, exporter_used) = watch_both(&agent, exporter.as_ref(), watch).await?;
    print_row("rehull-agent, linked", &idle, None);
    print_row("rehull-agent", &agent_used.0, Some(agent_used.1));
    match &exporter_used {
        Some((usage, percent)) => print_row("node-exporter", usage, Some(*percent)),
        None => {
            println!("node-exporter          not there: apt-get install prometheus-node-exporter")
        }
    }
    let (median, slowest) = (rounds[ROUNDS / 2].0, rounds[ROUNDS - 1].0);
    println!(
        "a round of all checks, over the network: median {median:.1} ms, slowest {slowest:.1} ms"
    );
    verdict("resident memory", agent_used.0.rss_kib as f64, RSS_KIB_MAX as f64, "KiB");
    verdict("processor", agent_used.1, CPU_PERCENT_MAX, "%");
    verdict("round", median, ROUND_MS_MAX, "ms");
    Ok(())
}

/// One round: milliseconds until the report is here, and how many processes it looked at.
async fn round(link: &mut Link, n: usize) -> Result<(f64, u32), String> {
    let nonce = format!("round {n}");
    let collect = Order::Collect(Collect { nonce: nonce.clone(), ..Collect::default() });
    let began = Instant::now();
    link.send(ToAgent { epoch: 1, generation: 1, order: Some(collect), ..ToAgent::default() })
        .await;
    loop {
        match link.next().await {
            Some(Message::Report(Report { nonce: of, processes, .. })) if of == nonce => {
                let total = processes.map_or(0, |processes| processes.total);
                return Ok((began.elapsed().as_secs_f64() * 1000.0, total));
            }
            Some(_) => (),
            None => return Err("the agent has gone".to_owned()),
        }
    }
}

type Used = (Usage, f64);

/// Lets both live, scrapes the exporter at the agent's beat, and says what each has used.
async fn watch_both(
    agent: &Running,
    exporter: Option<&(Running, u16)>,
    watch: Duration,
) -> io::Result<(Used, Option<Used>)> {
    let began = Instant::now();
    let before = agent.usage()?.cpu;
    let exporter_before = exporter.map(|(exporter, _)| exporter.usage()).transpose()?;
    while began.elapsed() < watch {
        tokio::time::sleep(BEAT.min(watch)).await;
        if let Some((_, port)) = exporter {
            scrape(*port)?;
        }
    }
    let share = |used: Duration| used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    let now = agent.usage()?;
    let percent = share(now.cpu - before);
    let exporter = match (exporter, exporter_before) {
        (Some((exporter, _)), Some(before)) => {
            let now = exporter.usage()?;
            let percent = share(now.cpu - before.cpu);
            Some((now, percent))
        }
        _ => None,
    };
    Ok(((now, percent), exporter))
}

fn print_row(name: &str, usage: &Usage, percent: Option<f64>) {
    let percent = percent.map_or("-".to_owned(), |percent| format!("{percent:.3}"));
    println!("{name:<22} {:>10} {:>10} {percent:>10}", usage.rss_kib, usage.peak_kib);
}

fn verdict(what: &str, seen: f64, most: f64, unit: &str) {
    let word = if seen <= most { "within" } else { "MISSED" };
    println!("{what}: {seen:.3} {unit}, goal {most} {unit}: {word}");
}

fn program() -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let shipped = root.join("tests/.cache/rehull-agent");
    if let Some(path) = std::env::var_os("REHULL_AGENT_BIN") {
        return Ok(path.into());
    }
    if shipped.is_file() {
        return Ok(shipped);
    }
    println!("building the agent: tests/.cache/rehull-agent is not there");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--package", "rehull-agent", "--profile", "agent", "--target-dir"])
        .arg(root.join("target"))
        .current_dir(&root)
        .status()?;
    match status.success() {
        true => Ok(root.join("target/agent/rehull-agent")),
        false => Err(io::Error::other("the agent does not build")),
    }
}

fn configure(dir: &Path, coordinator: &Coordinator) -> io::Result<PathBuf> {
    let config = serde_json::json!({
        "coordinator": coordinator.address.to_string(),
        "cluster": "bench",
        "node": "host1",
        "ca_sha256": coordinator.ca_sha256,
        "token_file": dir.join("token"),
        "state_dir": dir.join("state"),
        "beat_seconds": BEAT.as_secs(),
    });
    fs::write(dir.join("token"), "secret")?;
    fs::write(dir.join("config.json"), config.to_string())?;
    Ok(dir.join("config.json"))
}

/// The exporter on a free port of the loopback; `None` where it is not installed.
fn exporter() -> io::Result<Option<(Running, u16)>> {
    if !Path::new(EXPORTER).exists() {
        return Ok(None);
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let running = Running::start(Command::new(EXPORTER).arg(listen))?;
    let began = Instant::now();
    while let Err(error) = scrape(port) {
        if began.elapsed() > Duration::from_secs(10) {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(Some((running, port)))
}

fn scrape(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    match page.contains("node_cpu_seconds_total") {
        true => Ok(()),
        false => Err(io::Error::other("no metrics")),
    }
}
