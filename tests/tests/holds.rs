//! Holds by people: where they take effect, how they end, and what may have grown old meanwhile.

use rehull::domain::{
    command::{Command, Request},
    gate::{Blocker, Gate},
    state::{Kind, Phase, Step, Subject},
};
use rehull_shared::time::Span;
use rehull_tests::story::{Story, on, prod};

fn held(story: &Story, subject: &Subject) -> Option<Step> {
    match story.phase(subject) {
        Phase::Held { why, resume } => {
            let by = Blocker::HeldBy { by: "ann".into(), why: "lunch".into() };
            assert_eq!(*why, [by]);
            Some(*resume)
        }
        _ => None,
    }
}

#[test]
fn a_hold_takes_effect_at_the_next_safe_point_and_not_before() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    story.holds(on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Removal), "nothing under way is cut short");
    story.passes(&on("n1"));
    assert_eq!(held(&story, &on("n1")), Some(Step::Ask(Gate::Reinstall)));
    story.waits(Span::from_mins(600));
    assert_eq!(held(&story, &on("n1")), Some(Step::Ask(Gate::Reinstall)), "until somebody acts");
    story.retries(on("n1"), false);
    story.reaches("n1", Gate::Join);
    story.holds(on("n1"));
    story.passes(&on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Metadata), "a joined node is not left half done");
    story.passes(&on("n1"));
    story.passes(&on("n1"));
    assert_eq!(held(&story, &on("n1")), Some(Step::Finish));
}

#[test]
fn a_hold_that_has_not_taken_effect_is_taken_back() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    story.holds(on("n1"));
    story.retries(on("n1"), false);
    story.passes(&on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Reinstall), "it goes on as if nobody had asked");
    story.holds(on("n1"));
    let resubmit = Request::Retry { subject: on("n1"), resubmit: true, by: "ann".into() };
    let refused = story.tries(Command::Of(prod(), resubmit)).expect_err("it is not held");
    assert!(refused.to_string().contains("only what is held"), "{refused}");
    story.holds(Subject::Cluster);
    assert_eq!(held(&story, &Subject::Cluster), Some(Step::Work));
}

#[test]
fn nobody_passes_a_node_that_was_held_before_its_turn() {
    let mut story = Story::of(&["n1", "n2", "n3"]);
    story.holds(on("n2"));
    story.reaches("n1", Gate::Soak);
    story.passes(&on("n1"));
    assert_eq!(held(&story, &on("n2")), Some(Step::Ask(Gate::Preflight)));
    story.waits(Span::from_mins(5));
    assert_eq!(*story.phase(&on("n3")), Phase::Planned);
    story.aborts(on("n2"));
    story.reaches("n3", Gate::Preflight);
}

#[test]
fn a_held_cluster_begins_no_node_and_lets_one_under_way_end() {
    let mut story = Story::of(&["n1", "n2"]);
    story.reaches("n1", Gate::Drain);
    story.holds(Subject::Cluster);
    assert_eq!(held(&story, &Subject::Cluster), Some(Step::Work));
    story.reaches("n1", Gate::Soak);
    story.passes(&on("n1"));
    story.waits(Span::from_mins(5));
    assert_eq!(*story.phase(&on("n2")), Phase::Planned);
    story.retries(Subject::Cluster, false);
    story.reaches("n2", Gate::Preflight);
}

/// What admits a removal or a reinstall must have been seen just now, not before lunch.
#[test]
fn an_admission_that_has_rested_is_asked_again() {
    let steps = [Gate::RemoveAdmission, Gate::Reinstall, Gate::JoinAdmission];
    for (gate, pause) in steps.into_iter().flat_map(|gate| [(gate, true), (gate, false)]) {
        let mut story = Story::of(&["n1"]);
        story.reaches("n1", gate);
        story.does_what_a_gate_needs("n1", gate);
        let by = "ann".to_owned();
        if pause {
            story.asks(Request::Pause { by: by.clone() });
        } else {
            story.holds(on("n1"));
        }
        story.passes(&on("n1"));
        story.waits(Span::from_mins(60));
        let rests = matches!(story.phase(&on("n1")), Phase::Ready { .. } | Phase::Held { .. });
        assert!(rests, "{gate:?}: {:?}", story.phase(&on("n1")));
        if pause {
            story.asks(Request::Resume { by });
        } else {
            story.retries(on("n1"), false);
        }
        assert_eq!(story.gate(&on("n1")), Some(gate), "pause: {pause}");
    }
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    assert_eq!(story.intended("n1", Kind::Remove), 1, "and without a rest it is asked once");
}

#[test]
fn holds_that_make_no_sense_are_refused() {
    let mut story = Story::of(&["n1", "n2"]);
    story.reaches("n1", Gate::Preflight);
    story.aborts(on("n1"));
    let hold = |story: &mut Story, subject| {
        let (why, by) = ("lunch".to_owned(), "ann".to_owned());
        let refused = story.tries(Command::Of(prod(), Request::Hold { subject, why, by }));
        refused.unwrap_err().to_string()
    };
    assert!(hold(&mut story, on("n1")).contains("it is over"));
    story.holds(Subject::Cluster);
    assert!(hold(&mut story, Subject::Cluster).contains("held already"));
    assert!(hold(&mut story, on("n9")).contains("has no node n9"));
}
