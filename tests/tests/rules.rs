//! Stories about the rules: what happens, what is held, and what is refused.

use rehull::domain::{
    command::{Command, Refusal, Report, Request},
    effect::{Work, due},
    gate::{Blocker, Gate},
    plan::Installer,
    state::{Extent, Kind, Outcome, Phase, Progress, Step, Subject},
};
use rehull_shared::{
    evidence::{Check, Evidence, Source, Verdict},
    ids::Round,
    time::Span,
};
use rehull_tests::story::{Story, node, on, plan, prod};

fn due_of(story: &Story) -> Vec<Work> {
    due(&story.fleet).into_iter().map(|effect| effect.work).collect()
}

#[test]
fn two_workers_are_migrated_one_after_the_other() {
    let mut story = Story::of(&["n1", "n2"]);
    story.reaches("n1", Gate::Soak);
    assert_eq!(*story.phase(&on("n2")), Phase::Planned, "the canary goes alone");
    story.passes(&on("n1"));
    assert_eq!(*story.phase(&on("n1")), Phase::Done);
    story.reaches("n2", Gate::Soak);
    story.passes(&on("n2"));
    assert_eq!(story.gate(&Subject::Cluster), Some(Gate::Finalize));
    story.passes(&Subject::Cluster);
    assert!(story.migration().is_finished());
    story.keeps_the_invariants();
    assert!(due_of(&story).iter().all(|work| matches!(work, Work::ArchiveOperation { .. })));
}

#[test]
fn whatever_an_operation_says_the_next_step_is_to_look() {
    for outcome in [Outcome::Succeeded, Outcome::Failed, Outcome::Unknown] {
        let mut story = Story::of(&["n1"]);
        story.reaches("n1", Gate::RemoveAdmission);
        story.does_what_a_gate_needs("n1", Gate::RemoveAdmission);
        story.passes(&on("n1"));
        assert_eq!(*story.phase(&on("n1")), Phase::Operating);
        story.operation_ends("n1", outcome);
        assert_eq!(story.gate(&on("n1")), Some(Gate::Removal), "{outcome:?}");
    }
}

#[test]
fn success_without_evidence_is_held_with_the_reasons() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    let exists = Verdict::fail("Node n1 exists");
    let need = Gate::Removal.needs().iter().position(|need| need.check == Check::NodeAbsent);
    while story.gate(&on("n1")) == Some(Gate::Removal) {
        story.all_but(&on("n1"), need.unwrap(), &exists);
        story.waits(Span::from_secs(10));
    }
    let Phase::Held { why, resume } = story.phase(&on("n1")) else {
        panic!("{:?}", story.phase(&on("n1")));
    };
    assert_eq!(*resume, Step::Ask(Gate::Removal));
    let contradicted = |blocker: &Blocker| {
        matches!(blocker, Blocker::Contradicted { check: Check::NodeAbsent, .. })
    };
    assert!(why.iter().all(contradicted), "{why:?}");
    assert_eq!(why.len(), 2, "each API server contradicts: {why:?}");
    // A person deletes the Node and asks again: nothing is submitted twice.
    let by = "ann".to_owned();
    story.asks(Request::Retry { subject: on("n1"), resubmit: false, by });
    story.passes(&on("n1"));
    assert_eq!(story.intended("n1", Kind::Remove), 1);
    assert_eq!(story.gate(&on("n1")), Some(Gate::Reinstall));
}

#[test]
fn an_operation_that_did_nothing_is_made_again_under_another_name_when_a_person_says_so() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    story.waits(Span::from_mins(16));
    let by = "ann".to_owned();
    story.asks(Request::Retry { subject: on("n1"), resubmit: true, by });
    assert_eq!(story.gate(&on("n1")), Some(Gate::RemoveAdmission), "admitted on new evidence");
    story.does_what_a_gate_needs("n1", Gate::RemoveAdmission);
    story.passes(&on("n1"));
    let names: Vec<_> = story.node("n1").operations.iter().map(|op| &op.intent.name).collect();
    assert_eq!(names, ["prod-rm-n1-a1", "prod-rm-n1-a2"]);
}

