//! Random walks over the rules with a lying, slow, crashing world; the invariants, written apart,
//! must hold in every log. `SEED=` repeats one walk.

use std::collections::BTreeSet;

use rehull::domain::{
    approval::Item,
    command::{Command, Report, Request},
    event::{Event, Recorded},
    gate::Gate,
    plan::{Hook, JoinCanary, Plan},
    state::{Deletion, Extent, Fleet, Leftovers, Outcome, Phase, Process, Subject},
};
use rehull_shared::{
    evidence::{Check, Verdict},
    ids::Round,
    time::Span,
};
use rehull_tests::{
    chance::Chance,
    invariants,
    story::{Story, node, on, plan},
};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// Every other walk has two nodes under way at the same time, behind its canary.
fn names(seed: u64) -> &'static [&'static str] {
    if seed.is_multiple_of(2) { &NODES[..2] } else { &NODES }
}

fn some_name(story: &Story, chance: &mut Chance) -> &'static str {
    NODES[chance.below(story.migration().nodes.len() as u64) as usize]
}

fn some_subject(story: &Story, chance: &mut Chance) -> Subject {
    let nodes = story.migration().nodes.len() as u64;
    if chance.below(nodes + 1) == 0 { Subject::Cluster } else { on(some_name(story, chance)) }
}

/// One random thing: an answer, true or not; a report, true or not; a person; time; a crash.
fn step(story: &mut Story, chance: &mut Chance) {
    let subject = some_subject(story, chance);
    let name = some_name(story, chance);
    let by = "ann".to_owned();
    let request = match chance.below(27) {
        0 | 1 if looks_at_operation(story, &subject) => return nothing_happened(story, &subject),
        2 if looks_at_operation(story, &subject) => return all_but_one(story, &subject, chance),
        0..=8 => return answer(story, &subject, chance),
        9 => Request::Retry { subject, resubmit: chance.below(2) == 0, by },
        10 => Request::ConfirmReinstalled { node: node(name), by },
        11 if chance.below(4) == 0 => Request::Pause { by },
        11 | 12 => Request::Resume { by },
        13 => {
            let token_sha256 = ["t", "wrong"][chance.below(2) as usize].to_owned();
            Request::Enrol { node: node(name), token_sha256, identity: Default::default() }
        }
        14 if chance.below(6) == 0 => Request::RevokeAgent { node: node(name), by },
        14 => {
            let expires = story.now + Span::from_mins(chance.below(60) as u32);
            let token = rehull::domain::state::Token { sha256: "t".into(), expires };
            Request::IssueToken { node: node(name), token, by }
        }
        15 => {
            let mut replayed = Fleet::default();
            story.log.iter().for_each(|event| replayed.evolve(event).expect("a log replays"));
            assert_eq!(replayed, story.fleet, "a crash changes nothing");
            story.when(Command::TakeLeadership);
            return;
        }
        16 => {
            let patience = [1, 60, 1_000, 8_000][chance.below(4) as usize];
            story.now = story.now + Span::from_secs(patience);
            story.when(Command::Tick);
            return;
        }
        17 if chance.below(8) == 0 => Request::Abort { subject, by },
        18 if chance.below(4) == 0 => Request::Hold { subject, why: "why".into(), by },
        19 => {
            let wanted = Request::DeleteNode { node: node(name), by };
            _ = story.tries(Command::Of(rehull_tests::story::prod(), wanted));
            return all_but_one(story, &on(name), chance);
        }
        21 => {
            let (identity, what) = ("PersistentVolume 1".to_owned(), "PersistentVolume".to_owned());
            let item = Item { check: Check::DataElsewhere, identity, what };
            let until = story.now + Span::from_mins(chance.below(60) as u32);
            match chance.below(3) {
                0 => Request::Disapprove { subject, items: vec![item.id()], by },
                _ => {
                    let (items, why, typed) = (vec![item], "why".into(), name.to_owned());
                    Request::Approve { subject, items, why, until, by, typed }
                }
            }
        }
        20 => Request::RollBack { node: node(name), go_on: chance.below(2) == 0, by },
        _ => return report(story, name, chance),
    };
    _ = story.tries(Command::Of(rehull_tests::story::prod(), request));
}

