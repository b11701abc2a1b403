//! Notifications: nothing is lost, whatever the receiver does and whenever the coordinator dies.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rehull::{
    domain::{
        command::{Command, Request},
        state::Subject,
    },
    engine::{Clock, Engine, Handle},
    webhook::{Cursor, Patience, Secret, Webhook},
};
use rehull_shared::time::Timestamp;
use rehull_tests::story::{nodes, plan, prod};
use ring::hmac;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use uuid::Uuid;

const SECRET: &str = "a secret of the receiver and of nobody else";

/// Longest wait for a notification.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// Answers with this code.
    Answers(u16),
    /// Reads it, and says nothing for as long as anybody listens.
    Hangs,
    /// Closes the connection.
    Closes,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
struct Heard {
    id: String,
    timestamp: i64,
    body: Value,
}

/// A receiver of notifications, which checks every signature.
struct Receiver {
    heard: mpsc::UnboundedReceiver<Heard>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Does what it is told, one request after the other, and then takes everything.
    fn new(listener: TcpListener, script: &[Does]) -> Self {
        let script = Arc::new(Mutex::new(script.iter().copied().collect::<VecDeque<_>>()));
        let (sender, heard) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), sender.clone()));
            }
        });
        Self { heard, task }
    }

    async fn next(&mut self) -> Heard {
        let heard = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
        heard.expect("nothing was told").expect("the receiver lives")
    }

    /// The next one that is another one than this.
    async fn after(&mut self, last: &str) -> Heard {
        loop {
            let heard = self.next().await;
            if heard.id != last {
                return heard;
            }
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<Mutex<VecDeque<Does>>>,
    heard: mpsc::UnboundedSender<Heard>,
) {
    let mut buffer = Vec::new();
    while let Some(request) = request(&mut stream, &mut buffer).await {
        let does = script.lock().unwrap().pop_front().unwrap_or(Does::Answers(200));
        _ = heard.send(request);
        match does {
            Does::Answers(code) => {
                let answer = format!(
                    "HTTP/1.1 {code} X\r\nlocation: /elsewhere\r\ncontent-length: 2\r\n\r\nok"
                );
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Does::Hangs => _ = stream.read(&mut [0]).await,
            Does::Closes => return,
        }
    }
}

/// Reads one request, and checks its signature.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Heard> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..head_end].to_vec()).unwrap();
    assert!(head.starts_with("POST /hook?tenant=7 HTTP/1.1\r\n"), "{head}");
    let header = |name: &str| {
        let line = head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        });
        line.unwrap_or_else(|| panic!("no {name} in {head}"))
    };
    assert_eq!(header("content-type"), "application/json");
    let length: usize = header("content-length").parse().unwrap();
    while buffer.len() < head_end + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body: Vec<u8> = buffer.drain(..head_end + length).skip(head_end).collect();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = header("webhook-signature");
    let tag = BASE64.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
    hmac::verify(&key, &signed, &tag).expect("the signature is right");
    let body = serde_json::from_slice(&body).unwrap();
    Some(Heard { id, timestamp: timestamp.parse().unwrap(), body })
}

/// An engine whose migration can be held again and again.
struct House {
    handle: Handle,
    now: Arc<AtomicI64>,
    dir: tempfile::TempDir,
}

fn clock(now: &Arc<AtomicI64>) -> Clock {
    let now = now.clone();
    Arc::new(move || Timestamp::from_millis(now.load(Ordering::SeqCst)))
}

fn open(dir: &Path, now: &Arc<AtomicI64>) -> Handle {
    let (engine, handle) = Engine::open(&dir.join("log"), clock(now)).unwrap();
    std::thread::spawn(move || engine.run());
    handle
}

