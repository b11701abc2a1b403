//! Approvals: for how long they hold, how they end, and which of them make no sense.

use std::sync::Arc;

use rehull::domain::{
    approval::Item,
    command::{Command, Request},
    gate::Gate,
    state::{BackupProof, Subject},
};
use rehull_shared::{
    evidence::Check,
    time::{Span, Timestamp},
};
use rehull_tests::story::{Story, WITH_CONTROL_PLANES, on, plan_with_control_planes, prod};

fn item() -> Item {
    let (identity, what) = ("PersistentVolume 1".to_owned(), "PersistentVolume a".to_owned());
    Item { check: Check::DataElsewhere, identity, what }
}

fn approve(story: &mut Story, subject: Subject, until: Timestamp) -> Result<(), String> {
    approve_with(story, subject, until, "")
}

fn approve_with(
    story: &mut Story,
    subject: Subject,
    until: Timestamp,
    typed: &str,
) -> Result<(), String> {
    let (items, why, by) = (vec![item()], "a cache".to_owned(), "ann".to_owned());
    let request = Request::Approve { subject, items, why, until, by, typed: typed.to_owned() };
    let answer = story.tries(Command::Of(prod(), request));
    answer.map(|_| ()).map_err(|refusal| refusal.to_string())
}

fn disapprove(story: &mut Story, subject: Subject) -> Result<Vec<&'static str>, String> {
    // Named twice, as a person may: it ends once.
    let (items, by, from) = (vec![item().id(), item().id()], "bob".to_owned(), story.log.len());
    let answer = story.tries(Command::Of(prod(), Request::Disapprove { subject, items, by }));
    answer.map(|_| story.names_since(from)).map_err(|refusal| refusal.to_string())
}

fn holds(story: &Story, subject: &Subject) -> bool {
    let migration = story.migration();
    migration.approval(subject, &item(), story.now).is_some_and(|approval| approval.by == "ann")
}

#[test]
fn an_approval_holds_until_its_time_and_its_end_is_an_event() {
    let mut story = Story::of(&["n1", "n2"]);
    let until = story.now + Span::from_mins(60);
    approve(&mut story, on("n2"), until).unwrap();
    assert!(holds(&story, &on("n2")) && !holds(&story, &on("n1")));
    story.waits(Span::from_mins(59));
    assert!(holds(&story, &on("n2")));
    story.now = until;
    assert!(!holds(&story, &on("n2")), "whether or not anybody has ticked");
    let from = story.log.len();
    story.waits(Span::from_secs(10));
    let ends = story.names_since(from).into_iter().filter(|name| *name == "ApprovalEnded");
    assert_eq!(ends.count(), 1, "once");
    // Accepted again, it holds again.
    let until = story.now + Span::from_mins(1);
    approve(&mut story, on("n2"), until).unwrap();
    assert!(holds(&story, &on("n2")));
}

#[test]
fn an_approval_of_the_cluster_is_one_of_each_of_its_nodes() {
    let mut story = Story::of(&["n1", "n2"]);
    let until = story.now + Span::from_mins(60);
    approve(&mut story, Subject::Cluster, until).unwrap();
    assert!(holds(&story, &on("n1")) && holds(&story, &Subject::Cluster));
    assert_eq!(disapprove(&mut story, Subject::Cluster), Ok(vec!["ApprovalEnded"]));
    assert!(!holds(&story, &on("n1")));
}

/// Numbers are short enough that somebody could search for one that another thing bears.
#[test]
fn something_else_of_the_same_number_is_not_accepted() {
    let mut story = Story::of(&["n1"]);
    let until = story.now + Span::from_mins(60);
    approve(&mut story, on("n1"), until).unwrap();
    let other = Item { identity: "PersistentVolume 2".to_owned(), ..item() };
    let migration = Arc::make_mut(story.fleet.migrations.get_mut(&prod()).expect("a migration"));
    let approvals = &mut migration.nodes[0].track.approvals;
    let approval = approvals[&item().id()].clone();
    approvals.insert(other.id(), approval);
    assert_eq!(story.migration().approval(&on("n1"), &other, story.now), None);
}

#[test]
fn approvals_that_make_no_sense_are_refused() {
    let mut story = Story::of(&["n1"]);
    let past = story.now;
    assert!(approve(&mut story, on("n1"), past).unwrap_err().contains("ended already"));
    let later = story.now + Span::from_mins(60);
    assert!(approve(&mut story, on("n9"), later).unwrap_err().contains("no node n9"));
    assert!(disapprove(&mut story, on("n1")).unwrap_err().contains("no approval of item"));
    approve(&mut story, on("n1"), later).unwrap();
    disapprove(&mut story, on("n1")).unwrap();
    assert!(disapprove(&mut story, on("n1")).unwrap_err().contains("no approval of item"));
    story.reaches("n1", Gate::Preflight);
    story.aborts(on("n1"));
    let later = story.now + Span::from_mins(60);
    assert!(approve(&mut story, on("n1"), later).unwrap_err().contains("it is over"));
}

#[test]
fn whoever_approves_something_of_the_first_control_plane_types_its_name() {
    let mut story = Story::with(plan_with_control_planes(), &WITH_CONTROL_PLANES);
    let until = story.now + Span::from_mins(60);
    for typed in ["", "m2", "M1", "m1 "] {
        let refused = approve_with(&mut story, on("m1"), until, typed).unwrap_err();
        assert!(refused.contains("its name must be typed for this: --typed m1"), "{refused}");
        assert!(!holds(&story, &on("m1")), "{typed:?}");
    }
    approve_with(&mut story, on("m1"), until, "m1").unwrap();
    assert!(holds(&story, &on("m1")), "ahead of its turn");
    for other in ["n1", "m2"] {
        approve(&mut story, on(other), until).unwrap();
    }
    approve(&mut story, Subject::Cluster, until).unwrap();
}

#[test]
fn a_proof_of_a_backup_counts_until_the_migration_is_over() {
    let mut story = Story::with(plan_with_control_planes(), &WITH_CONTROL_PLANES);
    let proof = BackupProof {
        backup: "prod/b".into(),
        snapshot_sha256: "ab".into(),
        objects: 90,
        nodes: 5,
    };
    let prove = || Request::ProveBackup { proof: proof.clone(), by: "ann".into() };
    assert_eq!(story.migration().proved, None);
    story.asks(prove());
    assert_eq!(story.migration().proved.as_ref().map(|(proof, _)| proof), Some(&proof));
    story.waits(Span::from_mins(60));
    assert!(story.migration().proved.is_some());
    story.aborts(Subject::Cluster);
    story.waits(Span::from_secs(10));
    let refused = story.tries(Command::Of(prod(), prove())).unwrap_err().to_string();
    assert!(refused.contains("nothing of it needs a proof"), "{refused}");
}