#[test]
fn an_absence_is_believed_after_the_whole_window_and_a_relapse_begins_it_again() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    let subject = on("n1");
    let absent = Gate::Removal.needs().iter().position(|need| need.check == Check::NodeAbsent);
    let absent = absent.unwrap();
    let fine = Verdict::pass("fine");
    let begun = story.now;
    while story.now.since(begun) < Span::from_secs(80) {
        story.all_but(&subject, absent, &fine);
        story.now = story.now + Span::from_secs(10);
    }
    assert_eq!(story.gate(&subject), Some(Gate::Removal), "80 s of absence are not 90");
    story.all_but(&subject, absent, &Verdict::fail("Node n1 is back"));
    story.now = story.now + Span::from_secs(10);
    let relapse = story.now;
    while story.gate(&subject) == Some(Gate::Removal) {
        story.all_but(&subject, absent, &fine);
        story.now = story.now + Span::from_secs(10);
        assert!(story.now.since(relapse) < Span::from_mins(10), "it never passes");
    }
    assert!(story.now.since(relapse) >= Span::from_secs(90), "the window began again");
}

#[test]
fn answers_to_another_round_of_a_stranger_or_from_before_the_question_count_for_nothing() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Cordon);
    let subject = on("n1");
    let needs = Gate::Cordon.needs().iter();
    let right = needs.flat_map(|need| story.answers_to(&subject, need, Verdict::pass("fine")));
    let right: Vec<Evidence> = right.collect();
    let spoil: [fn(&mut Evidence); 4] = [
        |answer| answer.round = Round(answer.round.0 - 1),
        |answer| answer.round = Round(answer.round.0 + 1),
        |answer| answer.observed_at = rehull_shared::time::Timestamp::from_millis(1),
        |answer| answer.source = Source::ApiServer("10.6.6.6:6443".into()),
    ];
    for spoil in spoil {
        let mut answers = right.clone();
        answers.iter_mut().for_each(spoil);
        let before = story.log.len();
        story.hears(&subject, answers);
        assert_eq!(story.names_since(before), Vec::<&str>::new());
    }
    story.hears(&subject, right);
    assert_ne!(story.gate(&subject), Some(Gate::Cordon));
}

#[test]
fn a_manual_reinstall_goes_on_with_the_enrolment_and_the_word_of_a_person_in_any_order() {
    for confirm_first in [true, false] {
        let mut story = Story::of(&["n1"]);
        story.reaches("n1", Gate::Reinstall);
        story.does_what_a_gate_needs("n1", Gate::Reinstall);
        let confirm = Request::ConfirmReinstalled { node: node("n1"), by: "ann".into() };
        let refused = story.tries(Command::Of(prod(), confirm.clone()));
        assert!(matches!(refused, Err(Refusal::NotNow { .. })), "G5 and G6 come first");
        story.passes(&on("n1"));
        assert!(matches!(story.phase(&on("n1")), Phase::Reinstalling(_)));
        if confirm_first {
            story.asks(confirm);
            story.waits(Span::from_mins(5));
            assert!(matches!(story.phase(&on("n1")), Phase::Reinstalling(_)), "a word is no proof");
            story.enrols("n1");
        } else {
            story.enrols("n1");
            assert!(matches!(story.phase(&on("n1")), Phase::Reinstalling(_)));
            story.asks(confirm);
        }
        assert_eq!(story.gate(&on("n1")), Some(Gate::Os));
    }
}

#[test]
fn a_wrong_system_is_reinstalled_again_after_a_new_farewell() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Os);
    story.waits(Span::from_mins(16));
    assert!(matches!(story.phase(&on("n1")), Phase::Held { resume: Step::Ask(Gate::Os), .. }));
    let by = "ann".to_owned();
    story.asks(Request::Retry { subject: on("n1"), resubmit: true, by });
    assert_eq!(story.gate(&on("n1")), Some(Gate::Reinstall));
    assert!(due_of(&story).contains(&Work::Farewell { node: node("n1") }));
    story.does_what_a_gate_needs("n1", Gate::Reinstall);
    story.passes(&on("n1"));
    assert!(matches!(story.phase(&on("n1")), Phase::Reinstalling(_)), "the old enrolment is stale");
    story.reaches("n1", Gate::JoinAdmission);
}

