//! What a demo remembers of its events: enough to say what caught each fault, and by which words.

use std::collections::BTreeMap;

use rehull_shared::{
    evidence::Verdict,
    time::{Span, Timestamp},
};

use crate::{
    domain::{
        event::{Event, Recorded},
        gate::Blocker,
        state::{Step, Subject},
    },
    engine::Published,
    history::History,
    projection,
    rehearsal::{faults::Fault, person::Deed},
};

/// One fault, and what became of it.
#[derive(Clone, Debug)]
pub struct Caught {
    /// Its name.
    pub fault: &'static str,
    /// What happens, in a sentence.
    pub story: &'static str,
    /// The cluster.
    pub cluster: String,
    /// The node that it struck.
    pub node: String,
    /// How it was caught; `None` if it was not.
    pub caught: Option<Catch>,
}

/// How a fault was caught.
#[derive(Clone, Debug)]
pub struct Catch {
    /// The gate, as in `G5 Removal`.
    pub gate: String,
    /// The words that an operator read.
    pub words: String,
    /// How long after the beginning.
    pub after: Span,
    /// What resolved it.
    pub resolved: String,
}

/// What was seen so far.
#[derive(Default)]
pub(super) struct Record {
    seen: u64,
    begin: Option<Timestamp>,
    pub(super) evidence: usize,
    clusters: BTreeMap<String, String>,
    /// By node: contradictions and what was done about survivors.
    traces: BTreeMap<String, Vec<Trace>>,
}

enum Trace {
    Held { at: Timestamp, why: Vec<Blocker>, resume: Step },
    Denied { at: Timestamp, words: String, check: rehull_shared::evidence::Check },
    Killed { seen: String },
}

impl Record {
    /// Takes in what is new, and gives it, in order.
    pub(super) fn take(&mut self, history: &History, published: &Published) -> Vec<Recorded> {
        let mut news: Vec<(u64, Recorded)> = published
            .fleet
            .migrations
            .keys()
            .flat_map(|cluster| history.of(cluster))
            .filter(|(sequence, _)| *sequence > self.seen)
            .map(|(sequence, recorded)| (sequence, (*recorded).clone()))
            .collect();
        news.sort_by_key(|(sequence, _)| *sequence);
        self.seen = published.sequence;
        let news: Vec<Recorded> = news.into_iter().map(|(_, recorded)| recorded).collect();
        news.iter().for_each(|recorded| self.note(recorded));
        news
    }

    fn note(&mut self, recorded: &Recorded) {
        let at = recorded.at;
        self.begin.get_or_insert(at);
        let cluster = recorded.cluster.as_ref().map(ToString::to_string).unwrap_or_default();
        match &recorded.event {
            Event::NodePlanned { node } => {
                self.clusters.insert(node.name.to_string(), cluster);
            }
            Event::EvidenceRecorded { subject, evidence } => {
                self.evidence += 1;
                if let (Verdict::Fail(seen), Subject::Node(_)) = (&evidence.verdict, subject) {
                    let words = format!("{}: {} saw: {seen}", evidence.check, evidence.source);
                    self.trace(subject, Trace::Denied { at, words, check: evidence.check });
                }
            }
            Event::Held { subject, why, resume } => {
                self.trace(subject, Trace::Held { at, why: why.clone(), resume: *resume });
            }
            Event::LeftoversAnswered { node, seen, .. } => {
                let seen = seen.clone();
                self.trace(&Subject::Node(node.clone()), Trace::Killed { seen });
            }
            _ => (),
        }
    }

    fn trace(&mut self, subject: &Subject, trace: Trace) {
        self.traces.entry(subject.to_string()).or_default().push(trace);
    }

    /// What became of each fault.
    pub(super) fn verdicts(&self, faults: &BTreeMap<String, Fault>, deeds: &[Deed]) -> Vec<Caught> {
        let mut all: Vec<(&Fault, &String)> = faults.iter().map(|(node, f)| (f, node)).collect();
        all.sort();
        let verdict = |(fault, node): (&Fault, &String)| Caught {
            fault: fault.name(),
            story: fault.story(),
            cluster: self.clusters.get(node).cloned().unwrap_or_default(),
            node: node.clone(),
            caught: self.catch(*fault, node, deeds),
        };
        all.into_iter().map(verdict).collect()
    }

    fn catch(&self, fault: Fault, node: &str, deeds: &[Deed]) -> Option<Catch> {
        let (gate, check) = fault.caught_by();
        let traces = self.traces.get(node)?;
        let (at, words, resolved) = if fault == Fault::SurvivingProcess {
            // rehull resolves this one itself: the agent kills what the removal has left.
            let denied = traces.iter().find_map(|trace| match trace {
                Trace::Denied { at, words, check: of } if *of == check => {
                    Some((*at, words.clone()))
                }
                _ => None,
            })?;
            let killed = traces.iter().find_map(|trace| match trace {
                Trace::Killed { seen } => {
                    Some(format!("by rehull itself, through the agent: {seen}"))
                }
                _ => None,
            })?;
            (denied.0, denied.1, killed)
        } else {
            let held = traces.iter().find_map(|trace| match trace {
                Trace::Held { at, why, resume } if *resume == Step::Ask(gate) => {
                    let of = |why: &&Blocker| {
                        matches!(why, Blocker::Contradicted { check: of, .. } if *of == check)
                    };
                    Some((*at, projection::blocker(why.iter().find(of)?, None)))
                }
                _ => None,
            })?;
            let deed = deeds.iter().find(|deed| deed.node().is_some_and(|n| n.as_str() == node))?;
            (held.0, held.1, deed.words())
        };
        let number = gate.number().map_or_else(String::new, |number| format!("G{number} "));
        let after = at.since(self.begin.unwrap_or(at));
        Some(Catch { gate: format!("{number}{gate:?}"), words, after, resolved })
    }
}
