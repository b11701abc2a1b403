//! What something waits for, in one sentence.

use rehull_shared::{
    ids::NodeName,
    text::bounded,
    time::{Span, Timestamp},
};

use super::{
    View,
    sentences::{gate_name, step},
    states, time_of_day,
};
use crate::{
    agents::Refused,
    domain::{
        calendar::Closed,
        gate::Blocker,
        plan::Installer,
        state::{Extent, Migration, Node, Outcome, Phase, Progress, Reinstall, Subject},
    },
};

/// Longest sentence, in bytes.
const SENTENCE_MAX: usize = 300;

/// How long it is told that somebody was refused.
const REFUSED_MAX: Span = Span::from_mins(5);

/// Why something cannot go on, in words; with the time, also how long it still takes.
pub fn blocker(why: &Blocker, now: Option<Timestamp>) -> String {
    match why {
        Blocker::Contradicted { check, source, seen } => format!("{check}: {source} saw: {seen}"),
        Blocker::Unknown { check, source, why } => format!("{check}: {source} cannot say: {why}"),
        Blocker::Silent { check, source } => format!("{check}: {source} has not answered"),
        Blocker::Stale { check, source, limit } => {
            format!("{check}: the answer of {source} is older than {limit}")
        }
        Blocker::TooShort { check, source, since, window } => {
            let left = now.map(|now| (*since + *window).since(now));
            let left = left.map_or_else(String::new, |left| format!(", {left} to go"));
            let since = time_of_day(*since);
            format!("{check}: {source} has seen it since {since}, needs {window}{left}")
        }
        Blocker::NotEnrolled { announced: true } => {
            "the reinstall was announced, but the new system has not enrolled".to_owned()
        }
        Blocker::NotEnrolled { announced: false } => {
            "the host was to be reinstalled, but no new system has enrolled".to_owned()
        }
        Blocker::Operation { name, outcome, extent, resubmitted } => {
            operation_words(name, *outcome, *extent, *resubmitted)
        }
        Blocker::QuorumAtRisk { seen } => {
            format!("another member of etcd ailed while this one was away: {seen}")
        }
        Blocker::Trouble { work, why } => {
            format!("rehull itself could not {}: {why}", of_work(work))
        }
        Blocker::HeldBy { by, why } => format!("{by} holds it: {why}"),
    }
}

/// What rehull itself does, in words: of the name of a [`Work`](crate::domain::effect::Work).
pub(super) fn of_work(name: &str) -> String {
    name.replace('-', " ")
}

fn operation_words(name: &str, outcome: Outcome, extent: Extent, resubmitted: u32) -> String {
    let how_far = match extent {
        Extent::Unknown => "nobody knows how far it got",
        Extent::NotStarted => "nothing of it has ever run",
        Extent::NotReset => "its log says that it ended before the reset of the host",
        Extent::Reset => "its log says that the reset of the host had begun",
    };
    let tried = match resubmitted {
        0 => String::new(),
        n => format!("; {n} more attempts were made by themselves"),
    };
    format!("operation {name} {outcome}: {how_far}{tried}")
}

/// The reason that explains the others: how far an operation got, if it did not get to its end. With it
/// what rehull itself could not do, which may be what lies behind it, or come of it. Then how many more
/// there are.
pub(super) fn reasons(why: &[Blocker], now: Option<Timestamp>) -> (String, usize) {
    let operation = why.iter().find(|why| matches!(why, Blocker::Operation { .. }));
    let trouble = why.iter().find(|why| matches!(why, Blocker::Trouble { .. }));
    let mut told: Vec<&Blocker> = operation.or(why.first()).into_iter().collect();
    told.extend(trouble.filter(|trouble| !told.contains(trouble)));
    let words: Vec<String> = told.iter().map(|why| blocker(why, now)).collect();
    (words.join("; "), why.len() - told.len())
}

fn list(why: &[Blocker], now: Timestamp) -> String {
    match reasons(why, Some(now)) {
        (words, 0) => words,
        (words, more) => format!("{words}; and {more} more"),
    }
}

