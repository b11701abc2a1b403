//! Several nodes under way at the same time: what they may do together, and what only one by one.

use rehull::domain::{
    command::Request,
    gate::Gate,
    plan::Plan,
    state::{Kind, Outcome, Phase, Step},
};
use rehull_shared::{ids::NodeName, time::Span};
use rehull_tests::story::{Story, node, on, plan};

fn of_two_at_a_time() -> Plan {
    let mut plan = plan();
    plan.policy.max_out = 2;
    plan
}

/// Two nodes under way, behind a canary that is done.
fn two() -> Story {
    let mut story = Story::with(of_two_at_a_time(), &["n1", "n2", "n3", "n4"]);
    story.reaches("n1", Gate::Soak);
    assert_eq!(*story.phase(&on("n2")), Phase::Planned, "the canary goes alone");
    story.passes(&on("n1"));
    story.waits(Span::from_secs(5));
    story
}

fn leaving_before(story: &Story, name: &str) -> Vec<NodeName> {
    let name = node(name);
    let leaving = story.migration().leaving_before(&name);
    leaving.map(|other| other.planned.name.clone()).collect()
}

#[test]
fn as_many_nodes_begin_as_were_agreed_on() {
    let story = two();
    assert_eq!(story.gate(&on("n2")), Some(Gate::Preflight));
    assert_eq!(story.gate(&on("n3")), Some(Gate::Preflight));
    assert_eq!(*story.phase(&on("n4")), Phase::Planned);
}

#[test]
fn operations_of_a_cluster_wait_for_each_other_and_reinstalls_do_not() {
    let mut story = two();
    story.reaches("n2", Gate::RemoveAdmission);
    story.reaches("n3", Gate::Drain);
    story.passes(&on("n3"));
    let waits = Phase::Ready { next: Step::Ask(Gate::RemoveAdmission) };
    assert_eq!(*story.phase(&on("n3")), waits);
    story.reaches("n2", Gate::Removal);
    story.waits(Span::from_mins(5));
    assert_eq!(*story.phase(&on("n3")), waits, "what was done to n2 must be proved first");
    story.passes(&on("n2"));
    assert_eq!(story.gate(&on("n3")), Some(Gate::RemoveAdmission));
    story.reaches("n2", Gate::Os);
    story.reaches("n3", Gate::Os);
    assert_eq!(story.migration().out().count(), 2, "both hosts are reinstalled");
    story.passes(&on("n2"));
    story.passes(&on("n3"));
    assert_eq!(story.gate(&on("n2")), Some(Gate::JoinAdmission));
    assert_eq!(*story.phase(&on("n3")), Phase::Ready { next: Step::Ask(Gate::JoinAdmission) });
}

/// An operation that has ended is looked at before another node's takes its place, wherever in the
/// plan that node is.
#[test]
fn who_is_amid_an_operation_goes_first() {
    let mut story = two();
    story.reaches("n3", Gate::RemoveAdmission);
    story.reaches("n2", Gate::Drain);
    story.passes(&on("n2"));
    story.does_what_a_gate_needs("n3", Gate::RemoveAdmission);
    story.passes(&on("n3"));
    assert_eq!(*story.phase(&on("n3")), Phase::Operating);
    story.operation_ends("n3", Outcome::Succeeded);
    assert_eq!(story.gate(&on("n3")), Some(Gate::Removal));
    assert_eq!(*story.phase(&on("n2")), Phase::Ready { next: Step::Ask(Gate::RemoveAdmission) });
}

#[test]
fn a_node_that_is_held_keeps_no_other_from_coming_back() {
    let mut story = two();
    story.reaches("n2", Gate::Os);
    story.reaches("n3", Gate::Removal);
    story.waits(Span::from_mins(20));
    assert!(matches!(story.phase(&on("n3")), Phase::Held { .. }));
    // Its own host was reinstalled; n3 waits for a person meanwhile.
    story.retries(on("n2"), false);
    story.reaches("n2", Gate::Join);
    assert_eq!(story.intended("n2", Kind::Join), 1);
    story.retries(on("n3"), false);
    assert_eq!(*story.phase(&on("n3")), Phase::Ready { next: Step::Ask(Gate::Removal) });
    story.asks(Request::DeleteNode { node: node("n3"), by: "ann".into() });
    story.passes(&on("n2"));
    assert_eq!(story.gate(&on("n3")), Some(Gate::Removal));
    story.waits(Span::from_mins(1));
    assert_eq!(*story.phase(&on("n4")), Phase::Planned);
}

#[test]
fn room_is_needed_for_the_pods_of_all_that_go_before() {
    let mut story = two();
    assert_eq!(leaving_before(&story, "n2"), []);
    assert_eq!(leaving_before(&story, "n3"), [node("n2")], "or both would pass, each alone");
    story.reaches("n3", Gate::Drain);
    assert_eq!(leaving_before(&story, "n2"), [node("n3")], "whose pods look for room now");
    story.reaches("n3", Gate::Removal);
    assert_eq!(leaving_before(&story, "n2"), [], "who is out has no pods, and offers no room");
}

/// What it lacks may be what the other one takes away: nothing was done to it yet.
#[test]
fn a_node_at_its_first_gate_is_not_held_while_another_one_may_come_back() {
    let mut story = two();
    story.reaches("n2", Gate::Reinstall);
    story.waits(Span::from_mins(14));
    assert_eq!(story.gate(&on("n3")), Some(Gate::Preflight));
    assert_eq!(story.gate(&on("n2")), Some(Gate::Reinstall));
    story.waits(Span::from_mins(2));
    assert!(matches!(story.phase(&on("n2")), Phase::Held { .. }));
    assert!(matches!(story.phase(&on("n3")), Phase::Held { .. }), "and nobody waits for a person");
}

#[test]
fn an_operation_gets_inputs_of_the_moment_in_which_it_is_admitted() {
    let mut story = two();
    story.reaches("n3", Gate::RemoveAdmission);
    story.does_what_a_gate_needs("n3", Gate::RemoveAdmission);
    story.asks(Request::Pause { by: "ann".into() });
    story.passes(&on("n3"));
    story.waits(Span::from_mins(1));
    assert!(story.node("n3").inputs.is_some(), "it rests before the removal");
    story.asks(Request::Resume { by: "ann".into() });
    assert_eq!(story.gate(&on("n3")), Some(Gate::RemoveAdmission));
    assert_eq!(story.node("n3").inputs, None);
}
