//! What it means that rehull and the scheduler agree.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use rehull::capacity::{Finding, Report, What};
use rehull_shared::evidence::Check;

use crate::{drain::Outcome, world::Place};

/// Of a hundred clusters, in how many rehull may be stricter than the scheduler turned out to be.
const STRICT_PERCENT: u64 = 7;
/// Of a hundred clusters, in how many the scheduler may not come to rest: it forgets a pod at times
/// for which others were preempted.
const UNDECIDED_PERCENT: u64 = 2;
/// Of a hundred clusters, in how many at least everything must fit, and in how many not.
const MIX_PERCENT: u64 = 25;
/// Fewer clusters prove nothing about shares.
const FEW: u64 = 50;

/// Words of filters that come first and do not look at other pods.
const STATIC: [&str; 3] = ["unschedulable", "untolerated taint", "node affinity/selector"];

/// What a comparison says of one cluster.
pub(crate) enum Judgement {
    /// Both say the same.
    Agree(&'static str),
    /// Rehull is stricter, as its documentation has it.
    Strict(&'static str),
    /// One of them is wrong.
    Wrong(String),
}

/// All comparisons.
#[derive(Default)]
pub(crate) struct Tally {
    /// Clusters without a pod to move.
    pub(crate) idle: u64,
    /// Clusters in which the scheduler did not come to rest.
    pub(crate) undecided: u64,
    agree: BTreeMap<&'static str, u64>,
    strict: BTreeMap<&'static str, u64>,
    wrong: u64,
    fit: u64,
    /// Pods that had to move.
    movers: usize,
    /// Pods that waited for a node before.
    waiting: usize,
    /// Pods that were left without a node.
    left: usize,
    /// Pods that rehull said might be.
    named: usize,
    /// Those of them that were.
    named_left: usize,
    /// Refusals that were compared word by word.
    words: u64,
}

/// Whether a finding is about where pods go.
pub(crate) fn is_about_capacity(finding: &Finding) -> bool {
    finding.check() == Check::CapacityElsewhere
}

impl Tally {
    /// Compares what rehull said of a node with what has become of its pods.
    pub(crate) fn judge(&mut self, node: &str, report: &Report, outcome: &Outcome) -> Judgement {
        self.movers += outcome.movers;
        self.waiting += outcome.waiting;
        let is_left = |pod: &str| matches!(outcome.moved.get(pod), Some(Place::Nowhere(_)));
        let left = outcome.moved.keys().filter(|pod| is_left(pod)).count();
        self.left += left;
        self.fit += u64::from(left == 0);
        let named = named(report, |what| *what != What::MayComeBack);
        self.named += named.len();
        self.named_left += named.iter().filter(|pod| is_left(pod)).count();
        let mut judgement = judge(node, report, outcome);
        for (said, heard) in words(report, outcome) {
            self.words += 1;
            if said != heard {
                let why = format!("other words: {said:?}, but the scheduler's are {heard:?}");
                judgement = Judgement::Wrong(why);
            }
        }
        match &judgement {
            Judgement::Agree(kind) => *self.agree.entry(kind).or_default() += 1,
            Judgement::Strict(kind) => *self.strict.entry(kind).or_default() += 1,
            Judgement::Wrong(_) => self.wrong += 1,
        }
        judgement
    }

    /// Whether they agree well enough.
    pub(crate) fn verdict(&self, clusters: u64) -> Result<(), String> {
        let strict: u64 = self.strict.values().sum();
        let agree: u64 = self.agree.values().sum();
        if self.wrong > 0 {
            return Err(format!("{} clusters are wrong", self.wrong));
        }
        if clusters < FEW {
            return Ok(());
        }
        if self.undecided * 100 > clusters * UNDECIDED_PERCENT {
            return Err("the scheduler too often does not come to rest".to_owned());
        }
        if strict * 100 > clusters * STRICT_PERCENT {
            return Err(format!("rehull is too strict in {strict} clusters"));
        }
        let least = clusters * MIX_PERCENT;
        if self.fit * 100 < least || (strict + agree - self.fit) * 100 < least {
            return Err("the clusters are too much alike".to_owned());
        }
        Ok(())
    }
}

fn judge(node: &str, report: &Report, outcome: &Outcome) -> Judgement {
    let certain =
        named(report, |what| matches!(what, What::Pinned { .. } | What::CannotRestart { .. }));
    // A pod that bears a cordon may come back, also one that may run nowhere else.
    let may_come_back = named(report, |what| *what == What::MayComeBack);
    let is_right = |pod: &String| match outcome.moved.get(pod) {
        Some(Place::Nowhere(_)) => true,
        Some(Place::On(other)) => other == node && may_come_back.contains(pod),
        _ => false,
    };
    if let Some(pod) = certain.iter().find(|pod| !is_right(pod)) {
        return Judgement::Wrong(format!("{pod} has found a node in spite of what rehull says"));
    }
    let mut left = outcome
        .moved
        .iter()
        .filter(|(pod, place)| !certain.contains(*pod) && matches!(place, Place::Nowhere(_)));
    let left = left.next();
    let doubted: Vec<&What> = report
        .findings
        .iter()
        .map(|one| &one.what)
        .filter(|what| matches!(what, What::DoesNotFit { .. } | What::MayNotFit { .. }))
        .collect();
    match (doubted.is_empty(), left) {
        (true, Some((pod, _))) => {
            Judgement::Wrong(format!("UNSAFE: {pod} has no node, and rehull did not say so"))
        }
        (true, None) if !certain.is_empty() => Judgement::Agree("all but pods of this node fit"),
        (true, None) if report.placement.ways == 0 => Judgement::Agree("all fit: proven"),
        (true, None) => Judgement::Agree("all fit: tried"),
        (false, Some(_)) if doubted.iter().any(|what| matches!(what, What::DoesNotFit { .. })) => {
            Judgement::Agree("some do not fit")
        }
        (false, Some(_)) => Judgement::Agree("some may not fit, and did not"),
        (false, None) => stricter(node, &doubted, outcome),
    }
}

/// Pods of which rehull said some things about where they may go.
fn named(report: &Report, is: impl Fn(&What) -> bool) -> BTreeSet<String> {
    let found = report.findings.iter().filter(|one| is_about_capacity(one));
    found.filter(|one| is(&one.what)).map(|one| one.about.to_string()).collect()
}

/// Why rehull may have doubted that all would fit, which they did.
fn stricter(node: &str, doubted: &[&What], outcome: &Outcome) -> Judgement {
    let on = |is: &dyn Fn(&str) -> bool| {
        outcome.moved.values().any(|place| matches!(place, Place::On(node) if is(node)))
    };
    let preempting = |what: &&What| matches!(what, What::DoesNotFit { preempting: true, .. });
    if on(&|other| other == node) {
        Judgement::Strict("a pod came back to the cordoned node")
    } else if on(&|other| outcome.closed.contains(other)) {
        Judgement::Strict("a node that is not Ready took a pod")
    } else if outcome.preempted > 0 && doubted.iter().any(preempting) {
        Judgement::Strict("pods of lower priority went, and found another node")
    } else if doubted.iter().all(|what| matches!(what, What::MayNotFit { .. })) {
        Judgement::Strict("some might not have fitted in another order")
    } else if outcome.movers + outcome.waiting > 1 {
        Judgement::Strict("the scheduler placed them better")
    } else {
        Judgement::Wrong("the only pod has found a node, and rehull said that it would not".into())
    }
}

/// Why pods have no node, in the words of both: all of the words if no other pod has got one, else
/// those of filters that do not look at other pods.
fn words(report: &Report, outcome: &Outcome) -> Vec<(BTreeSet<String>, BTreeSet<String>)> {
    let is_left = |place: &Place| matches!(place, Place::Nowhere(_));
    let all_left = outcome.moved.values().all(is_left) && outcome.placed_others == 0;
    let at_once = outcome.movers == 1 || !outcome.one_by_one;
    let as_before = all_left && at_once && outcome.preempted == 0;
    let may_come_back = named(report, |what| *what == What::MayComeBack);
    let mut words = Vec::new();
    for finding in &report.findings {
        let (What::DoesNotFit { refusals, .. } | What::MayNotFit { refusals, .. }) = &finding.what
        else {
            continue;
        };
        let Some(Place::Nowhere(heard)) = outcome.moved.get(&finding.about.to_string()) else {
            continue;
        };
        let said = refusals.to_string();
        // The scheduler leaves that to taints, and has shorter words for what a name rules out; and
        // it does not refuse the cordoned node for one that may come back.
        if said.contains("not ready")
            || heard.contains("didn't satisfy plugin(s)")
            || may_come_back.contains(&finding.about.to_string())
        {
            continue;
        }
        let reasons = |text: &str| -> BTreeSet<String> {
            let text = text.split(". ").next().unwrap_or_default().trim_end_matches('.');
            let reasons = text.split_once(": ").map_or(text, |(_, reasons)| reasons).split(", ");
            let kept = reasons.filter(|one| as_before || STATIC.iter().any(|is| one.contains(is)));
            kept.map(str::to_owned).collect()
        };
        words.push((reasons(&said), reasons(heard)));
    }
    words
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agree(kind) => write!(f, "both say: {kind}"),
            Self::Strict(kind) => write!(f, "rehull is stricter: {kind}"),
            Self::Wrong(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |kinds: &BTreeMap<&str, u64>| kinds.values().sum::<u64>();
        writeln!(f, "{:4} agree", sum(&self.agree))?;
        for (kind, count) in &self.agree {
            writeln!(f, "     {count:4} {kind}")?;
        }
        writeln!(f, "{:4} where rehull is stricter", sum(&self.strict))?;
        for (kind, count) in &self.strict {
            writeln!(f, "     {count:4} {kind}")?;
        }
        writeln!(f, "{:4} wrong", self.wrong)?;
        writeln!(f, "{:4} without a pod to move", self.idle)?;
        writeln!(f, "{:4} in which the scheduler did not come to rest", self.undecided)?;
        let (movers, left, words) = (self.movers, self.left, self.words);
        writeln!(f, "all found a node in {} clusters; {left} of {movers} pods did not", self.fit)?;
        writeln!(f, "rehull named {}, {} of them rightly", self.named, self.named_left)?;
        writeln!(f, "{} pods waited for a node before", self.waiting)?;
        writeln!(f, "{words} refusals were compared word by word")
    }
}