/// One sentence: what a subject waits for. Empty if for nothing.
pub(super) fn waits_for(view: &View<'_>, migration: &Migration, subject: &Subject) -> String {
    let Some(track) = migration.track(subject) else { return String::new() };
    let paused = migration.paused_by.as_ref();
    let text = match (&track.phase, subject) {
        (Phase::Done | Phase::Aborted, _) => String::new(),
        (Phase::Held { why, resume }, _) => {
            format!("a person, to {}: {}", step(*resume), list(why, view.now))
        }
        (Phase::Ready { next }, _) => match paused {
            Some(by) if migration.may_rest(subject, *next) => {
                format!("a resume: {by} has paused it before it can {}", step(*next))
            }
            _ => match migration.operating().filter(|_| next.is_about_operations()) {
                Some(other) => {
                    format!("the operations of {}, to {}", other.planned.name, step(*next))
                }
                None => format!("nothing; next it will {}", step(*next)),
            },
        },
        (Phase::Asking { gate, .. }, _) => {
            let why = blockers(view, migration, subject);
            let again = subject.node().map(|name| again(view, migration, name)).unwrap_or_default();
            format!("{}: {}{again}", gate_name(*gate), list(&why, view.now))
        }
        (Phase::Working, _) => working(view, migration),
        (_, Subject::Cluster) => String::new(),
        (phase, Subject::Node(name)) => {
            let Some(node) = migration.node(name) else { return String::new() };
            match phase {
                Phase::Operating => operating(node),
                Phase::Reinstalling(reinstall) => reinstalling(view, migration, node, reinstall),
                _ => turn(view, migration),
            }
        }
    };
    let text = match track.hold.as_ref() {
        Some(hold) => {
            let of = &migration.plan.cluster;
            let whom = match subject {
                Subject::Cluster => of.to_string(),
                Subject::Node(name) => format!("{of} {name}"),
            };
            let when = match hold {
                Blocker::QuorumAtRisk { .. } => ", when it is well again",
                _ => "",
            };
            format!(
                "{text} [to be held at the next safe point: {}; `rehull migrate retry {whom}` takes \
                 that back{when}]",
                blocker(hold, None)
            )
        }
        None => text,
    };
    let text = match trouble(view, migration, subject) {
        Some(trouble) => format!("{text} [trouble: {trouble}]"),
        None => text,
    };
    bounded(&text, SENTENCE_MAX)
}

/// Everything that keeps a subject's open gate shut now; or the reasons of its hold.
pub(super) fn blockers(view: &View<'_>, migration: &Migration, subject: &Subject) -> Vec<Blocker> {
    match migration.track(subject).map(|track| &track.phase) {
        Some(Phase::Asking { gate, asked, dossier }) => {
            let verdict = migration.bench(subject).judge(*gate, *asked, dossier, view.now);
            verdict.err().unwrap_or_default()
        }
        Some(Phase::Held { why, .. }) => why.clone(),
        _ => Vec::new(),
    }
}

/// When another attempt is made by itself, if one may be.
fn again(view: &View<'_>, migration: &Migration, name: &NodeName) -> String {
    let node = migration.node(name);
    let due = node.and_then(|node| Some((migration.resubmission(node)?, node.resubmitted + 1)));
    let Some((at, number)) = due else { return String::new() };
    let of = migration.plan.policy.resubmit_after.len();
    let at = super::moment(at, view.now);
    format!(" [if it is seen to have done nothing, attempt {number} of {of} by itself at {at}]")
}

fn working(view: &View<'_>, migration: &Migration) -> String {
    let mut active = migration.nodes.iter().filter(|node| node.is_active());
    let held = active.clone().find(|node| matches!(node.track.phase, Phase::Held { .. }));
    match (held, active.next(), &migration.paused_by) {
        (Some(node), _, _) => format!("a person: {} is held", node.planned.name),
        (None, Some(node), _) => {
            let state = states::of_node(view.fleet, &migration.plan.cluster, node);
            format!("{} ({state})", node.planned.name)
        }
        (None, None, Some(by)) => format!("a resume: {by} has paused it between two nodes"),
        (None, None, None) => closed(view, migration).unwrap_or_else(|| "its next node".to_owned()),
    }
}

