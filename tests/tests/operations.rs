//! What becomes of an operation that did not succeed: accepted by evidence, repeated by itself, or
//! left to a person.

use rehull::domain::{
    command::Report,
    gate::{Blocker, Gate},
    state::{Extent, Kind, Outcome, Phase, Step},
};
use rehull_shared::{
    evidence::{Check, Verdict},
    time::Span,
};
use rehull_tests::story::{Story, node, on};

const NOTHING_DONE: [Check; 4] =
    [Check::NodeAbsent, Check::LeaseStopped, Check::KubeletStopped, Check::NodeFilesGone];

/// A story in which the removal of n1 has ended like this.
fn ended(outcome: Outcome, extent: Extent) -> Story {
    let mut story = Story::of(&["n1"]);
    removes(&mut story);
    story.operation_ends_after("n1", outcome, extent);
    assert_eq!(story.gate(&on("n1")), Some(Gate::Removal));
    story
}

fn removes(story: &mut Story) {
    story.reaches("n1", Gate::RemoveAdmission);
    story.does_what_a_gate_needs("n1", Gate::RemoveAdmission);
    story.passes(&on("n1"));
    assert_eq!(*story.phase(&on("n1")), Phase::Operating);
}

/// For so long everybody contradicts these checks of G5 and confirms the others.
fn contradicted(story: &mut Story, checks: &[Check], span: Span) {
    let end = story.now + span;
    while story.now < end && story.gate(&on("n1")) == Some(Gate::Removal) {
        for need in Gate::Removal.needs() {
            let no = checks.contains(&need.check);
            let verdict = if no { Verdict::fail("no") } else { Verdict::pass("yes") };
            let answers = story.answers_to(&on("n1"), need, verdict);
            story.hears(&on("n1"), answers);
        }
        story.waits(Span::from_secs(20));
    }
}

#[test]
fn what_is_proved_is_accepted_whatever_it_said_and_that_is_told() {
    for outcome in [Outcome::Succeeded, Outcome::Failed, Outcome::Unknown] {
        let mut story = ended(outcome, Extent::Unknown);
        let before = story.log.len();
        story.passes(&on("n1"));
        let told = story.names_since(before).contains(&"AcceptedByEvidence");
        assert_eq!(told, outcome != Outcome::Succeeded, "{outcome:?}");
        assert_eq!(story.gate(&on("n1")), Some(Gate::Reinstall));
        story.keeps_the_invariants();
    }
}

#[test]
fn what_did_nothing_is_repeated_by_itself_twice_and_then_a_person_decides() {
    for extent in [Extent::NotStarted, Extent::NotReset] {
        let mut story = ended(Outcome::Failed, extent);
        for wait in [5, 15] {
            let begun = story.now;
            contradicted(&mut story, &NOTHING_DONE, Span::from_mins(wait + 1));
            assert!(story.now.since(begun) >= Span::from_mins(wait), "{wait} min of back-off");
            assert_eq!(story.gate(&on("n1")), Some(Gate::RemoveAdmission), "on new evidence");
            removes(&mut story);
            story.operation_ends_after("n1", Outcome::Failed, extent);
        }
        assert_eq!(story.intended("n1", Kind::Remove), 3);
        contradicted(&mut story, &NOTHING_DONE, Span::from_mins(20));
        let Phase::Held { why, .. } = story.phase(&on("n1")) else {
            panic!("{:?}", story.phase(&on("n1")));
        };
        let name = "prod-rm-n1-a3".to_owned();
        let outcome = Outcome::Failed;
        let spent = Blocker::Operation { name, outcome, extent, resubmitted: 2 };
        assert_eq!(why.last(), Some(&spent));
        story.keeps_the_invariants();
        // A person may look again; by itself nothing more is tried.
        story.retries(on("n1"), false);
        contradicted(&mut story, &NOTHING_DONE, Span::from_mins(20));
        assert!(matches!(story.phase(&on("n1")), Phase::Held { .. }));
        // And what it was for may still come true.
        story.retries(on("n1"), false);
        story.passes(&on("n1"));
        assert_eq!(story.node("n1").resubmitted, 0, "the join has a budget of its own");
    }
}