/// Answers all needs of the open gate: mostly well, so that walks get somewhere.
fn answer(story: &mut Story, subject: &Subject, chance: &mut Chance) {
    let Some(gate) = story.gate(subject) else { return };
    let mood = chance.below(10);
    if mood < 6 {
        let name = match subject {
            Subject::Node(name) => name.as_str().to_owned(),
            Subject::Cluster => "n1".to_owned(),
        };
        story.does_what_a_gate_needs(&name, gate);
        return story.passes(subject);
    }
    for need in gate.needs() {
        let verdict = match chance.below(4) {
            0 => Verdict::fail("no"),
            1 => Verdict::unknown("who knows"),
            _ => Verdict::pass("yes"),
        };
        let mut answers = story.answers_to(subject, need, verdict);
        for late in answers.iter_mut().filter(|_| mood == 9) {
            late.round = Round(late.round.0.saturating_sub(1));
        }
        story.hears(subject, answers);
    }
    story.now = story.now + Span::from_secs(10);
}

fn looks_at_operation(story: &Story, subject: &Subject) -> bool {
    matches!(story.gate(subject), Some(Gate::Removal | Gate::Join | Gate::Rejoin))
}

/// Everybody contradicts everything that the open gate asks, as after an operation that did nothing.
fn nothing_happened(story: &mut Story, subject: &Subject) {
    let Some(gate) = story.gate(subject) else { return };
    for need in gate.needs() {
        let answers = story.answers_to(subject, need, Verdict::fail("no"));
        story.hears(subject, answers);
    }
    story.now = story.now + Span::from_secs(25);
}

/// Everybody contradicts one thing, as when one thing is left of a node.
fn all_but_one(story: &mut Story, subject: &Subject, chance: &mut Chance) {
    let Some(gate) = story.gate(subject) else { return };
    let node = gate.needs().iter().position(|need| need.check == Check::NodeAbsent);
    let any = chance.below(gate.needs().len() as u64) as usize;
    let spoilt = node.filter(|_| chance.below(2) == 0).unwrap_or(any);
    story.all_but(subject, spoilt, &Verdict::fail("no"));
}

/// Reports about whatever operation or order is open: true or not, in any order.
fn report(story: &mut Story, name: &str, chance: &mut Chance) {
    let owner = node(name);
    let seen = "seen".to_owned();
    if story.migration().switching().is_some() && chance.below(2) == 0 {
        story.switches_protection(chance.below(2) == 0);
        return;
    }
    if let Leftovers::Ordered { order, .. } = story.node(name).leftovers.clone() {
        story.reports(Report::LeftoversAnswered { node: owner, order, seen });
        return;
    }
    if let Deletion::Ordered { uid } = story.node(name).deletion.clone() {
        story.reports(Report::NodeDeletionAnswered { node: owner, uid, seen });
        return;
    }
    if story.gate(&on(name)) == Some(Gate::Removal) {
        let comm = "runc".to_owned();
        let processes = vec![Process { pid: 7, start_ticks: 1, comm, exe: String::new() }];
        story.reports(Report::Leftovers { node: owner, processes });
        return;
    }
    let Some(operation) = story.node(name).operation().map(|op| op.intent.name.clone()) else {
        return;
    };
    let (uid, others, pod) = ("uid".to_owned(), 0, "pod".to_owned());
    let outcome = [Outcome::Succeeded, Outcome::Failed, Outcome::Unknown];
    let outcome = outcome[chance.below(3) as usize];
    let extents = [Extent::Unknown, Extent::NotStarted, Extent::NotReset, Extent::Reset];
    let extent = extents[chance.below(4) as usize];
    let name = operation;
    story.reports(match chance.below(4) {
        0 => Report::Submitted { node: owner, name, uid, others },
        1 => {
            let (pod_node, image_id) = (String::new(), String::new());
            Report::Started { node: owner, name, pod, pod_node, image_id }
        }
        2 => Report::Ended { node: owner, name, outcome, seen, extent },
        _ => Report::Archived { node: owner, name, seen, extent },
    });
}

