//! The deletion protection of a cluster: off before any node is touched, on again before the end, and
//! said to be off all the while.

use std::collections::BTreeMap;

use rehull::{
    domain::{
        command::Report,
        effect::{Work, due},
        event::Event,
        gate::{Blocker, Gate},
        plan::Hook,
        state::{Fleet, Phase, Step, Subject},
    },
    history::History,
    projection::{self, View},
};
use rehull_shared::{
    evidence::{Check, Verdict},
    ids::Round,
    time::Span,
};
use rehull_tests::story::{Story, node, on, plan, prod};

const CLUSTER: Subject = Subject::Cluster;

/// A story of a protected cluster with one node, in which this gate of the cluster is open.
fn at(gate: Gate) -> Story {
    let mut plan = plan();
    plan.protection = Some(Hook { args: Vec::new() });
    let mut story = Story::with(plan, &["n1"]);
    if gate == Gate::Unprotect {
        story.passes(&CLUSTER);
        story.passes(&CLUSTER);
    } else {
        story.reaches("n1", Gate::Soak);
        story.passes(&on("n1"));
        story.passes(&CLUSTER);
    }
    assert_eq!(story.gate(&CLUSTER), Some(gate));
    story
}

/// What is to be done about the protection: whether it is to be on, and for which round.
fn switching(fleet: &Fleet) -> Option<(bool, Round)> {
    due(fleet).into_iter().find_map(|effect| match effect.work {
        Work::SwitchProtection { on, round } => Some((on, round)),
        _ => None,
    })
}

/// Since when status and explain say that it is off.
fn said_since(story: &Story) -> String {
    let view = View {
        fleet: &story.fleet,
        sequence: 1,
        history: &History::default(),
        troubles: &BTreeMap::new(),
        connected: &BTreeMap::new(),
        refused: &BTreeMap::new(),
        etcd: &Default::default(),
        readiness: &Default::default(),
        now: story.now,
    };
    let status = projection::status(&view, None).clusters.remove(0).unprotected_since;
    for node in [None, Some(&node("n1"))] {
        let explained = projection::explain(&view, &prod(), node).expect("it is known");
        assert_eq!(explained.unprotected_since, status);
    }
    status
}

#[test]
fn it_is_off_before_the_nodes_begin_and_on_before_the_end() {
    let mut story = at(Gate::Unprotect);
    let intended = story.now;
    let (off, round) = switching(&story.fleet).expect("the program is to be run");
    assert_eq!((off, round), (false, story.migration().track.round));
    assert_eq!(said_since(&story), intended.to_string(), "it may have run already");
    story.waits(Span::from_secs(10));
    assert_eq!(
        story.switches_protection(true),
        [Event::ProtectionAnswered { on: false, done: true, seen: "it says so".to_owned() }]
    );
    assert_eq!(switching(&story.fleet), None, "it is run once");
    story.passes(&CLUSTER);
    assert_eq!(*story.phase(&CLUSTER), Phase::Working);
    story.reaches("n1", Gate::Drain);
    assert_eq!(said_since(&story), intended.to_string(), "all the while");
    story.reaches("n1", Gate::Soak);
    story.passes(&on("n1"));
    story.passes(&CLUSTER);
    assert_eq!(switching(&story.fleet).map(|(on, _)| on), Some(true));
    assert_eq!(said_since(&story), intended.to_string(), "it was not said to be on");
    story.switches_protection(true);
    assert_eq!(said_since(&story), "");
    story.passes(&CLUSTER);
    assert_eq!(*story.phase(&CLUSTER), Phase::Done);
    story.keeps_the_invariants();
    let mut replayed = Fleet::default();
    story.log.iter().for_each(|event| replayed.evolve(event).expect("a log replays"));
    assert_eq!(replayed, story.fleet);
}

