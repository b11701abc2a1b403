//! Backups and etcd at the doors: ordered by operators, sent by the agents that were asked, and by
//! nobody else.

use std::fs;

use rehull::backups::read_manifest;
use rehull_proto::v1::{
    BackupFile, BackupPart, BackupProgress, BackupReceived, BackupRequest, Etcd, EtcdMember,
    EtcdRequest, FromAgent, Hello, OrderDone, PlanRequest, Report, ToAgent,
    agent_link_client::AgentLinkClient,
    backup_part::Part,
    from_agent::Message,
    intent::{ProveBackup, Wish},
    order_done::Outcome,
    to_agent::Order,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::{
    house::{Coordinator, coordinator},
    operators::{DOCUMENT, intent, register, start},
};

/// The agent of worker1, linked.
struct Linked {
    client: AgentLinkClient<Channel>,
    answers: mpsc::Sender<FromAgent>,
    orders: Streaming<ToAgent>,
}

impl Linked {
    async fn new(coordinator: &Coordinator) -> Self {
        let enrolled = coordinator.enrol(&coordinator.token().await).await.unwrap();
        let mut client = coordinator.agent(&enrolled).await;
        let (answers, messages) = mpsc::channel(8);
        let hello = Message::Hello(Hello { protocol: 1, ..Hello::default() });
        answers.send(FromAgent { message: Some(hello) }).await.unwrap();
        let orders = client.open(ReceiverStream::new(messages)).await.unwrap().into_inner();
        while coordinator.agents.connected().is_empty() {
            tokio::task::yield_now().await;
        }
        Self { client, answers, orders }
    }

    async fn ordered(&mut self) -> Order {
        self.orders.message().await.unwrap().unwrap().order.unwrap()
    }

    async fn send(&mut self, parts: Vec<Part>) -> Result<BackupReceived, Status> {
        let parts = parts.into_iter().map(|part| BackupPart { part: Some(part) });
        let stream = tokio_stream::iter(parts.collect::<Vec<_>>());
        let mut answers = self.client.send_backup(stream).await?.into_inner();
        Ok(answers.message().await?.unwrap())
    }

    async fn say(&self, message: Message) {
        self.answers.send(FromAgent { message: Some(message) }).await.unwrap();
    }

    /// Sends these parts in answer to the next order, and says what came of it.
    async fn obey(&mut self, parts: Vec<Part>) -> Result<BackupReceived, Status> {
        self.obey_and_say(parts, |status| status.message().to_owned()).await
    }

    /// The same, with words of its own for what went wrong.
    async fn obey_and_say(
        &mut self,
        parts: Vec<Part>,
        words: impl FnOnce(&Status) -> String,
    ) -> Result<BackupReceived, Status> {
        let Order::BackUp(order) = self.ordered().await else { panic!("another order") };
        let id = order.id.clone();
        let sent = self.send([vec![Part::Id(order.id)], parts].concat()).await;
        let (outcome, seen) = match &sent {
            Ok(_) => (Outcome::Done, "sent".to_owned()),
            Err(status) => (Outcome::Failed, words(status)),
        };
        let outcome = outcome.into();
        self.say(Message::Done(OrderDone { id, outcome, seen, ..OrderDone::default() })).await;
        sent
    }
}

/// What a control plane sends.
fn whole() -> Vec<Part> {
    let file = |path: &str| Part::File(BackupFile { path: path.to_owned(), mode: 0o600 });
    let mut store = vec![7; 1024];
    let hash = Sha256::digest(&store);
    store.extend_from_slice(&hash);
    vec![
        file("/etc/kubernetes/ssl/ca.key"),
        Part::Content(b"a secret of the cluster".to_vec()),
        file("etcd.db"),
        Part::Content(store),
        Part::End(true),
    ]
}

async fn taken(coordinator: &Coordinator) -> Result<Vec<BackupProgress>, Status> {
    let request = BackupRequest { cluster: "prod".to_owned(), node: "worker1".to_owned() };
    let mut news = coordinator.operator().await.take_backup(request).await?.into_inner();
    let mut all = Vec::new();
    while let Some(progress) = news.message().await? {
        all.push(progress);
    }
    Ok(all)
}

#[tokio::test]
async fn a_backup_that_was_ordered_comes_in_and_its_name_is_told() {
    let coordinator = coordinator().await;
    let mut agent = Linked::new(&coordinator).await;
    let (told, sent) = tokio::join!(taken(&coordinator), agent.obey(whole()));
    assert_eq!(sent.unwrap().files, 2);
    let told = told.unwrap();
    let last = told.last().unwrap();
    assert_eq!((last.node.as_str(), last.files), ("worker1", 2));
    let dir = coordinator.dir.path().join("backups").join(&last.name);
    let names: Vec<_> = fs::read_dir(dir).unwrap().collect();
    assert_eq!(names.len(), 3, "two files and the manifest");
}

#[tokio::test]
async fn a_backup_that_breaks_off_is_told_and_leaves_nothing() {
    let coordinator = coordinator().await;
    let mut agent = Linked::new(&coordinator).await;
    let mut parts = whole();
    parts.pop();
    let (told, sent) = tokio::join!(taken(&coordinator), agent.obey(parts));
    assert!(sent.is_err());
    let why = told.unwrap_err();
    assert!(why.code() == Code::Aborted && why.message().contains("cut off"), "{why}");
    let left = fs::read_dir(coordinator.dir.path().join("backups/prod")).unwrap().count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_backup_that_fails_is_told_in_the_words_of_both_sides() {
    let coordinator = coordinator().await;
    let mut agent = Linked::new(&coordinator).await;
    let in_the_way = coordinator.dir.path().join("backups");
    fs::write(&in_the_way, "").unwrap();
    let (told, _) = tokio::join!(
        taken(&coordinator),
        agent.obey_and_say(whole(), |_| "the coordinator does not take it".to_owned())
    );
    let why = told.unwrap_err().message().to_owned();
    let (begin, end) = why.split_once("; the coordinator says: ").expect(&why);
    assert_eq!(begin, "worker1: the coordinator does not take it");
    assert!(end.contains("backups/prod: "), "{why}");
    let (told, _) = tokio::join!(taken(&coordinator), agent.obey(whole()));
    let why = told.unwrap_err().message().to_owned();
    assert_eq!(why, format!("worker1: {end}"), "what both say is said once");
}

#[tokio::test]
async fn what_nobody_has_ordered_is_not_taken() {
    let coordinator = coordinator().await;
    let mut agent = Linked::new(&coordinator).await;
    let id = Part::Id("backup/of-my-own".to_owned());
    let refused = agent.send([vec![id], whole()].concat()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let refused = agent.send(whole()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let stranger = coordinator.dial(None).await.unwrap();
    let stream = tokio_stream::iter(Vec::<BackupPart>::new());
    let refused = AgentLinkClient::new(stranger).send_backup(stream).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    assert!(!coordinator.dir.path().join("backups").exists());
}

/// What one of two members says, of which the other is silent.
fn half() -> Etcd {
    let member = |id| EtcdMember { id, name: "e".to_owned(), ..EtcdMember::default() };
    let members = vec![member(7), member(8)];
    Etcd { member_id: 7, leader: 7, revision: 90, members, ..Etcd::default() }
}

#[tokio::test]
async fn a_plan_warns_of_an_etcd_that_is_not_well() {
    let coordinator = coordinator().await;
    register(&coordinator);
    let mut agent = Linked::new(&coordinator).await;
    tokio::spawn(async move {
        while let Ok(Some(ToAgent { order: Some(Order::Collect(asked)), .. })) =
            agent.orders.message().await
        {
            let etcd = asked.etcd.then(half);
            let report = Report { nonce: asked.nonce, etcd, ..Report::default() };
            agent.say(Message::Report(report)).await;
        }
    });
    let request = PlanRequest { document: DOCUMENT.to_owned() };
    let plan = coordinator.operator().await.plan(request).await.unwrap().into_inner();
    let words = "etcd is not healthy: nobody speaks for member 8 ()";
    assert!(plan.warnings.iter().any(|warning| warning == words), "{:?}", plan.warnings);
}

#[tokio::test]
async fn etcd_is_asked_twice_through_its_agents_and_judged() {
    let coordinator = coordinator().await;
    let mut operator = coordinator.operator().await;
    let request = || EtcdRequest { cluster: "prod".to_owned() };
    let refused = operator.etcd(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let mut agent = Linked::new(&coordinator).await;
    let etcd = half();
    let answers = async {
        let mut revisions = Vec::new();
        for _ in 0..2 {
            let Order::Collect(asked) = agent.ordered().await else { panic!("another order") };
            assert!(asked.etcd);
            revisions.push(asked.etcd_hash_revision);
            let (nonce, etcd) = (asked.nonce, Some(etcd.clone()));
            agent.say(Message::Report(Report { nonce, etcd, ..Report::default() })).await;
        }
        revisions
    };
    let (health, revisions) = tokio::join!(operator.etcd(request()), answers);
    assert_eq!(revisions, [0, 90]);
    let health = health.unwrap().into_inner();
    assert_eq!((health.voters, health.tolerance), (2, 0));
    assert_eq!(health.problems, ["nobody speaks for member 8 ()"]);
}

#[tokio::test]
async fn a_proof_is_recorded_only_of_a_backup_of_the_cluster_that_is_kept() {
    let coordinator = coordinator().await;
    register(&coordinator);
    let mut agent = Linked::new(&coordinator).await;
    let (told, _) = tokio::join!(taken(&coordinator), agent.obey(whole()));
    let name = told.unwrap().pop().unwrap().name;
    let manifest = read_manifest(&coordinator.dir.path().join("backups").join(&name)).unwrap();
    let hash = manifest.files.iter().find(|file| file.path == "etcd.db").unwrap().sha256.clone();
    let mut operator = coordinator.operator().await;
    let mut prove = async |snapshot_sha256: &str, objects| {
        let snapshot_sha256 = snapshot_sha256.to_owned();
        let wish = Wish::ProveBackup(ProveBackup { snapshot_sha256, objects, nodes: 3 });
        operator.submit(intent(wish)).await.map(|receipt| receipt.into_inner().said)
    };
    let refused = prove(&hash, 9).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "no migration runs: {refused}");
    coordinator.operator().await.start(start()).await.unwrap();
    for (hash, objects, code) in
        [(&"0".repeat(64), 9, Code::NotFound), (&hash, 0, Code::InvalidArgument)]
    {
        let refused = prove(hash, objects).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    let said = prove(&hash, 9).await.unwrap();
    assert!(said.starts_with(&format!("{name} is proved, and that is recorded")), "{said}");
}