impl House {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(1_700_000_000_000));
        let house = Self { handle: open(dir.path(), &now), now, dir };
        let (plan, nodes) = (Box::new(plan()), nodes(&["n1"]));
        let by = "ann".to_owned();
        house.asks(Request::Start { id: Uuid::from_u128(1), plan, nodes, by }).await;
        house
    }

    async fn asks(&self, request: Request) {
        let command = Command::Of(prod(), request);
        self.handle.submit(command).await.unwrap().unwrap();
    }

    /// The cluster is held: a `migration.held` under a new number.
    async fn holds(&self) -> u64 {
        self.now.fetch_add(16 * 60 * 1000, Ordering::SeqCst);
        let held = self.handle.submit(Command::Tick).await.unwrap().unwrap();
        let (subject, by) = (Subject::Cluster, "ann".to_owned());
        self.asks(Request::Retry { subject, resubmit: false, by }).await;
        held
    }

    fn cursor(&self) -> Cursor {
        Cursor::open(self.dir.path(), self.handle.published().sequence).unwrap()
    }

    /// The number that is on disk.
    fn kept(&self) -> u64 {
        let text = std::fs::read_to_string(self.dir.path().join("webhook.cursor")).unwrap();
        text.trim().parse().unwrap()
    }

    /// Begins to tell a receiver on this port.
    fn tells(&self, port: u16) -> Telling<impl Sized> {
        let url = format!("http://127.0.0.1:{port}/hook?tenant=7").parse().unwrap();
        let patience = Patience {
            answer_max: Duration::from_secs(2),
            pause_min: Duration::from_millis(10),
            pause_max: Duration::from_millis(100),
        };
        let secret = Secret::of(SECRET).unwrap();
        let webhook = Webhook::new(url, secret, "cafebabe00", patience, clock(&self.now)).unwrap();
        Telling(tokio::spawn(webhook.run(self.handle.clone(), self.cursor())))
    }

    /// Waits until the cursor is there.
    async fn until_kept(&self, sequence: u64) {
        for _ in 0..6_000 {
            if self.kept() >= sequence {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the cursor stays at {}", self.kept());
    }
}

/// Somebody who tells, until this is dropped: a kill, as far as the disk can see.
struct Telling<T>(JoinHandle<T>);

impl<T> Drop for Telling<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn what_happens_is_told_in_order_and_again_until_it_is_taken() {
    let house = House::new().await;
    let (listener, port) = listener().await;
    let refusals = [
        Does::Answers(500),
        Does::Answers(404),
        Does::Answers(302),
        Does::Closes,
        Does::Hangs,
        Does::Answers(204),
        Does::Answers(503),
    ];
    let mut receiver = Receiver::new(listener, &refusals);
    let _telling = house.tells(port);
    let (first, second) = (house.holds().await, house.holds().await);
    let told = receiver.next().await;
    assert_eq!(told.body["type"], "migration.held");
    assert_eq!(told.body["data"]["sequence"], first);
    assert_eq!(told.body["data"]["command"], "rehull explain prod");
    assert!(told.id.starts_with(&format!("{first}-")) && told.id.ends_with("-cafebabe"));
    let now = house.now.load(Ordering::SeqCst) / 1_000;
    assert!((now - 16 * 60..=now).contains(&told.timestamp), "{told:?}");
    for _ in 0..5 {
        let again = receiver.next().await;
        assert_eq!((&again.id, &again.body), (&told.id, &told.body), "the same, however often");
    }
    let next = receiver.after(&told.id).await;
    assert_eq!(next.body["data"]["sequence"], second);
    house.until_kept(second).await;
}

#[tokio::test]
async fn a_receiver_that_is_away_misses_nothing_and_keeps_nobody_waiting() {
    let house = House::new().await;
    let (listener, port) = listener().await;
    drop(listener);
    let _telling = house.tells(port);
    let mut meant = Vec::new();
    for _ in 0..3 {
        // Commands are decided all the while.
        meant.push(house.holds().await);
    }
    let mut receiver = Receiver::new(TcpListener::bind(("127.0.0.1", port)).await.unwrap(), &[]);
    let mut last = String::new();
    for sequence in meant {
        let told = receiver.after(&last).await;
        assert_eq!(told.body["data"]["sequence"], sequence);
        last = told.id;
    }
}

#[tokio::test]
async fn a_death_between_delivery_and_cursor_delivers_again_under_the_same_id() {
    let house = House::new().await;
    let (listener, port) = listener().await;
    let mut receiver = Receiver::new(listener, &[Does::Hangs]);
    let telling = house.tells(port);
    let before = house.kept();
    let held = house.holds().await;
    let told = receiver.next().await; // read to its last byte, and not answered
    drop(telling);
    assert_eq!(house.kept(), before);

    let telling = house.tells(port);
    let again = receiver.next().await;
    assert_eq!((&again.id, &again.body), (&told.id, &told.body));
    house.until_kept(held).await;
    drop(telling);

    // What is known to be taken is not told again.
    let _telling = house.tells(port);
    let next = house.holds().await;
    let told = receiver.after(&again.id).await;
    assert_eq!(told.body["data"]["sequence"], next);
}

#[tokio::test]
async fn what_happened_while_nobody_told_is_told_from_the_log() {
    let house = House::new().await;
    house.cursor();
    let mut meant = Vec::new();
    for number in 0..1_500 {
        if number % 300 == 0 {
            meant.push(house.holds().await);
        }
        house.asks(Request::Pause { by: "ann".into() }).await;
        house.asks(Request::Resume { by: "ann".into() }).await;
    }
    // The process ends and another one opens the log.
    let before = house.handle.published().sequence;
    let House { handle, now, dir } = house;
    drop(handle);
    let house = House { handle: open(dir.path(), &now), now, dir };
    assert!(house.handle.published().sequence > before);

    let (listener, port) = listener().await;
    let mut receiver = Receiver::new(listener, &[]);
    let _telling = house.tells(port);
    let mut last = String::new();
    for sequence in &meant {
        let told = receiver.after(&last).await;
        assert_eq!(told.body["data"]["sequence"], *sequence);
        last = told.id;
    }
    house.until_kept(*meant.last().unwrap()).await;
}
