//! What a cluster or a node waits for, since when, on what evidence, and what would unblock it.

use rehull_proto::v1::{ExplainResponse, NeedStatus};
use rehull_shared::{
    evidence::{Check, Source},
    ids::{ClusterName, NodeName},
};

use super::{
    View,
    history::is_noise,
    moment,
    remedies::unblock,
    sentences::{gate_name, sentence},
    states,
    status::unprotected_since,
    waits::{blockers, refused, trouble, waits_for},
    words::{of_check, of_gate},
};
use crate::{
    domain::{
        approval::Approval,
        event::Event,
        gate::{Blocker, Dossier, Gate, Need},
        state::{Kind, Migration, Phase, Progress, Step, Subject},
    },
    history::Numbered,
};

/// Lines of history shown.
const HISTORY_LINES: usize = 15;

/// Explains a cluster, or one of its nodes; `None` if it is not known.
pub fn explain(
    view: &View<'_>,
    cluster: &ClusterName,
    node: Option<&NodeName>,
) -> Option<ExplainResponse> {
    let migration = view.fleet.migrations.get(cluster)?;
    let subject = Subject::of(node);
    let track = migration.track(&subject)?;
    let gate = gate_of(migration, &subject);
    let state = match &subject {
        Subject::Cluster => states::of_cluster(migration),
        Subject::Node(name) => states::of_node(view.fleet, cluster, migration.node(name)?),
    };
    let mut unblock = unblock(view, migration, &subject);
    if let Some(refused) = refused(view, migration, &subject) {
        unblock.retain(|line| !line.starts_with("rehull agent token "));
        unblock.splice(0..0, refused);
    }
    if let Some(trouble) = trouble(view, migration, &subject) {
        unblock.insert(0, format!("what stands in the way of rehull itself: {trouble}"));
    }
    if let Phase::Held { why, .. } = &track.phase {
        let troubles = why.iter().filter(|why| matches!(why, Blocker::Trouble { .. }));
        unblock.splice(0..0, troubles.map(|why| super::blocker(why, None)));
    }
    Some(ExplainResponse {
        subject: match node {
            Some(node) => format!("{cluster}/{node}"),
            None => cluster.to_string(),
        },
        state: state.to_owned(),
        since: track.since.to_string(),
        deadline: view
            .fleet
            .deadline(cluster, &subject)
            .map(|at| at.to_string())
            .unwrap_or_default(),
        waits_for: waits_for(view, migration, &subject),
        gate: gate
            .map(|gate| format!("{}: {}", gate_name(gate), of_gate(gate)))
            .unwrap_or_default(),
        needs: gate.map(|gate| needs(view, migration, &subject, gate)).unwrap_or_default(),
        unblock,
        approvals: approvals(view, migration, &subject),
        unprotected_since: unprotected_since(migration),
        history: history(view, cluster, &subject),
    })
}

/// The gate that is being asked, was when it was held, or comes next.
fn gate_of(migration: &Migration, subject: &Subject) -> Option<Gate> {
    match &migration.track(subject)?.phase {
        Phase::Asking { gate, .. }
        | Phase::Ready { next: Step::Ask(gate) }
        | Phase::Held { resume: Step::Ask(gate), .. } => Some(*gate),
        Phase::Ready { next: Step::Submit(kind) } => Some(kind.verified_by()),
        Phase::Held { resume: Step::Submit(kind), .. } => Some(kind.admitted_by()),
        Phase::Operating => {
            let Subject::Node(name) = subject else { return None };
            let operation = migration.node(name)?.operation()?;
            let ended = matches!(operation.progress, Progress::Ended { .. });
            (!ended).then(|| Kind::verified_by(operation.intent.kind))
        }
        Phase::Reinstalling(_) => Some(Gate::Os),
        Phase::Planned | Phase::Ready { .. } | Phase::Working => None,
        Phase::Held { .. } | Phase::Done | Phase::Aborted => None,
    }
}

fn needs(view: &View<'_>, migration: &Migration, subject: &Subject, gate: Gate) -> Vec<NeedStatus> {
    let open = blockers(view, migration, subject);
    let bench = migration.bench(subject);
    let phase = migration.track(subject).map(|track| &track.phase);
    let mut rows = Vec::new();
    for need in bench.needs(gate) {
        for source in bench.witnesses(need) {
            let blocker = open.iter().find(|why| is_about(why, need.check, &source));
            rows.push(match phase {
                Some(Phase::Asking { dossier, .. }) => asked(need, &source, blocker, dossier, view),
                Some(Phase::Held { .. }) => held(need, &source, blocker, view),
                _ => row(need, &source, "waiting", String::new(), String::new()),
            });
        }
    }
    rows
}