#[test]
fn nothing_is_repeated_that_may_have_done_something() {
    // Its traces say that it came far, or do not tell.
    for extent in [Extent::Reset, Extent::Unknown] {
        let mut story = ended(Outcome::Failed, extent);
        contradicted(&mut story, &NOTHING_DONE, Span::from_mins(20));
        let Phase::Held { why, resume } = story.phase(&on("n1")) else {
            panic!("{:?}", story.phase(&on("n1")));
        };
        assert_eq!(*resume, Step::Ask(Gate::Removal));
        assert!(
            matches!(why.last(), Some(Blocker::Operation { extent: told, .. }) if *told == extent)
        );
    }
    // It says that it succeeded: that it did nothing must be seen by a person.
    let mut story = ended(Outcome::Succeeded, Extent::NotReset);
    contradicted(&mut story, &NOTHING_DONE, Span::from_mins(20));
    assert!(matches!(story.phase(&on("n1")), Phase::Held { .. }));
    assert_eq!(story.intended("n1", Kind::Remove), 1);
    // Somebody sees that something has happened, or does not see at all.
    for missing in 0..NOTHING_DONE.len() {
        let mut story = ended(Outcome::Failed, Extent::NotReset);
        let mut some = NOTHING_DONE.to_vec();
        let gone = some.remove(missing);
        contradicted(&mut story, &some, Span::from_mins(20));
        assert!(matches!(story.phase(&on("n1")), Phase::Held { .. }), "although {gone} is true");
    }
    let mut story = ended(Outcome::Failed, Extent::NotReset);
    story.waits(Span::from_mins(20));
    assert!(matches!(story.phase(&on("n1")), Phase::Held { .. }), "silence is no evidence");
}

#[test]
fn the_log_of_an_operation_may_tell_how_far_it_got_after_its_end() {
    let mut story = ended(Outcome::Failed, Extent::Unknown);
    let name = story.node("n1").operation().unwrap().intent.name.clone();
    let (seen, extent) = ("all".to_owned(), Extent::NotReset);
    story.reports(Report::Archived { node: node("n1"), name, seen, extent });
    contradicted(&mut story, &NOTHING_DONE, Span::from_mins(6));
    assert_eq!(story.gate(&on("n1")), Some(Gate::RemoveAdmission));
    // Whatever was said before: a log that shows the reset is believed.
    let mut story = ended(Outcome::Failed, Extent::NotStarted);
    let name = story.node("n1").operation().unwrap().intent.name.clone();
    let (seen, extent) = ("all".to_owned(), Extent::Reset);
    story.reports(Report::Archived { node: node("n1"), name, seen, extent });
    contradicted(&mut story, &NOTHING_DONE, Span::from_mins(20));
    assert!(matches!(story.phase(&on("n1")), Phase::Held { .. }));
}

#[test]
fn a_join_that_never_started_is_repeated_too() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::JoinAdmission);
    story.does_what_a_gate_needs("n1", Gate::JoinAdmission);
    story.passes(&on("n1"));
    story.operation_ends_after("n1", Outcome::Unknown, Extent::NotStarted);
    for _ in 0..20 {
        for need in Gate::Join.needs() {
            let verdict = match need.check {
                Check::NodeNew | Check::NodeReady => Verdict::fail("Node n1 does not exist"),
                _ => Verdict::pass("fine"),
            };
            let answers = story.answers_to(&on("n1"), need, verdict);
            story.hears(&on("n1"), answers);
        }
        story.waits(Span::from_secs(20));
    }
    assert_eq!(story.gate(&on("n1")), Some(Gate::JoinAdmission));
    assert_eq!(story.node("n1").resubmitted, 1);
}
