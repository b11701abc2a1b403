//! What a rehearsal remembers of its events: how each node went, what was held and by which words,
//! and what caught each fault.

use rehull_shared::{
    evidence::{Check, Verdict},
    time::{Span, Timestamp},
};
use serde::Serialize;

use super::{
    faults::{Fault, Faults, Sign},
    person::Deed,
};
use crate::{
    domain::{
        event::{Event, Recorded},
        gate::{Blocker, Gate},
        state::{Step, Subject},
    },
    engine::{Error, Handle},
    projection::{self, gate_name},
};

/// One fault, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Caught {
    /// Its name.
    pub fault: &'static str,
    /// The part of the failure catalogue that it belongs to.
    pub family: &'static str,
    /// What happens, in a sentence.
    pub story: &'static str,
    /// The cluster.
    pub cluster: String,
    /// The node that it struck.
    pub node: String,
    /// How it was caught; `None` if it was not.
    pub caught: Option<Catch>,
}

impl Caught {
    /// What a person reads of it, behind its number; every line after the first is indented.
    pub fn words(&self, indent: usize) -> String {
        let Self { fault, node, story, caught, .. } = self;
        let mut lines = vec![format!("{fault}, on {node}: {story}")];
        match caught {
            Some(Catch { gate, words, after, resolved }) => lines.extend([
                format!("caught    {after} in, at gate {gate}"),
                format!("words     {words}"),
                format!("resolved  {resolved}"),
            ]),
            None => lines.push("NOT CAUGHT".to_owned()),
        }
        lines.join(&format!("\n{:indent$}", "")) + "\n"
    }
}

/// How a fault was caught, or something held.
#[derive(Clone, Debug, Serialize)]
pub struct Catch {
    /// The gate, as in `G5 Removal`.
    pub gate: String,
    /// The words that an operator read.
    pub words: String,
    /// How long after the beginning.
    pub after: Span,
    /// What resolved it; empty if nothing did.
    pub resolved: String,
}

/// One thing that was held.
#[derive(Clone, Debug, Serialize)]
pub struct Hold {
    /// The cluster.
    pub cluster: String,
    /// The node; empty for the cluster itself.
    pub node: String,
    /// The fault that it is due to; empty if it is due to the cluster as it is.
    pub fault: &'static str,
    /// Where it goes on when it is asked to, as in `G5 Removal`.
    pub gate: String,
    /// How long after the beginning.
    pub after: Span,
    /// Every reason, in the words that an operator reads.
    pub why: Vec<String>,
    /// What a person did about it; empty if nothing helped.
    pub resolved: String,
}

/// How one node went.
#[derive(Clone, Debug, Serialize)]
pub struct Went {
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub node: String,
    /// `done`, `left out`, `under way` or `not begun`.
    pub state: &'static str,
    /// How long after the beginning it began.
    pub began: Option<Span>,
    /// How long it took, to its end or that of the rehearsal.
    pub took: Option<Span>,
    /// Pods that were evicted.
    pub evicted: u32,
}

/// What was seen so far.
#[derive(Default)]
pub(super) struct Record {
    seen: u64,
    begin: Option<Timestamp>,
    last: Timestamp,
    pub(super) evidence: usize,
    pub(super) nodes: Vec<Went>,
    traces: Vec<(Timestamp, String, Subject, Trace)>,
}

enum Trace {
    Held { why: Vec<Blocker>, resume: Step },
    Denied { words: String, check: Check },
    Mended { seen: String },
    Accepted { words: String },
}

impl Record {
    /// Takes in what is new on disk, and gives it, in order.
    pub(super) async fn take(&mut self, handle: &Handle) -> Result<Vec<Recorded>, Error> {
        let (end, mut news) = (handle.published().sequence, Vec::new());
        while self.seen < end {
            for (sequence, recorded) in handle.read(self.seen + 1).await? {
                self.seen = sequence;
                self.note(&recorded);
                news.push(recorded);
            }
        }
        Ok(news)
    }

