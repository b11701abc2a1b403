//! What outlives a removal: when it is killed or deleted, when it is not, and that everything is
//! looked at again.

use rehull::domain::{
    command::{Command, Report, Request},
    effect::{Work, due},
    gate::Gate,
    plan::Plan,
    state::{Phase, Process},
};
use rehull_shared::{
    evidence::{Check, Verdict},
    time::Span,
};
use rehull_tests::story::{Story, node, on, plan, prod, snapshot};

fn due_of(story: &Story) -> Vec<Work> {
    due(&story.fleet).into_iter().map(|effect| effect.work).collect()
}

fn survivors() -> Vec<Process> {
    let comm = "containerd-shim".to_owned();
    vec![Process { pid: 77, start_ticks: 5, comm, exe: "/usr/bin/containerd-shim".into() }]
}

/// At G5, with these two verdicts about Node and kubelet, and survivors reported.
fn story_with_survivors(node_absent: &Verdict, kubelet_stopped: &Verdict) -> Story {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    for need in Gate::Removal.needs() {
        let verdict = match need.check {
            Check::NodeAbsent => node_absent.clone(),
            Check::KubeletStopped => kubelet_stopped.clone(),
            Check::NoLeftovers => Verdict::fail("containerd-shim (77)"),
            _ => Verdict::pass("fine"),
        };
        let answers = story.answers_to(&on("n1"), need, verdict);
        story.hears(&on("n1"), answers);
    }
    story.reports(Report::Leftovers { node: node("n1"), processes: survivors() });
    story
}

#[test]
fn survivors_are_killed_once_on_order_and_then_everything_is_looked_at_again() {
    let mut story = story_with_survivors(&Verdict::pass("404"), &Verdict::pass("none"));
    let kill = due_of(&story).into_iter().find_map(|work| match work {
        Work::KillLeftovers { order, processes, .. } => Some((order, processes)),
        _ => None,
    });
    let (order, processes) = kill.expect("a kill is due");
    assert_eq!(processes, survivors());
    let before = story.log.len();
    let seen = "gone".to_owned();
    let answered = Report::LeftoversAnswered { node: node("n1"), order, seen };
    story.reports(answered.clone());
    assert_eq!(story.names_since(before), ["LeftoversAnswered", "EvidenceRequested"]);
    story.reports(answered);
    story.reports(Report::Leftovers { node: node("n1"), processes: survivors() });
    assert_eq!(story.names_since(before).len(), 2, "once an attempt");
    story.passes(&on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Reinstall));
}

#[test]
fn nothing_is_killed_while_a_kubelet_may_live_or_the_node_may_be_there() {
    let no = || Verdict::fail("it is there");
    let unknown = || Verdict::unknown("no answer");
    let yes = || Verdict::pass("gone");
    for (absent, stopped) in [(no(), yes()), (yes(), no()), (unknown(), yes()), (yes(), unknown())]
    {
        let story = story_with_survivors(&absent, &stopped);
        let kills = due_of(&story);
        let kills = kills.iter().any(|work| matches!(work, Work::KillLeftovers { .. }));
        assert!(!kills, "killed with {absent:?} and {stopped:?}");
    }
}

/// Answers every need of G5 once: these as given, the others well.
fn answers(story: &mut Story, given: &[(Check, Verdict)]) {
    for need in Gate::Removal.needs() {
        let verdict = given.iter().find(|(check, _)| *check == need.check);
        let verdict = verdict.map_or(Verdict::pass("fine"), |(_, verdict)| verdict.clone());
        let answers = story.answers_to(&on("n1"), need, verdict);
        story.hears(&on("n1"), answers);
    }
}

fn deletion(story: &Story) -> Option<String> {
    due_of(story).into_iter().find_map(|work| match work {
        Work::DeleteNode { uid, .. } => Some(uid),
        _ => None,
    })
}

fn exists() -> (Check, Verdict) {
    (Check::NodeAbsent, Verdict::fail("Node n1 exists"))
}

fn wants_deletion(story: &mut Story) {
    story.asks(Request::DeleteNode { node: node("n1"), by: "ann".into() });
}

