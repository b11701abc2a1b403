//! A crash may fall anywhere: behind every event, and between the events of one decision.

use rehull::domain::{
    command::{Command, Report, Request},
    effect::due,
    gate::Gate,
    state::{Deletion, Fleet, Phase, Subject},
};
use rehull_shared::{
    evidence::{Check, Verdict},
    time::Span,
};
use rehull_tests::story::{Story, node, on};

/// A whole migration of one node.
fn whole() -> Story {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Soak);
    story.passes(&on("n1"));
    story.passes(&Subject::Cluster);
    story
}

#[test]
fn replaying_the_log_gives_the_same_state_and_the_same_work() {
    let story = whole();
    let mut fleet = Fleet::default();
    for recorded in &story.log {
        fleet.evolve(recorded).unwrap();
    }
    assert_eq!(fleet, story.fleet);
    assert_eq!(due(&fleet), due(&story.fleet));
}

#[test]
fn a_log_cut_behind_any_event_goes_on_to_the_same_end() {
    let story = whole();
    for cut in 1..story.log.len() {
        let mut torn = Story { fleet: Fleet::default(), ..story.clone() };
        torn.log.truncate(cut);
        for recorded in torn.log.clone() {
            torn.fleet.evolve(&recorded).unwrap();
        }
        torn.now = torn.log.last().unwrap().at;
        let before = due(&torn.fleet);
        torn.when(Command::TakeLeadership);
        assert_eq!(due(&torn.fleet), before, "taking leadership changes no work");
        if torn.fleet.migrations.values().all(|migration| !migration.is_whole()) {
            assert_eq!(before, [], "nothing of a torn plan is begun");
            if !torn.log.iter().any(|recorded| recorded.event.name() == "AgentEnrolled") {
                torn.enrols("n1");
            }
            torn.starts(rehull_tests::story::plan(), &["n1"]);
        }
        torn.waits(Span::from_secs(5));
        if torn.node("n1").track.phase != Phase::Done {
            torn.reaches("n1", Gate::Soak);
            torn.passes(&on("n1"));
        }
        if !torn.migration().is_finished() {
            torn.waits(Span::from_secs(5));
            torn.passes(&Subject::Cluster);
        }
        assert!(torn.migration().is_finished(), "cut behind event {cut}");
        let (names, whole) = (&torn.node("n1").operations, &story.node("n1").operations);
        let name = |op: &rehull::domain::state::Operation| op.intent.name.clone();
        let made: Vec<_> = names.iter().map(name).collect();
        assert_eq!(made, whole.iter().map(name).collect::<Vec<_>>(), "cut behind event {cut}");
    }
}

/// Whatever was asked for and is cut anywhere is either not known at all, or goes on by itself.
#[test]
fn a_cut_log_of_a_rollback_an_abort_or_a_deletion_goes_on() {
    let mut back = Story::of(&["n1", "n2"]);
    back.reaches("n1", Gate::Removal);
    back.holds(on("n1"));
    back.passes(&on("n1"));
    let asked = back.log.len();
    back.rolls_back("n1", false);
    for cut in asked..=back.log.len() {
        let mut torn = cut_behind(&back, cut);
        torn.waits(Span::from_secs(5));
        let rolled_back = torn.gate(&on("n1")) == Some(Gate::RejoinAdmission);
        let held = matches!(torn.phase(&Subject::Cluster), Phase::Held { .. });
        assert!(held || !rolled_back, "cut behind {cut}: the others would go on unasked");
    }
    let mut all = Story::of(&["n1", "n2"]);
    all.reaches("n1", Gate::Drain);
    let asked = all.log.len();
    all.aborts(Subject::Cluster);
    for cut in asked + 1..=all.log.len() {
        let mut torn = cut_behind(&all, cut);
        torn.waits(Span::from_secs(5));
        torn.passes(&on("n1"));
        torn.passes(&Subject::Cluster);
        assert_eq!(*torn.phase(&Subject::Cluster), Phase::Aborted, "cut behind {cut}");
    }
    let mut left = Story::of(&["n1"]);
    left.reaches("n1", Gate::Removal);
    left.asks(Request::DeleteNode { node: node("n1"), by: "ann".into() });
    let absent = Gate::Removal.needs().iter().position(|need| need.check == Check::NodeAbsent);
    left.all_but(&on("n1"), absent.unwrap(), &Verdict::fail("it exists"));
    let Deletion::Ordered { uid } = left.node("n1").deletion.clone() else { panic!("no order") };
    let asked = left.log.len();
    let seen = "deleted".to_owned();
    left.reports(Report::NodeDeletionAnswered { node: node("n1"), uid, seen });
    for cut in asked + 1..=left.log.len() {
        let mut torn = cut_behind(&left, cut);
        torn.waits(Span::from_secs(5));
        let Phase::Asking { dossier, .. } = torn.phase(&on("n1")) else { panic!("cut {cut}") };
        assert_eq!(dossier.iter().count(), 0, "cut behind {cut}: nothing old counts");
        torn.passes(&on("n1"));
    }
}

fn cut_behind(story: &Story, cut: usize) -> Story {
    let mut torn = Story { fleet: Fleet::default(), ..story.clone() };
    torn.log.truncate(cut);
    for recorded in torn.log.clone() {
        torn.fleet.evolve(&recorded).expect("a log that was written");
    }
    torn.when(Command::TakeLeadership);
    torn
}

#[test]
fn an_impossible_event_is_refused_not_believed() {
    let story = whole();
    let mut refused = 0;
    for skipped in 1..story.log.len() {
        let mut fleet = Fleet::default();
        let rest = story.log.iter().enumerate().filter(|(index, _)| *index != skipped);
        refused += usize::from(rest.map(|(_, event)| event).any(|e| fleet.evolve(e).is_err()));
    }
    // Answers may be missing (their gate would not have passed, but the fold cannot know), as may
    // words about progress; every change of phase may not.
    assert!(refused > 30, "only {refused} of {} gaps were noticed", story.log.len());
}

#[test]
fn a_coordinator_that_was_away_for_a_night_asks_before_it_gives_anybody_up() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    let gate_deadline = story.migration().plan.policy.gate_deadline;
    story.now = story.now + Span::from_secs(8 * 3_600);
    story.when(Command::TakeLeadership);
    story.waits(Span::from_secs(5));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Removal), "held before anybody was asked");
    let mut late = story.clone();
    story.passes(&on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Reinstall));
    // Nobody answers the new leader either: now it is time.
    late.waits(gate_deadline);
    assert!(matches!(late.phase(&on("n1")), Phase::Held { .. }));
}

#[test]
fn a_coordinator_that_dies_every_minute_still_comes_to_its_deadlines() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    let gate_deadline = story.migration().plan.policy.gate_deadline;
    let begun = story.now;
    while story.gate(&on("n1")) == Some(Gate::Removal) {
        assert!(story.now < begun + gate_deadline + Span::from_mins(2), "it waits for ever");
        story.when(Command::TakeLeadership);
        story.waits(Span::from_mins(1));
    }
}
