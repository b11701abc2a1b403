//! The join canary of a node that is back: asked for by the plan, before the node is given back.

use rehull::domain::{
    effect::{Work, due},
    gate::Gate,
    plan::JoinCanary,
    state::Phase,
};
use rehull_tests::story::{Story, node, on, plan};

/// A story whose plan has a join canary, or not.
fn story(planned: bool) -> Story {
    let mut plan = plan();
    plan.join_canary = planned.then(|| JoinCanary { image: "busybox:1.36".to_owned() });
    Story::with(plan, &["n1"])
}

fn is_due(story: &Story, work: &Work) -> bool {
    due(&story.fleet).iter().any(|effect| effect.work == *work)
}

#[test]
fn a_node_that_is_back_proves_its_network_before_it_is_given_back() {
    let mut story = story(true);
    story.reaches("n1", Gate::Join);
    let (start, remove) =
        (Work::StartJoinCanary { node: node("n1") }, Work::RemoveJoinCanary { node: node("n1") });
    assert!(!is_due(&story, &start), "a pod on a node that may be the old one proves nothing");
    story.passes(&on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::JoinCanary));
    assert!(is_due(&story, &start) && !is_due(&story, &remove));
    story.passes(&on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Metadata));
    assert!(is_due(&story, &remove) && !is_due(&story, &start));
    story.reaches("n1", Gate::Soak);
    story.passes(&on("n1"));
    assert_eq!(*story.phase(&on("n1")), Phase::Done);
    story.keeps_the_invariants();
}

#[test]
fn a_plan_without_one_asks_for_none() {
    let mut story = story(false);
    story.reaches("n1", Gate::Join);
    story.passes(&on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Metadata));
    assert!(!is_due(&story, &Work::RemoveJoinCanary { node: node("n1") }));
}

#[test]
fn a_node_that_is_put_back_with_its_old_system_proves_it_too() {
    let mut story = story(true);
    story.reaches("n1", Gate::Removal);
    story.holds(on("n1"));
    story.passes(&on("n1"));
    story.rolls_back("n1", true);
    story.reaches("n1", Gate::Rejoin);
    story.passes(&on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::JoinCanary));
    assert!(story.migration().node(&node("n1")).is_some_and(|node| !node.is_absent()));
}
