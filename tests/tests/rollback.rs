//! A removed node that has not been reinstalled is put back with the system that it still has.

use rehull::domain::{
    command::{Command, Request},
    effect::{Work, due},
    gate::{Blocker, Gate},
    state::{Kind, Outcome, Phase, Step, Subject},
};
use rehull_shared::{evidence::Check, ids::Attempt, time::Span};
use rehull_tests::story::{Story, node, on, prod};

/// n1 is removed, that is proved, and it is held before its disk may be wiped.
fn removed() -> Story {
    let mut story = Story::of(&["n1", "n2"]);
    story.reaches("n1", Gate::Removal);
    story.holds(on("n1"));
    story.passes(&on("n1"));
    let resume = Step::Ask(Gate::Reinstall);
    assert!(matches!(story.phase(&on("n1")), Phase::Held { resume: now, .. } if *now == resume));
    story
}

/// From the decision to the end.
fn comes_back(story: &mut Story) {
    story.reaches("n1", Gate::Soak);
    story.passes(&on("n1"));
    assert_eq!(*story.phase(&on("n1")), Phase::Aborted);
    assert!(story.node("n1").is_rolled_back());
    assert_eq!(story.migration().out().count(), 0);
    story.keeps_the_invariants();
}

#[test]
fn it_joins_with_its_old_system_and_the_others_wait_for_a_person() {
    let mut story = removed();
    story.rolls_back("n1", false);
    assert_eq!(story.gate(&on("n1")), Some(Gate::RejoinAdmission));
    let (attempt, kind) = (Attempt(1), Kind::Rejoin);
    let inputs = Work::PrepareInputs { node: node("n1"), kind, attempt };
    assert!(due(&story.fleet).iter().any(|effect| effect.work == inputs));
    comes_back(&mut story);
    let made: Vec<_> =
        story.node("n1").operations.iter().map(|op| op.intent.name.as_str()).collect();
    assert_eq!(made, ["prod-rm-n1-a1", "prod-back-n1-a1"]);
    story.waits(Span::from_mins(60));
    assert_eq!(*story.phase(&on("n2")), Phase::Planned);
    let why = vec![Blocker::HeldBy { by: "ann".into(), why: "n1 is rolled back".into() }];
    assert_eq!(*story.phase(&Subject::Cluster), Phase::Held { why, resume: Step::Work });
    story.retries(Subject::Cluster, false);
    story.reaches("n2", Gate::Soak);
    story.passes(&on("n2"));
    story.passes(&Subject::Cluster);
    assert_eq!(*story.phase(&Subject::Cluster), Phase::Done);
}

#[test]
fn the_others_go_on_without_it_if_a_person_says_so() {
    let mut story = removed();
    story.rolls_back("n1", true);
    comes_back(&mut story);
    story.reaches("n2", Gate::Preflight);
    assert!(story.migration().bench(&on("n2")).watched, "somebody must warn the others");
}

#[test]
fn it_is_possible_where_the_removal_is_not_proved_but_its_admission_proves_as_much() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    story.waits(Span::from_mins(16));
    story.rolls_back("n1", true);
    assert_eq!(story.gate(&on("n1")), Some(Gate::RejoinAdmission));
    let asked: Vec<Check> = Gate::RejoinAdmission.needs().iter().map(|need| need.check).collect();
    for check in [
        Check::NodeAbsent,
        Check::KubeletStopped,
        Check::NoLeftovers,
        Check::PortsFree,
        Check::NodeFilesGone,
        Check::OsIsSource,
    ] {
        assert!(asked.contains(&check), "{check}");
    }
    comes_back(&mut story);
}

#[test]
fn a_join_back_that_fails_is_looked_at_and_made_again() {
    let mut story = removed();
    story.rolls_back("n1", true);
    story.does_what_a_gate_needs("n1", Gate::RejoinAdmission);
    story.passes(&on("n1"));
    story.operation_ends("n1", Outcome::Failed);
    assert_eq!(story.gate(&on("n1")), Some(Gate::Rejoin));
    story.waits(Span::from_mins(16));
    story.retries(on("n1"), true);
    assert_eq!(story.gate(&on("n1")), Some(Gate::RejoinAdmission));
    comes_back(&mut story);
    assert_eq!(story.intended("n1", Kind::Rejoin), 2);
}

fn refusal(story: &mut Story) -> String {
    let back = Request::RollBack { node: node("n1"), go_on: false, by: "ann".into() };
    story.tries(Command::Of(prod(), back)).expect_err("it was refused").to_string()
}

#[test]
fn there_is_no_way_back_before_the_removal_while_it_works_or_after_the_data_is_given_up() {
    for gate in [Gate::Drain, Gate::Removal, Gate::Join, Gate::Soak] {
        let mut story = Story::of(&["n1"]);
        story.reaches("n1", gate);
        let why = refusal(&mut story);
        let word = if gate < Gate::Reinstall { "rehull migrate hold" } else { "only forward" };
        assert!(why.contains(word), "{gate:?}: {why}");
    }
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Reinstall);
    story.does_what_a_gate_needs("n1", Gate::Reinstall);
    story.passes(&on("n1"));
    story.waits(Span::from_mins(91));
    assert!(matches!(story.phase(&on("n1")), Phase::Held { resume: Step::Reinstall, .. }));
    assert!(refusal(&mut story).contains("the data on it given up: only forward"));
}

#[test]
fn a_paused_node_can_be_put_back_before_its_disk_is_wiped() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Reinstall);
    story.does_what_a_gate_needs("n1", Gate::Reinstall);
    story.asks(Request::Pause { by: "ann".into() });
    story.passes(&on("n1"));
    assert_eq!(*story.phase(&on("n1")), Phase::Ready { next: Step::Reinstall });
    story.rolls_back("n1", true);
    story.asks(Request::Resume { by: "ann".into() });
    comes_back(&mut story);
}
