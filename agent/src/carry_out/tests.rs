//! Fencing, repetition and farewell.

use std::sync::Arc;

use rehull_proto::v1::Collect;
use tempfile::TempDir;

use super::*;
use crate::{
    etcd::testing::{FakeEtcd, OLD, OWN, THIRD, url},
    host::directory::Directory,
};

struct Story {
    _dir: TempDir,
    host: Directory,
    settings: Settings,
    journal: Journal,
}

/// A link that leads nowhere.
fn nowhere() -> Channel {
    tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy()
}

impl Story {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Directory::new(dir.path().join("host"));
        host.process(50, "/usr/local/bin/kube-proxy", 500, true).unwrap();
        host.listeners(&[]).unwrap();
        host.file("etc/machine-id", "m1").unwrap();
        host.file("proc/sys/kernel/random/boot_id", "b1").unwrap();
        let settings = Settings {
            coordinator: "127.0.0.1:1".to_owned(),
            cluster: "c".parse().unwrap(),
            node: "n".parse().unwrap(),
            ca: "0".repeat(64).parse().unwrap(),
            token_file: dir.path().join("token"),
            state_dir: dir.path().join("state"),
            beat: None,
            retry: std::time::Duration::from_secs(1),
            host: host.host(),
            clock: Arc::new(|| rehull_shared::time::Timestamp::from_millis(0)),
            log: Arc::new(|_| ()),
        };
        let mut journal = Journal::open(&settings.state_dir).unwrap();
        journal.enter(1).unwrap();
        Self { _dir: dir, host, settings, journal }
    }

    async fn order(&mut self, epoch: u64, generation: u64, order: Order) -> Message {
        let order = ToAgent { epoch, generation, order: Some(order), ..ToAgent::default() };
        carry_out(&self.settings, &mut self.journal, order).await.message.unwrap()
    }

    async fn done(&mut self, epoch: u64, generation: u64, order: Order) -> OrderDone {
        match self.order(epoch, generation, order).await {
            Message::Done(done) => done,
            other => panic!("{other:?}"),
        }
    }

    fn kill(&self, id: &str) -> Order {
        let processes = checks::leftovers(&self.host.host()).unwrap_or_default().0;
        Order::KillLeftovers(KillLeftovers { id: id.to_owned(), processes, grace_seconds: 0 })
    }

    fn runs(&self) -> bool {
        self.host.host().exists("/proc/50").unwrap()
    }
}

#[tokio::test]
async fn an_order_of_an_older_epoch_or_another_generation_does_nothing() {
    let mut story = Story::new();
    let collect = Order::Collect(Collect { nonce: "r1".to_owned(), ..Collect::default() });
    assert!(matches!(story.order(5, 1, collect.clone()).await, Message::Report(_)));
    for (epoch, generation) in [(4, 1), (5, 0), (5, 2)] {
        let done = story.done(epoch, generation, story.kill("k")).await;
        assert_eq!(done.outcome(), Outcome::Refused, "{done:?}");
        assert_eq!((done.id.as_str(), done.epoch), ("k", epoch));
        let done = story.done(epoch, generation, collect.clone()).await;
        assert_eq!(done.id, "r1", "a refused question is answered by its nonce");
    }
    assert!(story.runs());
    assert_eq!(story.done(5, 1, story.kill("k")).await.outcome(), Outcome::Done);
    assert!(!story.runs());
}

#[tokio::test]
async fn a_repeated_order_repeats_its_answer_and_does_nothing_also_after_a_restart() {
    let mut story = Story::new();
    let kill = story.kill("k1");
    let first = story.done(1, 1, kill.clone()).await;
    assert_eq!(first.outcome(), Outcome::Done);
    story.host.process(50, "/usr/local/bin/kube-proxy", 500, true).unwrap(); // the same again
    story.journal = Journal::open(&story.settings.state_dir).unwrap();
    let again = story.done(2, 1, kill.clone()).await;
    assert_eq!(again, OrderDone { epoch: 2, ..first });
    assert!(story.runs(), "nothing was done the second time");
    story.journal.enter(2).unwrap();
    assert_eq!(story.done(2, 2, kill).await.outcome(), Outcome::Done);
    assert!(!story.runs(), "ids belong to one generation");
}

