//! The gate table tests itself: every need of every gate is needed, and every wait has an end.

use rehull::domain::{
    command::{Command, Request},
    gate::Gate,
    plan::Role,
    state::{Phase, Step},
};
use rehull_shared::{
    evidence::{Evidence, Verdict, Witness},
    ids::Round,
    time::{Span, Timestamp},
};
use rehull_tests::story::{Story, need_of, on, prod};

#[test]
fn every_gate_has_needs_and_no_need_twice() {
    for (gate, role) in Story::cases() {
        let needs: Vec<_> = gate.needs_of(role).collect();
        assert!(!needs.is_empty(), "{gate:?} asks nothing");
        for (index, need) in needs.iter().enumerate() {
            let twin = needs[..index].iter().any(|other| other.check == need.check);
            assert!(!twin, "{gate:?} asks {} twice", need.check);
        }
    }
    let asked = |role| Story::cases().iter().filter(|(_, of)| *of == role).count();
    assert_eq!([Role::ControlPlane, Role::FirstControlPlane].map(asked), [16, 10]);
}

#[test]
fn a_gate_passes_with_all_answers_and_without_any_one_of_them_it_does_not() {
    for (gate, role) in Story::cases() {
        let (story, subject) = Story::at_role(gate, role);
        assert_eq!(story.gate(&subject), Some(gate));
        let mut fine = story.clone();
        fine.passes(&subject);
        assert_ne!(fine.gate(&subject), Some(gate), "{gate:?} does not pass");
        for (spoilt, need) in story.needs(&subject).into_iter().enumerate() {
            for verdict in [Verdict::fail("no"), Verdict::unknown("who knows")] {
                let mut story = story.clone();
                let is_held = |story: &Story| matches!(story.phase(&subject), Phase::Held { .. });
                for _ in 0..20 {
                    if !is_held(&story) {
                        story.all_but(&subject, spoilt, &verdict);
                    }
                    story.now = story.now + Span::from_secs(10);
                }
                let still = story.gate(&subject) == Some(gate) || is_held(&story);
                assert!(still, "{gate:?} passed although {} is {verdict:?}", need.check);
            }
        }
    }
}

#[test]
fn one_spoilt_answer_of_one_witness_blocks() {
    type Spoil = fn(&mut Evidence, Timestamp);
    let spoils: [(&str, Spoil); 4] = [
        ("stale", |answer, now| {
            answer.observed_at = Timestamp::from_millis(now.as_millis() - 3_000_000)
        }),
        ("from the future", |answer, now| answer.observed_at = now + Span::from_mins(1)),
        ("of another round", |answer, _| answer.round = Round(answer.round.0 + 1)),
        ("failed", |answer, _| answer.verdict = Verdict::fail("no")),
    ];
    for (gate, role) in Story::cases() {
        let (story, subject) = Story::at_role(gate, role);
        for (word, spoil) in &spoils {
            let mut story = story.clone();
            for need in story.needs(&subject) {
                let mut answers = story.answers_to(&subject, need, Verdict::pass("fine"));
                if let Some(last) = answers.last_mut() {
                    spoil(last, story.now);
                }
                story.hears(&subject, answers);
            }
            assert_eq!(story.gate(&subject), Some(gate), "{gate:?} passed on answers {word}");
        }
    }
}

#[test]
fn silence_at_any_gate_ends_in_held_with_a_reason_for_every_need() {
    for (gate, role) in Story::cases() {
        let (mut story, subject) = Story::at_role(gate, role);
        let needs = story.needs(&subject).len();
        let patience = gate.deadline(&story.migration().plan.policy, true, role);
        story.waits(patience + Span::from_secs(10));
        let Phase::Held { why, resume } = story.phase(&subject).clone() else {
            panic!("{gate:?} waits for ever: {:?}", story.phase(&subject));
        };
        assert_eq!(resume, Step::Ask(gate));
        assert!(why.len() >= needs, "{gate:?}: {why:?}");
        // And a person's retry asks the same gate again.
        let by = "ann".to_owned();
        let retry = Request::Retry { subject: subject.clone(), resubmit: false, by };
        story.when(Command::Of(prod(), retry));
        assert_eq!(story.gate(&subject), Some(gate));
    }
}

#[test]
fn an_operation_or_a_reinstall_that_never_ends_is_not_waited_for_for_ever() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::RemoveAdmission);
    story.does_what_a_gate_needs("n1", Gate::RemoveAdmission);
    story.passes(&on("n1"));
    assert_eq!(*story.phase(&on("n1")), Phase::Operating);
    story.waits(Span::from_mins(21));
    assert_eq!(story.gate(&on("n1")), Some(Gate::Removal), "withdrawn, given up, looked at");
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Reinstall);
    story.does_what_a_gate_needs("n1", Gate::Reinstall);
    story.passes(&on("n1"));
    story.waits(Span::from_mins(91));
    assert!(matches!(story.phase(&on("n1")), Phase::Held { .. }));
}

#[test]
fn other_words_for_the_same_no_are_kept_now_and_then_and_the_same_words_seldom() {
    let need = need_of(Gate::Drain, Witness::ApiServers).expect("API servers are asked");
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Drain);
    let mut says = |words: &str, wait: u32| {
        story.waits(Span::from_secs(wait));
        let answers = story.answers_to(&on("n1"), need, Verdict::fail(words));
        let before = story.log.len();
        story.hears(&on("n1"), answers.into_iter().take(1).collect());
        story.names_since(before).contains(&"EvidenceRecorded")
    };
    assert!(says("ten pods are left", 0));
    assert!(!says("nine pods are left", 10));
    assert!(says("eight pods are left", 5));
    assert!(!says("eight pods are left", 55));
    assert!(says("eight pods are left", 5));
}
