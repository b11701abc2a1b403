//! What something waits for, in one sentence, and what would unblock it.

use rehull_shared::{
    evidence::{Check, Source},
    ids::{ClusterName, NodeName},
    text::bounded,
    time::Timestamp,
};

use super::{
    View,
    sentences::{gate_name, step},
    states, time_of_day,
    words::of_check,
};
use crate::domain::{
    calendar::Closed,
    gate::{Blocker, Gate},
    plan::{Access, Installer},
    state::{Extent, Migration, Node, Outcome, Phase, Progress, Reinstall, Step, Subject},
};

/// Longest sentence, in bytes.
const SENTENCE_MAX: usize = 300;

/// Remedies shown at the most: who reads more than this has read none.
const REMEDIES_MAX: usize = 12;

/// What helps where nothing stands in the way.
const GOES_ON: &str = "nothing: it goes on by itself";

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
        Blocker::HeldBy { by, why } => format!("{by} holds it: {why}"),
    }
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

fn list(why: &[Blocker], now: Timestamp) -> String {
    let first = why.first().map_or_else(String::new, |why| blocker(why, Some(now)));
    match why.len() {
        0 | 1 => first,
        n => format!("{first}; and {} more", n - 1),
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
            Some(by) if next.is_safe_to_rest_before() => {
                format!("a resume: {by} has paused it before it can {}", step(*next))
            }
            _ => format!("nothing; next it will {}", step(*next)),
        },
        (Phase::Asking { gate, .. }, _) => {
            let why = blockers(view, migration, subject);
            let again = match subject {
                Subject::Node(name) => again(view, migration, name),
                Subject::Cluster => String::new(),
            };
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
        Some(Blocker::HeldBy { by, why }) => {
            format!("{text} [to be held at the next safe point, says {by}: {why}]")
        }
        _ => text,
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
        Closed::TooLong(length) => {
            format!("a window that is long enough: a node is expected to take {length}{why}")
        }
    })
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

/// What would unblock a subject: commands, as they are typed, and actions, most useful first. What
/// follows a `#` says why, and a shell skips it. Never empty: where nobody needs to do anything, it
/// says so.
pub(super) fn unblock(view: &View<'_>, migration: &Migration, subject: &Subject) -> Vec<String> {
    let Some(track) = migration.track(subject) else { return Vec::new() };
    let cluster = &migration.plan.cluster;
    let mut help = remedies(&blockers(view, migration, subject), migration, subject);
    match &track.phase {
        Phase::Held { why, resume } => retries(cluster, subject, why, *resume, &mut help),
        Phase::Reinstalling(reinstall) => {
            let manual = migration.plan.installer == Installer::Manual;
            let lines = reinstall_help(cluster, subject, manual, reinstall);
            help.extend(lines.iter().map(|text| filled(text, migration, subject)));
        }
        Phase::Planned if migration.track.phase != Phase::Working => {
            help.push(format!("rehull explain {cluster}  # the cluster comes before its nodes"));
        }
        Phase::Working | Phase::Planned => {
            let mut active = migration.nodes.iter().filter(|node| node.is_active());
            help.extend(active.next().map(|node| explain(cluster, node)));
        }
        Phase::Operating => {
            let lines = operation_help(migration, subject);
            help.extend(lines.iter().map(|text| filled(text, migration, subject)));
        }
        Phase::Ready { .. } | Phase::Asking { .. } | Phase::Done | Phase::Aborted => (),
    }
    help.extend(abort_help(migration, subject));
    if migration.paused_by.is_some() && !track.phase.is_over() {
        help.push(format!("rehull migrate resume {cluster}"));
    }
    if help.is_empty() {
        help.push(match &track.phase {
            Phase::Done => "nothing: it is done".to_owned(),
            Phase::Aborted => "nothing: it was given up".to_owned(),
            _ => GOES_ON.to_owned(),
        });
    }
    help
}

/// How something that is held can be given up, where that is still possible.
fn abort_help(migration: &Migration, subject: &Subject) -> Option<String> {
    let held = matches!(migration.track(subject)?.phase, Phase::Held { .. });
    let cluster = &migration.plan.cluster;
    match subject {
        Subject::Cluster => {
            let open = held && migration.aborted_by.is_none() && migration.out().next().is_none();
            open.then(|| format!("rehull migrate abort {cluster}  # give the migration up"))
        }
        Subject::Node(name) if held && migration.node(name)?.can_be_rolled_back() => Some(format!(
            "rehull migrate resolve {cluster} {name} --rollback-join: put it back with the system \
             that it still has"
        )),
        Subject::Node(name) => {
            let node = migration.node(name)?;
            let open = held && !node.is_out() && !node.is_given_up();
            open.then(|| {
                format!(
                    "rehull migrate abort {cluster} {name}  # put it back, and go on without it"
                )
            })
        }
    }
}

fn explain(cluster: &ClusterName, node: &Node) -> String {
    format!("rehull explain {cluster} {}", node.planned.name)
}