    fn note(&mut self, recorded: &Recorded) {
        let at = recorded.at;
        let begin = *self.begin.get_or_insert(at);
        self.last = at;
        let cluster = recorded.cluster.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut trace = |subject: &Subject, trace| {
            self.traces.push((at, cluster.clone(), subject.clone(), trace));
        };
        let end = |went: &mut Went, state| {
            went.state = state;
            went.took = went.began.map(|began| at.since(begin + began));
        };
        let went = |nodes: &'_ mut Vec<Went>, change: &dyn Fn(&mut Went)| {
            let node = recorded.event.node().map(ToString::to_string);
            let mut all = nodes.iter_mut().filter(|one| one.cluster == cluster);
            all.find(|one| Some(&one.node) == node.as_ref()).map(change);
        };
        match &recorded.event {
            Event::NodePlanned { node } => self.nodes.push(Went {
                cluster,
                node: node.name.to_string(),
                state: "not begun",
                began: None,
                took: None,
                evicted: 0,
            }),
            Event::NodeStarted { .. } => went(&mut self.nodes, &|went| {
                went.state = "under way";
                went.began = Some(at.since(begin));
            }),
            Event::DrainProgressed { drain, .. } => {
                went(&mut self.nodes, &|went| went.evicted = drain.evicted);
            }
            Event::NodeFinished { .. } => went(&mut self.nodes, &|went| end(went, "done")),
            Event::NodeAborted { .. } => went(&mut self.nodes, &|went| end(went, "left out")),
            Event::EvidenceRecorded { subject, evidence } => {
                self.evidence += 1;
                if let (Verdict::Fail(seen), Subject::Node(_)) = (&evidence.verdict, subject) {
                    let words = format!("{}: {} saw: {seen}", evidence.check, evidence.source);
                    trace(subject, Trace::Denied { words, check: evidence.check });
                }
            }
            Event::Held { subject, why, resume } => {
                trace(subject, Trace::Held { why: why.clone(), resume: *resume });
            }
            Event::LeftoversAnswered { node, seen, .. }
            | Event::MemberRemovalAnswered { node, seen, .. } => {
                trace(&Subject::Node(node.clone()), Trace::Mended { seen: seen.clone() });
            }
            Event::AcceptedByEvidence { node, .. } => {
                let words = projection::sentence(recorded);
                trace(&Subject::Node(node.clone()), Trace::Accepted { words });
            }
            _ => (),
        }
    }

    /// How long the whole took, and how each node went.
    pub(super) fn went(&self) -> (Span, Vec<Went>) {
        let begin = self.begin.unwrap_or_default();
        let mut nodes = self.nodes.clone();
        for went in nodes.iter_mut().filter(|went| went.took.is_none()) {
            went.took = went.began.map(|began| self.last.since(begin + began));
        }
        (self.last.since(begin), nodes)
    }

    /// What became of each fault.
    pub(super) fn verdicts(&self, faults: &Faults, deeds: &[Deed]) -> Vec<Caught> {
        let mut all: Vec<(Fault, &String)> = faults.iter().map(|(node, f)| (*f, node)).collect();
        all.sort();
        let verdict = |(fault, node): (Fault, &String)| Caught {
            fault: fault.name(),
            family: fault.family().name(),
            story: fault.story(),
            cluster: self.cluster_of(node),
            node: node.clone(),
            caught: self.catch(fault, node, deeds),
        };
        all.into_iter().map(verdict).collect()
    }

    fn cluster_of(&self, node: &str) -> String {
        let found = self.nodes.iter().find(|went| went.node == node);
        found.map(|went| went.cluster.clone()).unwrap_or_default()
    }

    fn traces_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = (Timestamp, &'a Trace)> {
        let of = move |subject: &Subject| matches!(subject, Subject::Node(n) if n.as_str() == node);
        let traces = self.traces.iter().filter(move |(_, _, subject, _)| of(subject));
        traces.map(|(at, _, _, trace)| (*at, trace))
    }

    fn catch(&self, fault: Fault, node: &str, deeds: &[Deed]) -> Option<Catch> {
        let sign = fault.sign();
        let traces = || self.traces_of(node);
        let (at, gate, words, resolved) = match sign {
            Sign::Mended(gate, check) => {
                // rehull resolves this one itself: an agent ends what the removal has left.
                let (at, words) = traces().find_map(|(at, trace)| match trace {
                    Trace::Denied { words, check: of } if *of == check => Some((at, words)),
                    _ => None,
                })?;
                let mended = traces().find_map(|(_, trace)| match trace {
                    Trace::Mended { seen } => Some(seen),
                    _ => None,
                })?;
                let resolved = format!("by rehull itself, through the agent: {mended}");
                (at, gate_words(Step::Ask(gate)), words.clone(), resolved)
            }
            Sign::Accepted(gate) => {
                let (at, words) = traces().find_map(|(at, trace)| match trace {
                    Trace::Accepted { words } => Some((at, words.clone())),
                    _ => None,
                })?;
                let resolved = "by rehull itself: the evidence is whole".to_owned();
                (at, gate_words(Step::Ask(gate)), words, resolved)
            }
            Sign::Held(..) | Sign::NeverRan(_) | Sign::NobodyEnrolled => {
                let (at, resume, why) = traces().find_map(|(at, trace)| match trace {
                    Trace::Held { why, resume } => Some((at, *resume, shows(sign, *resume, why)?)),
                    _ => None,
                })?;
                let deed = after(deeds, at, |deed| deed.is_about(node))?;
                (at, gate_words(resume), projection::blocker(why, None), deed.words())
            }
        };
        let after = at.since(self.begin.unwrap_or(at));
        Some(Catch { gate, words, after, resolved })
    }

    /// Everything that was held, in order, with what people did about it.
    pub(super) fn holds(&self, faults: &Faults, deeds: &[Deed]) -> Vec<Hold> {
        let hold = |(at, cluster, subject, trace): &(Timestamp, String, Subject, Trace)| {
            let Trace::Held { why, resume } = trace else { return None };
            let node = subject.node().map(ToString::to_string).unwrap_or_default();
            let due = |(of, fault): &&(String, Fault)| {
                *of == node && shows(fault.sign(), *resume, why).is_some()
            };
            let same = |deed: &Deed| deed.cluster.as_str() == cluster && deed.subject == *subject;
            Some(Hold {
                cluster: cluster.clone(),
                fault: faults.iter().find(due).map_or("", |(_, fault)| fault.name()),
                node,
                gate: gate_words(*resume),
                after: at.since(self.begin.unwrap_or(*at)),
                why: why.iter().map(|why| projection::blocker(why, None)).collect(),
                resolved: after(deeds, *at, same).map(Deed::words).unwrap_or_default(),
            })
        };
        self.traces.iter().filter_map(hold).collect()
    }
}

