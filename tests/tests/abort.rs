//! Giving up before the point of no return: what goes back, how it ends, and what is refused.

use rehull::domain::{
    command::{Command, Request},
    effect::{Work, due},
    gate::Gate,
    state::{Phase, Step, Subject},
};
use rehull_shared::{evidence::Verdict, time::Span};
use rehull_tests::story::{Story, node, on, plan, prod};

fn refusal(story: &mut Story, subject: Subject) -> String {
    let by = "ann".to_owned();
    let refused = story.tries(Command::Of(prod(), Request::Abort { subject, by }));
    refused.expect_err("it must be refused").to_string()
}

fn due_of(story: &Story) -> Vec<Work> {
    due(&story.fleet).into_iter().map(|effect| effect.work).collect()
}

#[test]
fn a_node_that_was_touched_goes_back_on_evidence_and_the_others_go_on() {
    let mut story = Story::of(&["n1", "n2"]);
    story.reaches("n1", Gate::Drain);
    story.aborts(on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Abort));
    assert!(due_of(&story).contains(&Work::Uncordon { node: node("n1") }));
    assert!(!due_of(&story).contains(&Work::Drain { node: node("n1") }), "no pod is evicted");
    story.passes(&on("n1"));
    assert_eq!(*story.phase(&on("n1")), Phase::Aborted);
    story.reaches("n2", Gate::Soak);
    story.passes(&on("n2"));
    story.passes(&Subject::Cluster);
    assert_eq!(*story.phase(&Subject::Cluster), Phase::Done, "it has ended without n1");
    story.keeps_the_invariants();
}

#[test]
fn a_cordon_that_was_still_on_its_way_is_seen() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Cordon);
    story.aborts(on("n1"));
    for late in [false, true] {
        let verdict = if late { Verdict::fail("cordoned") } else { Verdict::pass("schedulable") };
        let answers = story.answers_to(&on("n1"), &Gate::Abort.needs()[0], verdict);
        story.hears(&on("n1"), answers);
        assert_eq!(story.gate(&on("n1")), Some(Gate::Abort), "one look is not enough");
        story.now = story.now + Span::from_secs(25);
    }
    story.passes(&on("n1"));
}

#[test]
fn what_was_never_touched_ends_at_once() {
    let mut story = Story::of(&["n1", "n2"]);
    story.reaches("n1", Gate::Preflight);
    story.aborts(on("n2"));
    assert_eq!(*story.phase(&on("n2")), Phase::Aborted, "its turn had not come");
    story.aborts(on("n1"));
    assert_eq!(*story.phase(&on("n1")), Phase::Aborted, "nothing was recorded, so nothing touched");
}

#[test]
fn when_the_canary_is_given_up_the_next_one_is_the_canary() {
    let mut story = Story::of(&["n1", "n2", "n3"]);
    story.reaches("n1", Gate::Preflight);
    story.aborts(on("n1"));
    let migration = story.migration();
    let canaries: Vec<bool> =
        migration.nodes.iter().map(|node| migration.is_canary(node)).collect();
    assert_eq!(canaries, [false, true, false]);
    assert!(story.migration().bench(&on("n2")).watched, "and is watched as long");
}

#[test]
fn a_held_node_can_be_given_up_and_even_a_pause_does_not_keep_it() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Drain);
    story.waits(Span::from_mins(61));
    assert!(matches!(story.phase(&on("n1")), Phase::Held { .. }));
    story.asks(Request::Pause { by: "ann".into() });
    story.aborts(on("n1"));
    assert_eq!(story.aborts(on("n1")), [], "twice is once");
    story.passes(&on("n1"));
    assert_eq!(*story.phase(&on("n1")), Phase::Aborted);
    let why = refusal(&mut story, on("n1"));
    assert!(why.contains("n1 is aborted: it is over"), "{why}");
}

#[test]
fn a_node_that_cannot_be_put_back_is_held_there_and_asked_again() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Drain);
    story.aborts(on("n1"));
    story.waits(Span::from_mins(16));
    let resume = Step::Ask(Gate::Abort);
    assert!(matches!(story.phase(&on("n1")), Phase::Held { resume: now, .. } if *now == resume));
    story.asks(Request::Retry { subject: on("n1"), resubmit: false, by: "ann".into() });
    story.passes(&on("n1"));
}

#[test]
fn nothing_is_given_up_behind_the_point_of_no_return() {
    let mut story = Story::of(&["n1", "n2"]);
    story.reaches("n1", Gate::Removal);
    for subject in [on("n1"), Subject::Cluster] {
        let before = story.fleet.clone();
        let why = refusal(&mut story, subject);
        for word in ["n1 is past the point of no return", "rehull migrate pause prod"] {
            assert!(why.contains(word), "{why}");
        }
        assert_eq!(story.fleet, before);
    }
    story.aborts(on("n2"));
    story.reaches("n1", Gate::Soak);
    story.passes(&on("n1"));
    story.passes(&Subject::Cluster);
    assert!(story.migration().is_finished(), "whoever is past it goes on to the end");
}

#[test]
fn a_whole_migration_goes_back_and_another_may_start() {
    let mut story = Story::of(&["n1", "n2", "n3"]);
    story.reaches("n1", Gate::Soak);
    story.passes(&on("n1"));
    story.reaches("n2", Gate::Drain);
    story.aborts(Subject::Cluster);
    assert_eq!(*story.phase(&on("n3")), Phase::Aborted);
    assert_eq!(story.gate(&on("n2")), Some(Gate::Abort));
    assert_eq!(*story.phase(&Subject::Cluster), Phase::Working, "n2 is not back yet");
    story.passes(&on("n2"));
    assert_eq!(story.gate(&Subject::Cluster), Some(Gate::ClusterAbort));
    assert!(due_of(&story).contains(&Work::CleanUp));
    story.passes(&Subject::Cluster);
    assert_eq!(*story.phase(&Subject::Cluster), Phase::Aborted);
    assert_eq!(*story.phase(&on("n1")), Phase::Done, "what is done stays done");
    story.keeps_the_invariants();
    story.starts(plan(), &["n2", "n3"]);
    story.reaches("n2", Gate::Preflight);
}

#[test]
fn a_migration_of_the_wrong_cluster_ends_although_nobody_answers() {
    let mut story = Story::of(&["n1"]);
    story.waits(Span::from_mins(16));
    assert!(matches!(story.phase(&Subject::Cluster), Phase::Held { .. }));
    story.aborts(Subject::Cluster);
    assert_eq!(*story.phase(&Subject::Cluster), Phase::Aborted);
    story.starts(plan(), &["n1"]);
}