#[test]
fn an_installer_is_told_another_number_only_when_a_person_wants_another_reinstall() {
    let mut plan = plan();
    plan.installer = Installer::Command { program: "/opt/reinstall".into(), args: Vec::new() };
    let mut story = Story::with(plan, &["n1"]);
    let authorised = |story: &mut Story| {
        story.does_what_a_gate_needs("n1", Gate::Reinstall);
        story.passes(&on("n1"));
        installs(story)
    };
    story.reaches("n1", Gate::Reinstall);
    assert_eq!(authorised(&mut story), [1]);
    story.waits(Span::from_mins(91));
    assert!(matches!(story.phase(&on("n1")), Phase::Held { resume: Step::Reinstall, .. }));
    story.retries(on("n1"), false);
    assert_eq!(installs(&story), [1], "a look does nothing again");
    story.waits(Span::from_mins(91));
    story.retries(on("n1"), true);
    assert_eq!(story.gate(&on("n1")), Some(Gate::Reinstall), "admitted on new evidence");
    assert_eq!(authorised(&mut story), [2]);
    story.enrols("n1");
    assert_eq!(story.gate(&on("n1")), Some(Gate::Os));
    story.waits(Span::from_mins(16));
    story.retries(on("n1"), true);
    assert_eq!(authorised(&mut story), [3]);
}

/// The numbers of the reinstalls that are due.
fn installs(story: &Story) -> Vec<u32> {
    let number = |work| match work {
        Work::Install { attempt, .. } => Some(attempt.0),
        _ => None,
    };
    due_of(story).into_iter().filter_map(number).collect()
}

/// Found by a random walk: a host that was reinstalled once more between G7 and the join.
#[test]
fn a_system_that_enrols_after_another_was_verified_is_verified_itself_before_it_joins() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::JoinAdmission);
    story.enrols("n1");
    story.does_what_a_gate_needs("n1", Gate::JoinAdmission);
    story.passes(&on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Os), "nobody has looked at this system");
    assert_eq!(story.intended("n1", Kind::Join), 0);
    story.reaches("n1", Gate::Join);
}

fn revoke(name: &str) -> Request {
    Request::RevokeAgent { node: node(name), by: "ann".into() }
}

#[test]
fn a_revoked_agent_is_believed_in_nothing_that_is_still_open() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Preflight);
    let before = story.log.len();
    story.asks(revoke("n1"));
    assert_eq!(story.names_since(before), ["AgentRevoked", "EvidenceRequested"]);
    let again = story.tries(Command::Of(prod(), revoke("n1")));
    assert_eq!(again.map(|events| events.len()), Ok(0), "once is enough");
    let unknown = story.tries(Command::Of(prod(), revoke("n7"))).unwrap_err().to_string();
    assert!(unknown.contains("no host has been invited"), "{unknown}");
    assert_eq!(story.fleet.agent_of(&prod(), &node("n1")), None);
    story.enrols("n1");
    assert!(story.fleet.agent_of(&prod(), &node("n1")).is_some());
}

#[test]
fn a_revoked_enrolment_proves_no_reinstall_and_lets_no_node_join() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Reinstall);
    story.does_what_a_gate_needs("n1", Gate::Reinstall);
    story.passes(&on("n1"));
    story.enrols("n1");
    story.asks(revoke("n1"));
    story.asks(Request::ConfirmReinstalled { node: node("n1"), by: "ann".into() });
    assert!(matches!(story.phase(&on("n1")), Phase::Reinstalling(_)), "nobody has enrolled");
    story.enrols("n1");
    assert_eq!(story.gate(&on("n1")), Some(Gate::Os));

    story.reaches("n1", Gate::JoinAdmission);
    story.does_what_a_gate_needs("n1", Gate::JoinAdmission);
    story.asks(revoke("n1"));
    story.passes(&on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Os), "whom it was verified for is not trusted");
    assert_eq!(story.intended("n1", Kind::Join), 0);
    story.enrols("n1");
    story.reaches("n1", Gate::Join);
}

#[test]
fn an_enrolment_while_held_is_not_forgotten() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Reinstall);
    story.does_what_a_gate_needs("n1", Gate::Reinstall);
    story.passes(&on("n1"));
    story.waits(Span::from_mins(91));
    let why = vec![Blocker::NotEnrolled { announced: false }];
    assert_eq!(*story.phase(&on("n1")), Phase::Held { why, resume: Step::Reinstall });
    story.enrols("n1");
    story.asks(Request::Retry { subject: on("n1"), resubmit: false, by: "ann".into() });
    story.asks(Request::ConfirmReinstalled { node: node("n1"), by: "ann".into() });
    assert_eq!(story.gate(&on("n1")), Some(Gate::Os));
}