fn remedies(why: &[Blocker], migration: &Migration, subject: &Subject) -> Vec<String> {
    let mut help: Vec<String> = Vec::new();
    let mut add = |text: &str| {
        let text = filled(text, migration, subject);
        if !help.contains(&text) && help.len() < REMEDIES_MAX {
            help.push(text);
        }
    };
    for why in why {
        match why {
            Blocker::Contradicted { check, .. } => {
                of_check(*check).remedy.iter().for_each(|text| add(text));
            }
            // What is unknown may well be fine: first somebody must be able to say so.
            Blocker::Unknown { check, source, .. }
            | Blocker::Silent { check, source }
            | Blocker::Stale { check, source, .. } => {
                ask_source(*check, source).iter().for_each(|text| add(text));
            }
            Blocker::TooShort { .. } => add(GOES_ON),
            Blocker::NotEnrolled { .. } => {
                add("rehull agent token {cluster} {node}  # for the new system");
                add("ssh {address} journalctl -u rehull-agent  # why it did not enrol");
            }
            Blocker::Operation { name, extent, .. } => {
                let namespace = &migration.plan.namespace;
                match extent {
                    Extent::Reset => add(
                        "ssh {address}  # finish what it began: what the other reasons say is left",
                    ),
                    Extent::Unknown => {
                        add("ssh {address}  # look what it has done, before it is repeated")
                    }
                    Extent::NotStarted => {
                        add(&format!(
                            "kubectl -n {namespace} get job,pod -l job-name=kubean-{name}-job"
                        ));
                    }
                    Extent::NotReset => add(
                        "rehull log export | grep {node}  # its archived log says why it failed",
                    ),
                }
            }
            Blocker::HeldBy { by, .. } => add(&format!("{by} knows whether it may go on")),
        }
    }
    help
}

/// What helps when a source does not answer.
fn ask_source(check: Check, source: &Source) -> Vec<String> {
    match source {
        Source::Agent(_) => vec![
            "ssh {address} systemctl status rehull-agent".to_owned(),
            "rehull agent list {cluster}".to_owned(),
            "rehull agent token {cluster} {node}  # if it never enrolled, or was revoked".into(),
        ],
        Source::ApiServer(address) => {
            vec![format!("kubectl --server=https://{address} get --raw=/readyz")]
        }
        Source::Management => {
            vec!["kubectl {management} get clusters.kubean.io {cluster}".to_owned()]
        }
        Source::Coordinator => {
            vec![format!("journalctl -u rehull | grep warn  # why it could not answer {check}")]
        }
    }
}

fn filled(text: &str, migration: &Migration, subject: &Subject) -> String {
    let node = match subject {
        Subject::Node(name) => migration.node(name),
        Subject::Cluster => None,
    };
    let (name, address) = node.map_or(("<node>", "<address>"), |node| {
        (node.planned.name.as_str(), node.planned.address.as_str())
    });
    // `retry` of the cluster itself has no node: no word, and no space before it.
    let text =
        if node.is_none() { text.replace(" {cluster} {node}", " {cluster}") } else { text.into() };
    let text = match text.strip_prefix("kubectl {management} ") {
        Some(rest) if migration.plan.management.kubeconfig.is_none() && !rest.contains('#') => {
            format!("kubectl {rest}  # in the management cluster")
        }
        Some(rest) => format!("{} {rest}", kubectl(&migration.plan.management)),
        None => match text.strip_prefix("kubectl ") {
            Some(rest) => format!("{} {rest}", kubectl(&migration.plan.workload)),
            None => text,
        },
    };
    text.replace("{cluster}", migration.plan.cluster.as_str())
        .replace("{namespace}", &migration.plan.namespace)
        .replace("{node}", name)
        .replace("{address}", address)
}

/// The program with what the document says of how a cluster is reached.
fn kubectl(access: &Access) -> String {
    let file = access.kubeconfig.iter().map(|file| format!(" --kubeconfig {file}"));
    let context = access.context.iter().map(|context| format!(" --context {context}"));
    std::iter::once("kubectl".to_owned()).chain(file).chain(context).collect()
}

fn retries(
    cluster: &ClusterName,
    subject: &Subject,
    why: &[Blocker],
    resume: Step,
    help: &mut Vec<String>,
) {
    let node = match subject {
        Subject::Cluster => String::new(),
        Subject::Node(node) => format!(" {node}"),
    };
    let by_person = why.iter().any(|why| matches!(why, Blocker::HeldBy { .. }));
    let again = if by_person { "go on" } else { "look again" };
    help.push(format!("rehull migrate retry {cluster}{node}  # {again}"));
    let node_is_there =
        why.iter().any(|why| matches!(why, Blocker::Contradicted { check: Check::NodeAbsent, .. }));
    if resume == Step::Ask(Gate::Removal) && node_is_there {
        help.push(format!(
            "rehull migrate resolve {cluster}{node} --delete-node  # delete the Node that was \
             recorded, and no other, once its host is proved to be clean"
        ));
    }
    if resume.retried(true) != resume {
        let what = match resume {
            Step::Ask(Gate::Removal) => "run the removal again",
            Step::Ask(Gate::Join | Gate::Rejoin) => "run the join again",
            _ => "do it again",
        };
        help.push(format!("rehull migrate retry {cluster}{node} --resubmit  # {what}"));
    }
}

fn reinstall_help(
    cluster: &ClusterName,
    subject: &Subject,
    manual: bool,
    reinstall: &Reinstall,
) -> Vec<String> {
    let Subject::Node(node) = subject else { return Vec::new() };
    let token = format!("rehull agent token {cluster} {node}  # for the agent of the new system");
    match (manual, reinstall.announced_by.is_some()) {
        (true, false) => vec![
            token,
            format!("reinstall {node}, with its name, its address and that token"),
            format!("rehull migrate confirm-reinstalled {cluster} {node}"),
        ],
        _ => vec![
            token,
            "ssh {address} journalctl -u rehull-agent  # why the new system has not enrolled"
                .into(),
        ],
    }
}

fn operation_help(migration: &Migration, subject: &Subject) -> Vec<String> {
    let Subject::Node(node) = subject else { return Vec::new() };
    let Some(operation) = migration.node(node).and_then(Node::operation) else { return Vec::new() };
    let name = &operation.intent.name;
    vec![
        format!("kubectl {{management}} get clusteroperation {name}"),
        format!("kubectl {{management}} -n {{namespace}} logs job/kubean-{name}-job"),
        "nothing: when it ends, or its time is over, rehull looks at what it did".to_owned(),
    ]
}