#[test]
fn a_node_that_was_left_is_deleted_for_a_person_once_its_host_is_clean() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    answers(&mut story, &[exists()]);
    assert_eq!(deletion(&story), None, "that the operation did nothing must be seen");
    story.waits(Span::from_mins(16));
    assert!(matches!(story.phase(&on("n1")), Phase::Held { .. }));
    wants_deletion(&mut story);
    assert_eq!(story.gate(&on("n1")), Some(Gate::Removal));
    assert_eq!(deletion(&story), None, "what was seen before it was held proves nothing now");
    answers(&mut story, &[exists()]);
    let uid = deletion(&story).expect("it is deleted");
    assert_eq!(uid, snapshot().node_uid);
    let before = story.log.len();
    let seen = "deleted".to_owned();
    let answered = Report::NodeDeletionAnswered { node: node("n1"), uid, seen };
    story.reports(answered.clone());
    story.reports(answered);
    assert_eq!(story.names_since(before), ["NodeDeletionAnswered", "EvidenceRequested"]);
    answers(&mut story, &[exists()]);
    assert_eq!(deletion(&story), None, "once an attempt: perhaps it is another Node by now");
    story.passes(&on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Reinstall));
    story.keeps_the_invariants();
}

#[test]
fn no_node_is_deleted_while_its_host_may_be_alive() {
    for check in [Check::KubeletStopped, Check::NoLeftovers, Check::PortsFree] {
        for verdict in [Verdict::fail("it is there"), Verdict::unknown("no answer")] {
            let mut story = Story::of(&["n1"]);
            story.reaches("n1", Gate::Removal);
            wants_deletion(&mut story);
            answers(&mut story, &[exists(), (check, verdict.clone())]);
            assert_eq!(deletion(&story), None, "{check}: {verdict:?}");
            answers(&mut story, &[exists()]);
            assert!(deletion(&story).is_some(), "as soon as it is clean");
        }
    }
    // And what the agent said long ago is worth nothing.
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    wants_deletion(&mut story);
    answers(&mut story, &[]);
    story.now = story.now + Span::from_mins(3);
    let need = Gate::Removal.needs().iter().find(|need| need.check == Check::NodeAbsent);
    let late = story.answers_to(&on("n1"), need.unwrap(), exists().1);
    story.hears(&on("n1"), late);
    assert_eq!(deletion(&story), None);
}

#[test]
fn a_policy_may_want_it_without_a_person() {
    let mut careless: Plan = plan();
    careless.policy.delete_node = true;
    let mut story = Story::with(careless, &["n1"]);
    story.reaches("n1", Gate::Removal);
    answers(&mut story, &[]);
    assert_eq!(deletion(&story), None, "there is nothing to delete");
    answers(&mut story, &[exists()]);
    assert!(deletion(&story).is_some());
}

#[test]
fn survivors_beside_a_node_that_was_left_are_killed_first_when_a_person_wants_the_rest_done() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    wants_deletion(&mut story);
    answers(&mut story, &[exists(), (Check::NoLeftovers, Verdict::fail("containerd-shim (77)"))]);
    story.reports(Report::Leftovers { node: node("n1"), processes: survivors() });
    let order = due_of(&story).into_iter().find_map(|work| match work {
        Work::KillLeftovers { order, .. } => Some(order),
        _ => None,
    });
    let (node, order, seen) = (node("n1"), order.expect("a kill"), "gone".to_owned());
    story.reports(Report::LeftoversAnswered { node, order, seen });
    answers(&mut story, &[exists()]);
    assert!(deletion(&story).is_some());
}

#[test]
fn a_deletion_is_refused_anywhere_else() {
    for gate in [Gate::Drain, Gate::Reinstall, Gate::Join] {
        let mut story = Story::of(&["n1"]);
        story.reaches("n1", gate);
        let request = Request::DeleteNode { node: node("n1"), by: "ann".into() };
        let refused = story.tries(Command::Of(prod(), request)).unwrap_err().to_string();
        assert!(refused.contains("only when its removal has ended"), "{gate:?}: {refused}");
    }
}
