//! What is answered of changes that an etcd does, does not, or does otherwise.

use rehull_proto::v1::order_done::Outcome::{Done, Failed, Refused};
use tempfile::TempDir;
use tonic::Status;

use super::*;
use crate::{
    etcd::testing::{FakeEtcd, OLD, OWN, THIRD, url},
    host::directory::Directory,
};

/// A host, and its etcd.
struct Story {
    dir: TempDir,
    etcd: FakeEtcd,
}

impl Story {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let etcd = FakeEtcd::start(&Directory::new(dir.path())).await;
        Self { dir, etcd }
    }

    fn host(&self) -> Host {
        Host::at(self.dir.path())
    }

    async fn move_to(&self, to: u64) -> Answer {
        move_leader(&self.host(), &MoveLeader { id: "m".to_owned(), to }).await
    }

    async fn remove(&self, member_id: u64, peer_url: &str) -> Answer {
        let peer_url = peer_url.to_owned();
        remove_member(&self.host(), &RemoveMember { id: "r".to_owned(), member_id, peer_url }).await
    }
}

#[track_caller]
fn is(answer: &Answer, outcome: Outcome, seen: &str) {
    assert_eq!((answer.outcome, answer.seen.as_str()), (outcome, seen));
}

#[tokio::test]
async fn the_leadership_is_handed_on_and_the_new_leader_is_seen() {
    let story = Story::new().await;
    is(&story.move_to(OLD).await, Done, "the leader was a1, now it is b2");
    is(&story.move_to(OLD).await, Done, "member a1 does not lead: b2 does");
    assert_eq!(story.etcd.asked(), ["move to b2"], "who does not lead is not asked");
}

#[tokio::test]
async fn a_leader_that_stays_is_a_failure_whatever_etcd_answers() {
    let story = Story::new().await;
    story.etcd.set(|store| store.on_move = |_, _| Ok(()));
    is(&story.move_to(OLD).await, Failed, "a1 leads still, b2 was to");
    story.etcd.set(|store| store.on_move = |_, _| Err(Status::internal("no such voter")));
    let seen = "a1 leads still, b2 was to; etcd answered Maintenance/MoveLeader: no such voter";
    is(&story.move_to(OLD).await, Failed, seen);
    story.etcd.set(|store| {
        store.on_move = |store, _| {
            store.leader = 0;
            Ok(())
        };
    });
    is(&story.move_to(OLD).await, Failed, "the leader was a1, now none is known");
    is(&story.move_to(OLD).await, Refused, "member a1 knows no leader now");
}

#[tokio::test]
async fn a_complaint_does_not_hide_that_another_one_leads() {
    let story = Story::new().await;
    story.etcd.set(|store| {
        store.on_move = |store, _| {
            store.leader = THIRD;
            Err(Status::unavailable("timed out"))
        };
    });
    let seen = "the leader was a1, now it is c3; etcd answered Maintenance/MoveLeader: timed out";
    is(&story.move_to(OLD).await, Done, seen);
}

#[tokio::test]
async fn nothing_is_asked_of_an_etcd_for_nonsense_or_without_an_answer() {
    let story = Story::new().await;
    let own = story.move_to(OWN).await;
    is(&own, Refused, "member a1 is to hand the leadership to itself");
    let words = "the order does not say which member: an id and a peer URL";
    for (id, url) in [(0, url(OLD)), (OLD, String::new()), (OLD, "x".repeat(201))] {
        is(&story.remove(id, &url).await, Refused, words);
    }
    assert_eq!(story.etcd.asked(), Vec::<String>::new());
    story.etcd.stop();
    for answer in [story.move_to(OLD).await, story.remove(OLD, &url(OLD)).await] {
        assert_eq!(answer.outcome, Refused);
        assert!(answer.seen.starts_with("etcd of this host: 127.0.0.1:"), "{}", answer.seen);
    }
}

#[tokio::test]
async fn a_member_goes_and_no_other() {
    let story = Story::new().await;
    let seen = "b2 with https://10.0.0.2:2380 is gone; members were a1 b2 c3, now a1 c3";
    is(&story.remove(OLD, &url(OLD)).await, Done, seen);
    let again = story.remove(OLD, &url(OLD)).await;
    is(&again, Done, "b2 with https://10.0.0.2:2380 is no member any more");
    assert_eq!(story.etcd.asked(), ["remove b2"]);
}

#[tokio::test]
async fn id_and_peer_url_must_be_of_one_member_and_not_of_this_hosts() {
    let story = Story::new().await;
    let (own, old, third) = (url(OWN), url(OLD), url(THIRD));
    let cases = [
        (
            OLD,
            third.as_str(),
            "member b2 has the peer URL https://10.0.0.2:2380, member c3 has the peer URL https://10.0.0.3:2380",
        ),
        (
            OLD,
            "https://10.0.0.2:2380/",
            "member b2 has the peer URL https://10.0.0.2:2380, none has https://10.0.0.2:2380/",
        ),
        (
            0xd4,
            old.as_str(),
            "no member d4 is there, member b2 has the peer URL https://10.0.0.2:2380",
        ),
        (
            OWN,
            old.as_str(),
            "member a1 has the peer URL https://10.0.0.1:2380, member b2 has the peer URL https://10.0.0.2:2380",
        ),
    ];
    for (id, url, words) in cases {
        let seen = format!("not one and the same member: {words}");
        is(&story.remove(id, url).await, Refused, &seen);
    }
    let seen = "member a1 is that of this host, which another one has to remove";
    is(&story.remove(OWN, &own).await, Refused, seen);
    assert_eq!(story.etcd.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_removal_that_did_not_happen_or_did_more_is_a_failure() {
    let story = Story::new().await;
    story.etcd.set(|store| store.on_removal = |_, _| Ok(()));
    let still =
        "b2 with https://10.0.0.2:2380 is a member still; members were a1 b2 c3, now a1 b2 c3";
    is(&story.remove(OLD, &url(OLD)).await, Failed, still);
    story.etcd.set(|store| store.on_removal = |_, _| Err(Status::unavailable("unhealthy cluster")));
    let seen = format!("{still}; etcd answered Cluster/MemberRemove: unhealthy cluster");
    is(&story.remove(OLD, &url(OLD)).await, Failed, &seen);
    story.etcd.set(|store| {
        store.on_removal = |store, _| {
            store.members = vec![OWN];
            Ok(())
        };
    });
    let seen = "b2 with https://10.0.0.2:2380 is gone, but that is not all; \
                members were a1 b2 c3, now a1";
    is(&story.remove(OLD, &url(OLD)).await, Failed, seen);
}