/// A plan whose automatic attempts come within a walk's short days.
fn hasty(max_out: u32, protected: bool) -> Plan {
    let mut plan = plan();
    plan.protection = protected.then(|| Hook { args: Vec::new() });
    plan.join_canary = protected.then(|| JoinCanary { image: "busybox:1.36".to_owned() });
    plan.policy.max_out = max_out;
    plan.policy.resubmit_after = vec![Span::from_secs(20), Span::from_secs(40)];
    plan.unsafe_because = Some("a walk".to_owned());
    plan
}

fn walk(seed: u64) -> Walked {
    let names = names(seed);
    let mut story = Story::with(hasty(names.len() as u32 - 1, seed.is_multiple_of(3)), names);
    if names.len() > 2 {
        // The canary goes alone: the walk begins behind it.
        story.reaches("n1", Gate::Soak);
        story.passes(&on("n1"));
    }
    let mut chance = Chance(seed);
    for _ in 0..2_000 {
        step(&mut story, &mut chance);
        if story.migration().is_finished() {
            break;
        }
    }
    if let Err(violation) = invariants::check(&story.log, &plan().api_servers) {
        panic!("SEED={seed}: {violation}");
    }
    Walked {
        together: together(&story.log),
        done: names[names.len() - 2..].iter().any(|name| *story.phase(&on(name)) == Phase::Done),
        resubmitted: story
            .log
            .iter()
            .any(|recorded| recorded.event.name() == "OperationResubmitted"),
        deleted: story.log.iter().any(|recorded| recorded.event.name() == "NodeDeletionOrdered"),
        rolled_back: names.iter().any(|name| {
            story.node(name).is_rolled_back() && *story.phase(&on(name)) == Phase::Aborted
        }),
        aborted: story.log.iter().any(|recorded| recorded.event.name() == "NodeAborted"),
    }
}

/// Whether two nodes were out at the same time.
fn together(log: &[Recorded]) -> bool {
    let mut out = BTreeSet::new();
    log.iter().any(|recorded| {
        match &recorded.event {
            Event::OperationIntended { node, .. } => _ = out.insert(node),
            Event::NodeFinished { node } | Event::NodeAborted { node } => _ = out.remove(node),
            _ => (),
        }
        out.len() > 1
    })
}

/// What a walk has seen.
struct Walked {
    done: bool,
    together: bool,
    aborted: bool,
    rolled_back: bool,
    deleted: bool,
    resubmitted: bool,
}

#[test]
fn invariants_hold_on_random_walks() {
    if let Ok(seed) = std::env::var("SEED") {
        walk(seed.parse().expect("SEED is a number"));
        return;
    }
    let walks: Vec<Walked> = (0..150).map(walk).collect();
    // A walk that never gets anywhere would keep every invariant.
    let finished = walks.iter().filter(|walked| walked.done).count();
    assert!(finished > 15, "only {finished} of 150 walks finished a node");
    let together = walks.iter().filter(|walked| walked.together).count();
    assert!(together > 15, "in only {together} of 150 walks two nodes were out at the same time");
    let aborted = walks.iter().filter(|walked| walked.aborted).count();
    assert!(aborted > 15, "only {aborted} of 150 walks gave a node up");
    let rolled_back = walks.iter().filter(|walked| walked.rolled_back).count();
    assert!(rolled_back > 5, "only {rolled_back} of 150 walks rolled a node back");
    let deleted = walks.iter().filter(|walked| walked.deleted).count();
    assert!(deleted > 5, "only {deleted} of 150 walks deleted a Node");
    let resubmitted = walks.iter().filter(|walked| walked.resubmitted).count();
    assert!(resubmitted > 5, "only {resubmitted} of 150 walks resubmitted by themselves");
}