#[test]
fn an_operation_that_does_not_start_is_withdrawn_and_then_looked_at() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::RemoveAdmission);
    story.does_what_a_gate_needs("n1", Gate::RemoveAdmission);
    story.passes(&on("n1"));
    let name = "prod-rm-n1-a1".to_owned();
    let (uid, others) = ("u".to_owned(), 12);
    story.reports(Report::Submitted { node: node("n1"), name: name.clone(), uid, others });
    story.waits(Span::from_secs(175));
    assert_eq!(*story.phase(&on("n1")), Phase::Operating, "12 others: it may start 60 s later");
    story.waits(Span::from_secs(10));
    let progress = &story.node("n1").operation().unwrap().progress;
    assert!(matches!(progress, Progress::Withdrawing { .. }), "{progress:?}");
    assert!(due_of(&story).iter().any(|work| matches!(work, Work::WithdrawOperation { .. })));
    let seen = "withdrawn".to_owned();
    let outcome = Outcome::Unknown;
    let extent = Extent::NotStarted;
    story.reports(Report::Ended { node: node("n1"), name, outcome, seen, extent });
    assert_eq!(story.gate(&on("n1")), Some(Gate::Removal));
}

#[test]
fn a_pause_rests_at_safe_points_only() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    story.asks(Request::Pause { by: "ann".into() });
    story.passes(&on("n1"));
    let next = Step::Ask(Gate::Reinstall);
    assert_eq!(*story.phase(&on("n1")), Phase::Ready { next }, "verified: a safe point");
    story.waits(Span::from_mins(600));
    assert_eq!(*story.phase(&on("n1")), Phase::Ready { next }, "a pause has no deadline");
    story.asks(Request::Resume { by: "ann".into() });
    story.reaches("n1", Gate::Join);
    story.asks(Request::Pause { by: "ann".into() });
    story.passes(&on("n1"));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Metadata), "a joined node is not left half done");
}

#[test]
fn plans_that_cannot_be_carried_out_are_refused_and_nothing_happens() {
    type Spoil = fn(&mut rehull::domain::plan::Plan);
    let spoil: [(Spoil, &str); 6] = [
        (|plan| plan.api_servers.clear(), "apiServers"),
        (|plan| plan.target = plan.source.clone(), "spec.source and spec.target"),
        (|plan| plan.policy.absence_window = Span::from_secs(5), "absenceWindow = 5s"),
        (|plan| plan.policy.max_out = 0, "maxOut"),
        (|plan| plan.policy.max_out = 17, "maxOut: from 1 to 16"),
        (|plan| plan.policy.poll_interval = Span::from_secs(60), "pollInterval"),
    ];
    for (spoil, word) in spoil {
        let mut story = Story::default();
        let mut plan = plan();
        spoil(&mut plan);
        let nodes = rehull_tests::story::nodes(&["n1"]);
        let (id, plan, by) = (uuid::Uuid::nil(), Box::new(plan), "ann".to_owned());
        let before = story.fleet.clone();
        let refused = story.tries(Command::Of(prod(), Request::Start { id, plan, nodes, by }));
        let Err(refusal @ Refusal::BadPlan { .. }) = refused else { panic!("{word}: {refused:?}") };
        assert!(refusal.to_string().contains(word), "{refusal}");
        assert_eq!(story.fleet, before);
    }
}

#[test]
fn values_under_their_floor_need_a_reason_and_keep_it() {
    let mut plan = plan();
    plan.policy.absence_window = Span::from_secs(5);
    plan.unsafe_because = Some("a testbed".into());
    let story = Story::with(plan, &["n1"]);
    assert_eq!(story.migration().plan.unsafe_because.as_deref(), Some("a testbed"));
}

#[test]
fn tokens_let_one_host_in_once_and_not_for_ever() {
    let mut story = Story::of(&["n1"]);
    let enrol = |token: &str| {
        let token_sha256 = token.to_owned();
        let identity = Default::default();
        Command::Of(prod(), Request::Enrol { node: node("n1"), token_sha256, identity })
    };
    let used = story.tries(enrol("t")).unwrap_err().to_string();
    assert!(used.contains("it has been used"), "{used}");
    let expires = story.now + Span::from_mins(1);
    let token = rehull::domain::state::Token { sha256: "u".into(), expires };
    story.asks(Request::IssueToken { node: node("n1"), token, by: "ann".into() });
    assert!(story.tries(enrol("t")).unwrap_err().to_string().contains("not its token"));
    story.now = expires;
    assert!(story.tries(enrol("u")).unwrap_err().to_string().contains("expired"));
}