/// When the calendar lets the next node begin, if not now.
fn closed(view: &View<'_>, migration: &Migration) -> Option<String> {
    let (calendar, length) = (&migration.plan.calendar, migration.node_length());
    let frozen = calendar.freeze(length, view.now);
    let why = frozen.map_or_else(String::new, |freeze| format!(" (freeze: {})", freeze.why));
    Some(match calendar.admits(length, view.now).err()? {
        Closed::Until(at) => {
            let at = super::moment(at, view.now);
            format!("{at} UTC, when a node that takes {length} may begin{why}")
        }
        Closed::TooLong(length) => format!("{}{why}", too_long(length)),
    })
}

/// What is missing where no window is long enough.
pub fn too_long(length: Span) -> String {
    format!("a window that is long enough: a node is expected to take {length}")
}

fn turn(view: &View<'_>, migration: &Migration) -> String {
    let mut active = migration.nodes.iter().filter(|node| node.is_active());
    if migration.track.phase != Phase::Working {
        return "its turn: the cluster itself is not ready".to_owned();
    }
    match (active.next(), &migration.paused_by) {
        (Some(node), _) => format!("its turn: {} is under way", node.planned.name),
        (None, Some(by)) => format!("a resume: {by} has paused the migration"),
        (None, None) => closed(view, migration).unwrap_or_else(|| "its turn".to_owned()),
    }
}

fn operating(node: &Node) -> String {
    let Some(operation) = node.operation() else { return String::new() };
    let name = &operation.intent.name;
    match &operation.progress {
        Progress::Intended => format!("operation {name} to be created"),
        Progress::Submitted { others: 0, .. } => format!("a pod of operation {name} to start"),
        Progress::Submitted { others, .. } => {
            format!("a pod of operation {name} to start, beside {others} other operations")
        }
        Progress::Withdrawing { .. } => {
            format!("operation {name}, which did not start in time, to be withdrawn")
        }
        Progress::Started { pod, .. } => format!("operation {name} to end (pod {pod})"),
        Progress::Ended { .. } => "nothing".to_owned(),
    }
}

fn reinstalling(
    view: &View<'_>,
    migration: &Migration,
    node: &Node,
    reinstall: &Reinstall,
) -> String {
    let enrolled = view.fleet.enrolled_after_farewell(&migration.plan.cluster, node).is_some();
    let manual = migration.plan.installer == Installer::Manual;
    match (&reinstall.progress, reinstall.announced_by.is_some(), enrolled) {
        (_, true, _) => "the agent of the new system to enrol".to_owned(),
        (_, false, true) if manual => {
            "a person to confirm that this host was meant: its new system has enrolled".to_owned()
        }
        (_, false, _) if manual => {
            "a person to reinstall the host, and its new system to enrol".to_owned()
        }
        (Some((percent, seen)), _, _) => {
            format!("the installer ({percent} %: {seen}), and the new system to enrol")
        }
        (None, _, _) => "the installer, and the new system to enrol".to_owned(),
    }
}

/// What stands in the way of the effects of a subject, if anything.
pub(super) fn trouble<'a>(
    view: &'a View<'_>,
    migration: &Migration,
    subject: &Subject,
) -> Option<&'a str> {
    let of_subject = view.troubles.iter().find(|(effect, _)| {
        effect.cluster == migration.plan.cluster && effect.work.subject() == *subject
    });
    of_subject.map(|(_, trouble)| trouble.as_str())
}

/// Who asks in vain to be a node's agent, and what to do about it. An agent asks again every 30 s at
/// the most; one that is not heard of has gone.
pub(super) fn refused(
    view: &View<'_>,
    migration: &Migration,
    subject: &Subject,
) -> Option<[String; 2]> {
    let Subject::Node(node) = subject else { return None };
    let cluster = &migration.plan.cluster;
    let refused = view.refused.get(&(cluster.clone(), node.clone()))?;
    let (at, Refused { from, why, .. }) = (time_of_day(refused.at), refused);
    (view.now.since(refused.at) <= REFUSED_MAX).then(|| {
        let token = format!(
            "rehull agent token {cluster} {node}  # if {from} is {node}, reinstalled since its \
             token was used: put this one into its /etc/rehull-agent/token"
        );
        [format!("{from} asked at {at} to be its agent: {why}"), token]
    })
}