/// What was accepted of a subject, and of its whole cluster, as far as it still counts.
fn approvals(view: &View<'_>, migration: &Migration, subject: &Subject) -> Vec<String> {
    let mut subjects = vec![&Subject::Cluster, subject];
    subjects.dedup();
    let tracks = subjects.into_iter().filter_map(|subject| migration.track(subject));
    let all = tracks.flat_map(|track| track.approvals.values());
    all.filter(|approval| approval.holds(view.now))
        .map(|Approval { item, by, why, until, .. }| {
            format!("{} by {by} until {until}: {why}", item.words())
        })
        .collect()
}

fn row(need: &Need, source: &Source, verdict: &str, seen: String, at: String) -> NeedStatus {
    NeedStatus {
        check: need.check.to_string(),
        statement: of_check(need.check).statement.to_owned(),
        source: source.to_string(),
        verdict: verdict.to_owned(),
        seen,
        observed_at: at,
    }
}

fn asked(
    need: &Need,
    source: &Source,
    blocker: Option<&Blocker>,
    dossier: &Dossier,
    view: &View<'_>,
) -> NeedStatus {
    let seen = dossier.get(need.check, source);
    let at = seen.map(|seen| seen.evidence.observed_at.to_string()).unwrap_or_default();
    let words = seen.map(|seen| seen.evidence.verdict.seen().to_owned()).unwrap_or_default();
    match blocker {
        Some(why @ Blocker::TooShort { .. }) => {
            let progress = super::blocker(why, Some(view.now));
            let progress = progress.split_once(": ").map_or("", |(_, rest)| rest);
            row(need, source, word(why), format!("{words}; {progress}"), at)
        }
        Some(why) => row(need, source, word(why), words, at),
        None => row(need, source, "pass", words, at),
    }
}

fn held(need: &Need, source: &Source, blocker: Option<&Blocker>, view: &View<'_>) -> NeedStatus {
    let Some(why) = blocker else {
        return row(need, source, "pass", "when it was held".to_owned(), String::new());
    };
    let seen = match why {
        Blocker::Contradicted { seen, .. } => seen.clone(),
        Blocker::Unknown { why, .. } => why.clone(),
        other => super::blocker(other, Some(view.now)),
    };
    row(need, source, word(why), seen, String::new())
}

fn is_about(why: &Blocker, wanted: Check, from: &Source) -> bool {
    match why {
        Blocker::Contradicted { check, source, .. }
        | Blocker::Unknown { check, source, .. }
        | Blocker::Silent { check, source }
        | Blocker::Stale { check, source, .. }
        | Blocker::TooShort { check, source, .. } => *check == wanted && source == from,
        Blocker::NotEnrolled { .. }
        | Blocker::Operation { .. }
        | Blocker::Trouble { .. }
        | Blocker::QuorumAtRisk { .. }
        | Blocker::HeldBy { .. } => false,
    }
}

fn word(why: &Blocker) -> &'static str {
    match why {
        Blocker::Contradicted { .. } => "fail",
        Blocker::Unknown { .. } => "unknown",
        Blocker::Silent { .. } => "silent",
        Blocker::Stale { .. } => "stale",
        Blocker::TooShort { .. }
        | Blocker::NotEnrolled { .. }
        | Blocker::Operation { .. }
        | Blocker::Trouble { .. }
        | Blocker::QuorumAtRisk { .. }
        | Blocker::HeldBy { .. } => "waiting",
    }
}

fn history(view: &View<'_>, cluster: &ClusterName, subject: &Subject) -> Vec<String> {
    let events = view.history.of(cluster);
    let wanted = |event: &Event| match subject {
        // Pieces of archived operations and confirmations that came in say nothing to a reader.
        _ if is_noise(event) => false,
        Subject::Node(node) => event.node() == Some(node),
        Subject::Cluster => !matches!(event, Event::EvidenceRecorded { .. }),
    };
    let told = events.iter().filter(|(_, recorded)| wanted(&recorded.event));
    let line = |(seq, recorded): &Numbered| {
        format!("{} #{seq} {}", moment(recorded.at, view.now), sentence(recorded))
    };
    let told: Vec<String> = told.map(line).collect();
    told[told.len().saturating_sub(HISTORY_LINES)..].to_vec()
}
