//! The agent and a coordinator over real mTLS on the loopback.

#![expect(clippy::unwrap_used, reason = "a test stops where its ground is missing")]

mod coordinator;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use coordinator::{Coordinator, Link};
use rehull_agent::{
    config::{Log, Settings},
    host::directory::Directory,
};
use rehull_proto::v1::{
    BackUp, Collect, Farewell, Hello, OrderDone, StartApiServer, StopApiServer, ToAgent,
    from_agent::Message, order_done::Outcome, to_agent::Order,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

const NAME: &str = "rehull-coordinator";
const RETRY: Duration = Duration::from_millis(20);

/// A host with an agent on its disk, running or not.
struct Machine {
    dir: TempDir,
    settings: Settings,
    lines: Arc<Mutex<Vec<String>>>,
    agent: Option<JoinHandle<()>>,
}

impl Machine {
    fn new(coordinator: &Coordinator) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Directory::new(dir.path().join("host"));
        host.process(1, "/sbin/init", 0, false).unwrap();
        host.file("etc/machine-id", "m1").unwrap();
        host.file("proc/sys/kernel/random/boot_id", "b1").unwrap();
        fs::write(dir.path().join("token"), "secret\n").unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = lines.clone();
        let log: Log = Arc::new(move |line| written.lock().unwrap().push(line.to_owned()));
        let settings = Settings {
            coordinator: coordinator.address.to_string(),
            cluster: "prod".parse().unwrap(),
            node: "worker1".parse().unwrap(),
            ca: coordinator.ca_sha256.parse().unwrap(),
            token_file: dir.path().join("token"),
            state_dir: dir.path().join("state"),
            beat: Some(Duration::from_millis(50)),
            retry: RETRY,
            host: host.host(),
            clock: Arc::new(rehull_shared::time::now),
            log,
        };
        Self { dir, settings, lines, agent: None }
    }

    fn start(&mut self) {
        let run = rehull_agent::run(self.settings.clone(), std::future::pending());
        self.agent = Some(tokio::spawn(async { run.await.unwrap() }));
    }

    /// As `kill -9` does: whatever it was doing, it does no more.
    fn kill(&mut self) {
        self.agent.take().unwrap().abort();
    }

    fn token(&self) -> String {
        fs::read_to_string(self.dir.path().join("token")).unwrap()
    }

    fn credentials(&self) -> PathBuf {
        self.dir.path().join("state/credentials.json")
    }

    /// Waits for a line of the agent's log that contains `words`.
    async fn says(&self, words: &str) -> String {
        for _ in 0..400 {
            let lines = self.lines.lock().unwrap().clone();
            if let Some(line) = lines.iter().find(|line| line.contains(words)) {
                return line.clone();
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the agent never said {words:?}: {:#?}", self.lines.lock().unwrap());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(agent) = &self.agent {
            agent.abort();
        }
    }
}

async fn pair() -> (Coordinator, Machine) {
    let coordinator = Coordinator::start(NAME).await;
    let mut machine = Machine::new(&coordinator);
    machine.start();
    (coordinator, machine)
}

async fn hello(link: &mut Link) -> Hello {
    match link.next_of_all().await {
        Some(Message::Hello(hello)) => hello,
        other => panic!("not a hello: {other:?}"),
    }
}

fn collect(epoch: u64, nonce: &str) -> ToAgent {
    let collect = Collect { nonce: nonce.to_owned(), ..Collect::default() };
    ToAgent { epoch, generation: 1, order: Some(Order::Collect(collect)), ..ToAgent::default() }
}

fn farewell(epoch: u64, id: &str) -> ToAgent {
    let farewell = Farewell { id: id.to_owned() };
    ToAgent { epoch, generation: 1, order: Some(Order::Farewell(farewell)), ..ToAgent::default() }
}

async fn done(link: &mut Link) -> OrderDone {
    match link.next().await {
        Some(Message::Done(done)) => done,
        other => panic!("not done: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_is_exchanged_once_and_the_certificate_is_used_ever_after() {
    let (mut coordinator, mut machine) = pair().await;
    let mut link = coordinator.link().await;
    let hello = hello(&mut link).await;
    assert_eq!((hello.protocol, hello.epoch), (1, 0));
    assert_eq!(hello.identity.unwrap().machine_id, "m1");
    assert!(matches!(link.next_of_all().await, Some(Message::Beat(_))));
    assert_eq!(machine.token(), "", "a used token is of no use to anybody");
    let mode = fs::metadata(machine.credentials()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds the key");
    link.send(collect(1, "round 1")).await;
    let Some(Message::Report(report)) = link.next().await else { panic!("no report") };
    assert_eq!((report.nonce.as_str(), report.epoch), ("round 1", 1));
    machine.kill();
    machine.start();
    assert_eq!(coordinator.link().await.generation, 1);
    assert_eq!(coordinator.rules().requests.len(), 1, "enrolled once");
}

#[tokio::test]
async fn a_coordinator_of_another_ca_never_sees_the_token() {
    let coordinator = Coordinator::start(NAME).await;
    let mut machine = Machine::new(&coordinator);
    machine.settings.ca = "ab".repeat(32).parse().unwrap();
    machine.start();
    machine.says("UnknownIssuer").await;
    assert_eq!(coordinator.rules().requests.len(), 0);
    assert_eq!(machine.token(), "secret\n");
}

#[tokio::test]
async fn a_certificate_of_the_ca_for_another_name_is_no_coordinators() {
    let coordinator = Coordinator::start("worker2").await;
    let mut machine = Machine::new(&coordinator);
    machine.start();
    machine.says("not valid for name \"rehull-coordinator\"").await;
    assert_eq!(coordinator.rules().requests.len(), 0);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_request() {
    let coordinator = Coordinator::start(NAME).await;
    coordinator.rules().lose_answers = 2;
    let mut coordinator = coordinator;
    let mut machine = Machine::new(&coordinator);
    machine.start();
    machine.says("lost on the way").await;
    machine.kill(); // also across a restart
    machine.start();
    coordinator.link().await;
    let rules = coordinator.rules();
    let keys: Vec<_> = rules.requests.iter().map(|der| public_key(der)).collect();
    assert!(keys.len() >= 3 && keys.iter().all(|key| *key == keys[0]), "{}", keys.len());
}

fn public_key(request: &[u8]) -> Vec<u8> {
    let request = request.to_vec().into();
    let request = rcgen::CertificateSigningRequestParams::from_der(&request).unwrap();
    rcgen::PublicKeyData::der_bytes(&request.public_key).to_vec()
}

#[tokio::test]
async fn a_bad_token_is_tried_slowly_and_kept_and_a_good_one_is_noticed() {
    let coordinator = Coordinator::start(NAME).await;
    coordinator.rules().token = Some("better".to_owned());
    let mut coordinator = coordinator;
    let mut machine = Machine::new(&coordinator);
    machine.start();
    let line = machine.says("refused: the token is not good").await;
    let wait: f64 = line.rsplit(' ').nth(1).unwrap().parse().unwrap();
    assert!(wait >= 16.0 * RETRY.as_secs_f64() - 0.1, "not hammered: {line}");
    assert_eq!(machine.token(), "secret\n");
    fs::write(machine.dir.path().join("token"), "better").unwrap();
    coordinator.link().await;
}

#[tokio::test]
async fn an_agent_without_anything_waits_for_a_token() {
    let mut coordinator = Coordinator::start(NAME).await;
    let mut machine = Machine::new(&coordinator);
    fs::remove_file(machine.dir.path().join("token")).unwrap();
    machine.start();
    machine.says("no certificate, and no token in").await;
    fs::write(machine.dir.path().join("token"), "secret").unwrap();
    coordinator.link().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
    let coordinator = Coordinator::start(NAME).await;
    coordinator.rules().life = Duration::from_secs(3);
    let mut coordinator = coordinator;
    let mut machine = Machine::new(&coordinator);
    machine.start();
    let first = coordinator.link().await;
    coordinator.rules().life = Duration::from_secs(3600);
    machine.says("certificate renewed").await;
    {
        let rules = coordinator.rules();
        assert_eq!(rules.requests.len(), 2, "once for the token, once for a younger one");
        assert_ne!(public_key(&rules.requests[0]), public_key(&rules.requests[1]), "a new key");
    }
    machine.kill();
    machine.start();
    let second = coordinator.link().await;
    assert!(second.not_after > first.not_after + 3000, "the next link shows the younger one");
}

#[tokio::test]
async fn an_expired_certificate_is_named_and_a_new_token_helps() {
    let coordinator = Coordinator::start(NAME).await;
    {
        let mut rules = coordinator.rules();
        (rules.life, rules.age) = (Duration::from_secs(60), Duration::from_secs(3600));
    }
    let mut coordinator = coordinator;
    let mut machine = Machine::new(&coordinator);
    machine.start();
    machine.says("own certificate expired at").await;
    {
        let mut rules = coordinator.rules();
        (rules.age, rules.generation) = (Duration::ZERO, 2);
        rules.token = Some("secret2".to_owned());
    }
    fs::write(machine.dir.path().join("token"), "secret2").unwrap();
    assert_eq!(coordinator.link().await.generation, 2);
}

#[tokio::test]
async fn an_older_generation_is_turned_away_keeps_everything_and_says_why() {
    let (mut coordinator, machine) = pair().await;
    let link = coordinator.link().await;
    coordinator.rules().generation = 2;
    drop(link);
    machine.says("refused: a younger generation has enrolled").await;
    let opened = coordinator.rules().opened;
    tokio::time::sleep(RETRY * 16).await;
    assert!(coordinator.rules().opened <= opened + 2, "it keeps trying, but slowly");
    assert!(
        machine.credentials().exists() && machine.dir.path().join("state/journal.json").exists()
    );
    coordinator.rules().generation = 1;
    coordinator.link().await;
}

#[tokio::test]
async fn a_lost_stream_is_opened_again_ever_more_slowly() {
    let (mut coordinator, machine) = pair().await;
    for _ in 0..5 {
        let mut link = coordinator.link().await;
        hello(&mut link).await;
    }
    let waits: Vec<f64> = machine
        .lines
        .lock()
        .unwrap()
        .iter()
        .filter_map(|line| line.strip_suffix(" s")?.rsplit(' ').next()?.parse().ok())
        .collect();
    assert!(waits.len() >= 4 && waits[3] >= waits[0], "{waits:?}");
}

#[tokio::test]
async fn the_epoch_rules_across_links_and_restarts() {
    let (mut coordinator, mut machine) = pair().await;
    let mut link = coordinator.link().await;
    hello(&mut link).await;
    link.send(collect(7, "r")).await;
    assert!(matches!(link.next().await, Some(Message::Report(_))));
    machine.kill();
    machine.start();
    let mut link = coordinator.link().await;
    assert_eq!(hello(&mut link).await.epoch, 7);
    link.send(farewell(6, "old")).await;
    let answer = done(&mut link).await;
    assert_eq!(answer.outcome(), Outcome::Refused);
    assert_eq!(answer.seen, "the order is of epoch 6, epoch 7 rules");
    link.send(ToAgent { generation: 2, ..farewell(7, "other") }).await;
    assert_eq!(done(&mut link).await.outcome(), Outcome::Refused);
}

#[tokio::test]
async fn an_order_that_comes_again_after_a_restart_gets_the_same_answer() {
    let (mut coordinator, mut machine) = pair().await;
    let mut link = coordinator.link().await;
    hello(&mut link).await;
    link.send(farewell(1, "f1")).await;
    let first = done(&mut link).await;
    assert_eq!((first.outcome(), first.seen.as_str()), (Outcome::Done, "machine m1, boot b1"));
    machine.kill();
    fs::write(machine.dir.path().join("host/etc/machine-id"), "m2").unwrap();
    machine.start();
    let mut link = coordinator.link().await;
    hello(&mut link).await;
    link.send(farewell(1, "f1")).await;
    assert_eq!(done(&mut link).await, first);
}

#[tokio::test]
async fn an_oversized_message_costs_the_link_and_not_the_agent() {
    let (mut coordinator, machine) = pair().await;
    let mut link = coordinator.link().await;
    hello(&mut link).await;
    link.send(collect(1, &"x".repeat(300 * 1024))).await;
    while link.next_of_all().await.is_some() {}
    let line = machine.says("too large").await;
    assert!(line.contains("262144"), "{line}");
    let mut link = coordinator.link().await;
    hello(&mut link).await;
    link.send(collect(1, "small")).await;
    assert!(matches!(link.next().await, Some(Message::Report(_))));
}

#[tokio::test]
async fn a_flood_of_orders_is_answered_one_by_one_or_refused_but_never_kept() {
    let (mut coordinator, _machine) = pair().await;
    let mut link = coordinator.link().await;
    hello(&mut link).await;
    for n in 0..200 {
        link.send(collect(1, &format!("r{n}"))).await;
    }
    let (mut reports, mut refused) = (0, 0);
    for _ in 0..200 {
        match link.next().await {
            Some(Message::Report(_)) => reports += 1,
            Some(Message::Done(done)) => {
                assert_eq!(
                    (done.outcome(), done.seen.as_str()),
                    (Outcome::Refused, "8 orders are waiting")
                );
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(reports >= 8 && refused > 0, "{reports} reports, {refused} refused");
}

#[tokio::test]
async fn a_shutdown_is_a_clean_end() {
    let mut coordinator = Coordinator::start(NAME).await;
    let machine = Machine::new(&coordinator);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let agent = tokio::spawn(rehull_agent::run(machine.settings.clone(), async {
        let _ = stopped.await;
    }));
    let mut link = coordinator.link().await;
    stop.send(()).unwrap();
    agent.await.unwrap().unwrap();
    while link.next_of_all().await.is_some() {}
}

/// The kubelet is this test: it ends the API server when it is told to, and not before.
#[tokio::test]
async fn nothing_waits_for_an_api_server_that_is_being_stopped() {
    let (mut coordinator, machine) = pair().await;
    let host = Directory::new(machine.dir.path().join("host"));
    let manifest = "etc/kubernetes/manifests/kube-apiserver.yaml";
    host.process(40, "/usr/local/bin/kubelet", 400, false).unwrap();
    host.process(41, "/usr/local/bin/kube-apiserver", 410, true).unwrap();
    host.listeners(&[6443]).unwrap();
    host.file(manifest, "- --secure-port=6443\n").unwrap();
    let mut link = coordinator.link().await;
    hello(&mut link).await;
    let stop = |id: &str, patience_seconds| {
        let order = StopApiServer { id: id.to_owned(), patience_seconds };
        let order = Some(Order::StopApiServer(order));
        ToAgent { epoch: 1, generation: 1, order, ..ToAgent::default() }
    };
    link.send(stop("s1", 60)).await;
    link.send(collect(1, "meanwhile")).await;
    let Some(Message::Report(report)) = link.next().await else { panic!("no report") };
    assert_eq!(report.nonce, "meanwhile");
    assert!(!host.host().exists(manifest).unwrap(), "it was begun before");
    link.send(stop("s2", 60)).await;
    let second = done(&mut link).await;
    assert_eq!((second.id.as_str(), second.outcome()), ("s2", Outcome::Refused));
    assert!(second.seen.starts_with("another order that takes long"), "{}", second.seen);
    host.remove("proc/41").unwrap();
    host.listeners(&[]).unwrap();
    let first = done(&mut link).await;
    assert_eq!((first.id.as_str(), first.outcome()), ("s1", Outcome::Done), "{}", first.seen);
    link.send(stop("s1", 60)).await;
    assert_eq!(done(&mut link).await.outcome(), Outcome::Done, "again, as nothing is there");
    let start = Order::StartApiServer(StartApiServer { id: "s3".to_owned() });
    link.send(ToAgent { order: Some(start), ..stop("", 0) }).await;
    let started = done(&mut link).await;
    assert_eq!((started.id.as_str(), started.outcome()), ("s3", Outcome::Done));
    assert!(host.host().exists(manifest).unwrap());
}

/// More than waits for the network, so that the reading notices first that nobody takes it.
#[tokio::test]
async fn a_backup_that_the_coordinator_does_not_take_failed_for_the_reason_that_it_gives() {
    let (mut coordinator, machine) = pair().await;
    let host = Directory::new(machine.dir.path().join("host"));
    for name in ["a", "b", "c"] {
        host.file(&format!("etc/kubernetes/{name}"), "x".repeat(1024 * 1024)).unwrap();
    }
    let mut link = coordinator.link().await;
    hello(&mut link).await;
    let order = Some(Order::BackUp(BackUp { id: "b".to_owned() }));
    link.send(ToAgent { epoch: 1, generation: 1, order, ..ToAgent::default() }).await;
    let done = done(&mut link).await;
    assert_eq!(done.outcome(), Outcome::Failed);
    assert_eq!(done.seen, "the coordinator does not take it: nobody has ordered this backup");
}
