//! What has admitted a step of a control plane must still hold when the step is taken: after a pause, a
//! hold or a crash, and for a removal that is tried once more.

use rehull::domain::{
    command::{Command, Report, Request},
    effect::{Work, due},
    event::Event,
    gate::{Blocker, Gate},
    state::{Extent, Kind, Leftovers, Outcome, Phase, Process, Step},
};
use rehull_shared::{
    evidence::{Check, Verdict},
    time::Span,
};
use rehull_tests::story::{Story, WITH_CONTROL_PLANES, node, on, plan_with_control_planes, prod};

/// The worker is done, and `m2` is at this gate.
fn at(gate: Gate) -> Story {
    let mut story = Story::with(plan_with_control_planes(), &WITH_CONTROL_PLANES);
    story.finishes("n1");
    story.reaches("m2", gate);
    story
}

/// The removal of `m2` has ended without a trace.
fn removed_for_nothing() -> Story {
    let mut story = at(Gate::RemoveAdmission);
    story.does_what_a_gate_needs("m2", Gate::RemoveAdmission);
    story.passes(&on("m2"));
    story.operation_ends_after("m2", Outcome::Failed, Extent::NotStarted);
    assert_eq!(story.gate(&on("m2")), Some(Gate::Removal));
    story
}

/// Everybody contradicts until the gate gives up.
fn waits_in_vain(story: &mut Story, gate: Gate) {
    while story.gate(&on("m2")) == Some(gate) {
        for need in story.needs(&on("m2")) {
            let answers = story.answers_to(&on("m2"), need, Verdict::fail("no"));
            story.hears(&on("m2"), answers);
        }
        story.waits(Span::from_secs(20));
    }
}

fn refused(story: &mut Story, request: Request) -> String {
    story.tries(Command::Of(prod(), request)).expect_err("it must not be allowed").to_string()
}

fn held_before(story: &Story) -> Option<Step> {
    match story.phase(&on("m2")) {
        Phase::Held { resume, .. } => Some(*resume),
        _ => None,
    }
}

#[test]
fn a_removal_that_did_nothing_is_tried_again_by_itself_and_succeeds() {
    let mut story = removed_for_nothing();
    waits_in_vain(&mut story, Gate::Removal);
    assert_eq!(story.gate(&on("m2")), Some(Gate::RemoveAdmission), "{:?}", story.phase(&on("m2")));
    assert!(story.node("m2").backup.is_none(), "the old one is as old as an operation takes");
    let again = story.migration().going_again().expect("it may be there or not");
    assert_eq!(again.name, node("m2"));
    story.does_what_a_gate_needs("m2", Gate::RemoveAdmission);
    story.passes(&on("m2"));
    assert_eq!(story.intended("m2", Kind::Remove), 2);
    story.finishes("m2");
    story.keeps_the_invariants();
}

#[test]
fn where_another_removal_is_not_admitted_a_person_has_every_way_out() {
    let mut story = removed_for_nothing();
    waits_in_vain(&mut story, Gate::Removal);
    waits_in_vain(&mut story, Gate::RemoveAdmission);
    assert_eq!(held_before(&story), Some(Step::Submit(Kind::Remove)));
    assert!(story.node("m2").can_be_rolled_back());
    story.retries(on("m2"), true);
    assert_eq!(story.gate(&on("m2")), Some(Gate::RemoveAdmission), "run it again");
    waits_in_vain(&mut story, Gate::RemoveAdmission);
    story.retries(on("m2"), false);
    assert_eq!(story.gate(&on("m2")), Some(Gate::Removal), "look again what it did");
    waits_in_vain(&mut story, Gate::Removal); // and it is tried by itself for the last time
    waits_in_vain(&mut story, Gate::RemoveAdmission);
    story.rolls_back("m2", true);
    assert_eq!(story.gate(&on("m2")), Some(Gate::RejoinAdmission));
    waits_in_vain(&mut story, Gate::RejoinAdmission);
    story.retries(on("m2"), true);
    assert_eq!(story.gate(&on("m2")), Some(Gate::RemoveAdmission), "nothing had gone");
    waits_in_vain(&mut story, Gate::RemoveAdmission);
    story.asks(Request::DeleteNode { node: node("m2"), by: "ann".into() });
    assert_eq!(story.gate(&on("m2")), Some(Gate::Removal));
    story.passes(&on("m2"));
    story.finishes("m2");
    story.keeps_the_invariants();
}