#[test]
fn what_fails_is_held_at_once_with_its_words_and_a_retry_runs_it_again() {
    for (gate, check) in
        [(Gate::Unprotect, Check::ProtectionOff), (Gate::Protect, Check::ProtectionOn)]
    {
        let mut story = at(gate);
        let (_, first) = switching(&story.fleet).expect("it is to be run");
        story.switches_protection(false);
        let Phase::Held { why, resume } = story.phase(&CLUSTER) else {
            panic!("{gate:?}: {:?}", story.phase(&CLUSTER));
        };
        assert_eq!(*resume, Step::Ask(gate));
        let Blocker::Contradicted { check: of, seen, .. } = &why[0] else { panic!("{why:?}") };
        assert_eq!((*of, seen.as_str()), (check, "it says so"));
        assert_eq!(switching(&story.fleet), None, "nobody runs it while it is held");
        assert_ne!(said_since(&story), "");
        story.retries(CLUSTER, false);
        let (_, second) = switching(&story.fleet).expect("it is run again");
        // What comes late of the first run is not what came of the second.
        let seen = "late".to_owned();
        assert_eq!(story.reports(Report::Protection { round: first, done: true, seen }), []);
        assert_eq!(switching(&story.fleet), Some((gate == Gate::Protect, second)));
        story.switches_protection(true);
        story.passes(&CLUSTER);
        let meant = if gate == Gate::Protect { Phase::Done } else { Phase::Working };
        assert_eq!(*story.phase(&CLUSTER), meant);
    }
}

#[test]
fn what_was_given_up_is_protected_again_even_if_it_only_may_be_off() {
    let mut story = at(Gate::Unprotect);
    story.aborts(CLUSTER);
    assert_eq!(switching(&story.fleet), None, "the run is cut short");
    story.passes(&CLUSTER);
    assert_eq!(story.gate(&CLUSTER), Some(Gate::Protect));
    assert_eq!(switching(&story.fleet).map(|(on, _)| on), Some(true));
    // Evidence alone does not end it: the log must say that it is on.
    let needs = Gate::Protect.needs();
    for need in needs {
        let answers = story.answers_to(&CLUSTER, need, Verdict::pass("it is on"));
        story.hears(&CLUSTER, answers);
    }
    assert_eq!(story.gate(&CLUSTER), Some(Gate::Protect));
    story.switches_protection(true);
    story.passes(&CLUSTER);
    assert_eq!(*story.phase(&CLUSTER), Phase::Aborted);
    story.keeps_the_invariants();
    // Before it was touched there is nothing to switch on.
    let mut early = Story::with(story.migration().plan.clone(), &["n1"]);
    early.aborts(CLUSTER);
    assert_eq!(*early.phase(&CLUSTER), Phase::Aborted);
}

#[test]
fn a_crash_between_the_run_and_its_answer_has_it_run_again() {
    let story = at(Gate::Unprotect);
    let mut replayed = Fleet::default();
    story.log.iter().for_each(|event| replayed.evolve(event).expect("a log replays"));
    assert_eq!(switching(&replayed), switching(&story.fleet));
    // And one that has fallen between the question and the intent.
    let last = story.log.last().expect("an event");
    assert_eq!(last.event, Event::ProtectionIntended { on: false });
    let mut torn = story.clone();
    torn.log.pop();
    torn.fleet = Fleet::default();
    torn.log.iter().for_each(|event| torn.fleet.evolve(event).expect("a log replays"));
    assert_eq!(switching(&torn.fleet), None);
    torn.waits(Span::from_secs(5));
    assert!(switching(&torn.fleet).is_some());
}

#[test]
fn where_nothing_protects_a_cluster_nothing_is_asked_or_said() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Soak);
    story.passes(&on("n1"));
    story.passes(&CLUSTER);
    assert_eq!((story.phase(&CLUSTER), said_since(&story).as_str()), (&Phase::Done, ""));
    let names = story.names_since(0);
    assert!(!names.iter().any(|name| name.starts_with("Protection")), "{names:?}");
}