/// The reason by which a fault shows in a hold.
fn shows(sign: Sign, resume: Step, why: &[Blocker]) -> Option<&Blocker> {
    let is_sign = |why: &&Blocker| match (sign, why) {
        (
            Sign::Held(gate, asked),
            Blocker::Contradicted { check, .. } | Blocker::Unknown { check, .. },
        ) => resume == Step::Ask(gate) && *check == asked,
        (Sign::NeverRan(gate), Blocker::Operation { .. }) => resume == Step::Ask(gate),
        (Sign::NobodyEnrolled, Blocker::NotEnrolled { .. }) => true,
        _ => false,
    };
    why.iter().find(is_sign)
}

fn after(deeds: &[Deed], at: Timestamp, is_meant: impl Fn(&Deed) -> bool) -> Option<&Deed> {
    deeds.iter().find(|deed| deed.at >= at && is_meant(deed))
}

/// A gate by its number and name, or the step that stands before one.
fn gate_words(resume: Step) -> String {
    match resume {
        Step::Ask(asked) => gate_name(asked),
        Step::Reinstall => format!("the reinstall, before {}", gate_name(Gate::Os)),
        Step::Submit(kind) => format!("the operation, before {}", gate_name(kind.verified_by())),
        Step::Finish | Step::Work => "its end".to_owned(),
    }
}