#[test]
fn what_a_pause_lets_rest_before_its_api_server_is_stopped_is_looked_at_anew() {
    let mut story = at(Gate::Quorum);
    story.does_what_a_gate_needs("m2", Gate::Quorum);
    story.asks(Request::Pause { by: "ann".into() });
    story.passes(&on("m2"));
    story.waits(Span::from_mins(40));
    assert_eq!(*story.phase(&on("m2")), Phase::Ready { next: Step::Ask(Gate::Withdraw) });
    story.asks(Request::Resume { by: "ann".into() });
    assert_eq!(story.gate(&on("m2")), Some(Gate::Quorum));
    assert!(story.node("m2").backup.is_none(), "it is too old by now");
    story.finishes("m2");
    story.keeps_the_invariants();
}

#[test]
fn one_whose_api_server_was_stopped_already_goes_on_there_after_a_pause() {
    let mut story = at(Gate::Withdraw);
    waits_in_vain(&mut story, Gate::Withdraw);
    story.asks(Request::Pause { by: "ann".into() });
    story.retries(on("m2"), false);
    story.waits(Span::from_mins(2));
    assert_eq!(*story.phase(&on("m2")), Phase::Ready { next: Step::Ask(Gate::Withdraw) });
    story.asks(Request::Resume { by: "ann".into() });
    assert_eq!(story.gate(&on("m2")), Some(Gate::Withdraw), "the guard asks for what is no more");
    story.finishes("m2");
    story.keeps_the_invariants();
}

#[test]
fn before_a_removal_it_is_still_the_same_cluster_and_its_first_control_plane_is_approved() {
    let mut story = at(Gate::RemoveAdmission);
    let asks = |story: &Story, name: &str, check| {
        story.needs(&on(name)).iter().any(|need| need.check == check)
    };
    assert!(asks(&story, "m2", Check::IdentityKept));
    assert!(!asks(&story, "m2", Check::FirstControlPlaneApproved));
    story.finishes("m2");
    story.finishes("m3");
    story.reaches("m1", Gate::RemoveAdmission);
    assert!(asks(&story, "m1", Check::FirstControlPlaneApproved));
}

#[test]
fn a_leadership_that_comes_back_is_handed_on_until_the_removal() {
    for gate in [Gate::Quorum, Gate::Withdraw, Gate::RemoveAdmission] {
        let due = due(&at(gate).fleet);
        let moves = due.iter().any(|effect| matches!(effect.work, Work::MoveLeader { .. }));
        assert!(moves, "{gate:?}");
    }
}

#[test]
fn an_operation_that_is_not_created_at_once_is_taken_back() {
    let mut story = at(Gate::RemoveAdmission);
    story.does_what_a_gate_needs("m2", Gate::RemoveAdmission);
    story.passes(&on("m2"));
    let before = story.log.len();
    story.waits(Span::from_secs(25));
    assert_eq!(story.names_since(before), [] as [&str; 0]);
    story.waits(Span::from_secs(5));
    assert_eq!(story.names_since(before), ["OperationWithdrawn"]);
}

#[test]
fn no_data_is_given_up_while_a_second_member_ails_whatever_a_person_says() {
    let mut story = at(Gate::Removal);
    story.passes(&on("m2"));
    assert_eq!(story.gate(&on("m2")), Some(Gate::Reinstall));
    let ailing = Some("m3: no answer".to_owned());
    // A person's own hold gives way, and takes no place: whoever takes it back must not lift the other.
    story.holds(on("m2"));
    story.reports(Report::Others { node: node("m2"), ailing });
    let hold = &story.node("m2").track.hold;
    assert!(matches!(hold, Some(Blocker::QuorumAtRisk { .. })), "{hold:?}");
    let (subject, by, why) = (on("m2"), "ann".to_owned(), "lunch".to_owned());
    let words = refused(&mut story, Request::Hold { subject, why, by });
    assert!(words.contains("for another member of etcd"), "{words}");
    let (subject, by) = (on("m2"), "ann".to_owned());
    let words = refused(&mut story, Request::Retry { subject, resubmit: false, by });
    assert!(words.contains("get it well first"), "{words}");
    let spoilt = story.needs(&on("m2")).iter().position(|need| need.check == Check::EtcdHealthy);
    story.does_what_a_gate_needs("m2", Gate::Reinstall);
    let before = story.log.len();
    story.all_but(&on("m2"), spoilt.expect("a need"), &Verdict::unknown("m3: no answer"));
    assert!(!story.names_since(before).contains(&"ReinstallAuthorized"));
    story.reports(Report::Others { node: node("m2"), ailing: None });
    story.retries(on("m2"), false);
    story.finishes("m2");
    story.keeps_the_invariants();
}