#[tokio::test]
async fn a_refused_order_may_be_tried_again() {
    let mut story = Story::new();
    let kill = story.kill("k1");
    story.host.process(70, "/usr/local/bin/kubelet", 700, false).unwrap();
    assert_eq!(story.done(1, 1, kill.clone()).await.outcome(), Outcome::Refused);
    story.host.remove("proc/70").unwrap();
    assert_eq!(story.done(1, 1, kill).await.outcome(), Outcome::Done);
}

#[tokio::test]
async fn a_farewell_names_the_installation_that_ends() {
    let mut story = Story::new();
    let farewell = Order::Farewell(Farewell { id: "f".to_owned() });
    let done = story.done(1, 1, farewell.clone()).await;
    assert_eq!((done.outcome(), done.seen.as_str()), (Outcome::Done, "machine m1, boot b1"));
    story.host.remove("etc/machine-id").unwrap();
    assert_eq!(story.done(1, 1, farewell).await.outcome(), Outcome::Done, "it was said");
    let other = Order::Farewell(Farewell { id: "g".to_owned() });
    let done = story.done(1, 1, other).await;
    assert_eq!(done.outcome(), Outcome::Refused);
    assert!(done.seen.contains("/etc/machine-id"), "{}", done.seen);
}

#[tokio::test]
async fn what_is_not_on_the_list_is_refused() {
    let mut story = Story::new();
    let order = ToAgent { epoch: 1, generation: 1, order: None, ..ToAgent::default() };
    let answer = carry_out(&story.settings, &mut story.journal, order).await.message;
    let Some(Message::Done(done)) = answer else { panic!("{answer:?}") };
    assert_eq!((done.outcome(), done.id.as_str()), (Outcome::Refused, ""));
    let nameless = story.done(1, 1, story.kill("")).await;
    assert_eq!(nameless.outcome(), Outcome::Refused);
    assert!(story.runs());
}

#[tokio::test]
async fn a_backup_needs_the_right_epoch_and_answers_when_it_is_over() {
    let mut story = Story::new();
    let order = |epoch, order| ToAgent { epoch, generation: 1, order, ..ToAgent::default() };
    let back_up = || Some(Order::BackUp(BackUp { id: "b".to_owned() }));
    story.done(5, 1, story.kill("k")).await;
    let nameless = Some(Order::BackUp(BackUp::default()));
    let short = Some(story.kill("k2"));
    for refused in [order(4, back_up()), order(5, None), order(5, nameless), order(5, short)] {
        assert!(begun(&mut story, &refused).is_err());
    }
    let Ok(work) = begun(&mut story, &order(5, back_up())) else { panic!("refused") };
    let Some(Message::Done(done)) = work.await.message else { panic!("no answer") };
    assert_eq!((done.id.as_str(), done.outcome()), ("b", Outcome::Failed));
    assert_eq!(done.seen, "this host has no files of a control plane");
}

fn begun(
    story: &mut Story,
    order: &ToAgent,
) -> Result<impl Future<Output = FromAgent> + Send + use<>, String> {
    begin(&story.settings, &mut story.journal, nowhere(), order)
}

/// The four orders of a control plane, as the coordinator gives them.
fn control_plane() -> [Order; 4] {
    [
        Order::MoveLeader(MoveLeader { id: "m".to_owned(), to: OLD }),
        Order::RemoveMember(RemoveMember {
            id: "r".to_owned(),
            member_id: OLD,
            peer_url: url(OLD),
        }),
        Order::StopApiServer(StopApiServer { id: "p".to_owned(), patience_seconds: 0 }),
        Order::StartApiServer(StartApiServer { id: "s".to_owned() }),
    ]
}

/// The answer, whether or not the order takes long.
async fn either(story: &mut Story, epoch: u64, order: Order) -> OrderDone {
    let order = ToAgent { epoch, generation: 1, order: Some(order), ..ToAgent::default() };
    let answer = match takes_long(&order) {
        true => match begun(story, &order) {
            Ok(work) => work.await,
            Err(why) => refuse(&order, why),
        },
        false => carry_out(&story.settings, &mut story.journal, order).await,
    };
    let Some(Message::Done(done)) = answer.message else { panic!("{answer:?}") };
    done
}

#[tokio::test]
async fn orders_of_a_control_plane_are_fenced_like_all_others() {
    let mut story = Story::new();
    let etcd = FakeEtcd::start(&story.host).await;
    let manifest = "etc/kubernetes/manifests/kube-apiserver.yaml";
    story.host.process(70, "/usr/local/bin/kubelet", 700, false).unwrap();
    story.done(5, 1, story.kill("k")).await;
    for order in control_plane() {
        let done = either(&mut story, 4, order.clone()).await;
        assert_eq!(done.seen, "the order is of epoch 4, epoch 5 rules", "{order:?}");
        assert_eq!((done.outcome(), done.id.len()), (Outcome::Refused, 1));
    }
    assert!(story.settings.host.exists(manifest).unwrap() && etcd.asked().is_empty());
    for order in control_plane() {
        let done = either(&mut story, 5, order).await;
        assert_eq!(done.outcome(), Outcome::Done, "{}", done.seen);
    }
}

/// Where the manifest lies is what counts, not what was answered when it lay elsewhere.
#[tokio::test]
async fn a_stop_and_a_start_are_carried_out_as_often_as_they_come() {
    let mut story = Story::new();
    let manifest = "etc/kubernetes/manifests/kube-apiserver.yaml";
    story.host.process(70, "/usr/local/bin/kubelet", 700, false).unwrap();
    let [_, _, stop, start] = control_plane();
    assert_eq!(either(&mut story, 1, start.clone()).await.outcome(), Outcome::Failed);
    story.host.file(manifest, "").unwrap();
    for _ in 0..2 {
        assert_eq!(either(&mut story, 1, stop.clone()).await.outcome(), Outcome::Done);
        assert!(!story.settings.host.exists(manifest).unwrap());
        assert_eq!(either(&mut story, 1, start.clone()).await.outcome(), Outcome::Done);
        assert!(story.settings.host.exists(manifest).unwrap());
    }
    assert!(story.journal.answer("s").is_none() && story.journal.answer("p").is_none());
}

/// Who spawns the rest of a stop may come to the start before that runs.
#[tokio::test]
async fn a_start_right_behind_a_stop_ends_with_the_manifest_in_place() {
    let mut story = Story::new();
    let manifest = "etc/kubernetes/manifests/kube-apiserver.yaml";
    story.host.process(70, "/usr/local/bin/kubelet", 700, false).unwrap();
    story.host.file(manifest, "").unwrap();
    let [_, _, stop, start] = control_plane();
    let order = ToAgent { epoch: 1, generation: 1, order: Some(stop), ..ToAgent::default() };
    let Ok(rest) = begun(&mut story, &order) else { panic!("refused") };
    assert!(!story.settings.host.exists(manifest).unwrap(), "it is laid aside already");
    let started = story.done(1, 1, start).await;
    assert!(started.seen.ends_with("is in place again"), "{}", started.seen);
    let Some(Message::Done(stopped)) = rest.await.message else { panic!("no answer") };
    assert!(stopped.seen.ends_with("is in place again"), "{}", stopped.seen);
    assert!(story.settings.host.exists(manifest).unwrap());
}

#[tokio::test]
async fn an_order_for_etcd_that_was_answered_before_asks_nobody() {
    let mut story = Story::new();
    let etcd = FakeEtcd::start(&story.host).await;
    let [move_leader, remove_member, ..] = control_plane();
    for order in [move_leader, remove_member] {
        let first = either(&mut story, 1, order.clone()).await;
        assert_eq!(first.outcome(), Outcome::Done, "{}", first.seen);
        story.journal = Journal::open(&story.settings.state_dir).unwrap();
        etcd.set(|store| (store.leader, store.members) = (OWN, vec![OWN, OLD, THIRD]));
        assert_eq!(either(&mut story, 1, order).await, first);
    }
    assert_eq!(etcd.asked(), ["move to b2", "remove b2"]);
    etcd.stop();
    let order = Order::MoveLeader(MoveLeader { id: "m2".to_owned(), to: OLD });
    assert_eq!(either(&mut story, 1, order).await.outcome(), Outcome::Refused);
    assert!(story.journal.answer("m2").is_none(), "nothing was done");
}