#[test]
fn a_second_member_that_ails_is_told_of_until_the_first_is_proved_to_be_back() {
    let mut story = at(Gate::Join);
    let ailing = Some("m3: no answer".to_owned());
    let told = story.reports(Report::Others { node: node("m2"), ailing: ailing.clone() });
    assert!(matches!(&told[..], [Event::QuorumAtRisk { .. }]), "{told:?}");
    let mut story = at(Gate::Metadata);
    assert_eq!(story.reports(Report::Others { node: node("m2"), ailing }), [], "it is back");
}

#[test]
fn once_a_second_member_has_ailed_nothing_automatic_follows_however_well_it_is_again() {
    let ails_for_a_while = |story: &mut Story| {
        let ailing = Some("m3: no answer".to_owned());
        story.reports(Report::Others { node: node("m2"), ailing });
        story.reports(Report::Others { node: node("m2"), ailing: None });
    };
    let mut story = removed_for_nothing();
    ails_for_a_while(&mut story);
    waits_in_vain(&mut story, Gate::Removal);
    assert_eq!(held_before(&story), Some(Step::Ask(Gate::RemoveAdmission)));
    story.keeps_the_invariants();
    let mut story = removed_for_nothing();
    ails_for_a_while(&mut story);
    let needs = story.needs(&on("m2"));
    let left = needs.iter().position(|need| need.check == Check::NoLeftovers).expect("a need");
    story.all_but(&on("m2"), left, &Verdict::fail("etcd (pid 7)"));
    let (comm, exe) = ("etcd".to_owned(), "/usr/local/bin/etcd".to_owned());
    let processes = vec![Process { pid: 7, start_ticks: 1, comm, exe }];
    story.reports(Report::Leftovers { node: node("m2"), processes });
    assert_eq!(story.node("m2").leftovers, Leftovers::Untouched);
    story.keeps_the_invariants();
}

#[test]
fn a_silence_of_another_api_server_during_the_removal_is_told_as_soon_as_it_is_all_that_is_left() {
    let mut story = removed_for_nothing();
    let needs = story.needs(&on("m2"));
    let silence = needs.iter().position(|need| need.check == Check::ApiServersSteady);
    let silence = silence.expect("a need");
    let began = story.now;
    while story.gate(&on("m2")) == Some(Gate::Removal) {
        story.all_but(&on("m2"), silence, &Verdict::fail("it was silent for 7s"));
        story.waits(Span::from_secs(20));
    }
    assert_eq!(held_before(&story), Some(Step::Ask(Gate::Removal)));
    assert!(story.now.since(began) < Span::from_mins(4), "not only at the deadline");
    let from = story.node("m2").steady_from;
    story.retries(on("m2"), false);
    assert!(story.node("m2").steady_from > from, "a person has looked");
    story.finishes("m2");
    story.keeps_the_invariants();
}

#[test]
fn an_order_that_was_never_applied_is_not_taken_for_applied_because_all_is_as_it_was() {
    let mut story = Story::with(plan_with_control_planes(), &WITH_CONTROL_PLANES);
    ["n1", "m2", "m3"].iter().for_each(|name| story.finishes(name));
    story.reaches("m1", Gate::ReorderAdmission);
    story.does_what_a_gate_needs("m1", Gate::ReorderAdmission);
    story.passes(&on("m1"));
    story.operation_ends_after("m1", Outcome::Unknown, Extent::NotStarted);
    for _ in 0..8 {
        for need in story.needs(&on("m1")) {
            let answers = story.answers_to(&on("m1"), need, Verdict::pass("as before"));
            story.hears(&on("m1"), answers);
        }
        assert_eq!(story.gate(&on("m1")), Some(Gate::Reordered));
        story.waits(Span::from_secs(30));
    }
    story.waits(Span::from_mins(2));
    assert_eq!(story.gate(&on("m1")), Some(Gate::ReorderAdmission), "it is applied anew");
    story.finishes("m1");
    assert_eq!(story.intended("m1", Kind::Reorder), 2);
}

#[test]
fn an_api_server_is_stopped_only_when_what_must_hold_before_was_seen_in_this_round() {
    let mut story = at(Gate::Quorum);
    story.finishes("m2");
    story.finishes("m3");
    story.reaches("m1", Gate::Withdraw);
    let stops = |story: &Story| {
        let due = due(&story.fleet);
        due.iter().any(|effect| matches!(effect.work, Work::SwitchApiServer { on: false, .. }))
    };
    for check in [Check::EtcdHealthy, Check::IdentityKept, Check::FirstControlPlaneApproved] {
        assert!(!stops(&story), "before {check}");
        let needs = story.needs(&on("m1"));
        let need = needs.iter().find(|need| need.check == check).expect("a need");
        let answers = story.answers_to(&on("m1"), need, Verdict::pass("so it is"));
        story.hears(&on("m1"), answers);
    }
    assert!(stops(&story));
}
