//! Until when something may wait: enforced by `Tick`, and shown to operators.

use rehull_shared::{
    ids::ClusterName,
    time::{Span, Timestamp},
};

use super::{
    gate::Gate,
    state::{Fleet, Migration, Node, Phase, Progress, START_DELAY_PER_OPERATION, Subject},
};

/// How long an intended operation may take to be created before it is given up: what has admitted it is
/// no older than twice that (invariants 1 and 5). Another one that runs was looked for before.
const CREATE_DEADLINE: Span = Span::from_secs(30);

/// How long beyond its own deadline an operation is followed before its outcome is unknown.
const GRACE: Span = Span::from_mins(5);

impl Fleet {
    /// Until when a subject may stay where it is; `None` where it waits for a person, for its
    /// turn, or for nothing.
    ///
    /// Where there was no coordinator for so long that windows broke, everything gets the length of
    /// a gate from the beginning of this leadership: nobody is given up before anybody could have
    /// been asked. A short absence pushes nothing away, so that one that dies again and again still
    /// comes to its deadlines.
    pub fn deadline(&self, cluster: &ClusterName, subject: &Subject) -> Option<Timestamp> {
        let migration = self.migrations.get(cluster)?;
        let patience = migration.patience(subject)?;
        // What goes on by itself later is not held before.
        let node = subject.node().and_then(|name| migration.node(name));
        let again = node.and_then(|node| migration.resubmission(node));
        let deadline = (migration.track(subject)?.since + patience)
            .max(again.unwrap_or_default())
            .max(migration.others_need(subject).unwrap_or_default());
        let policy = &migration.plan.policy;
        // Nobody needs to be asked to give up what was not created.
        let intended = node.and_then(Node::operation).map(|operation| &operation.progress);
        if self.away <= policy.evidence_max_age || intended == Some(&Progress::Intended) {
            return Some(deadline);
        }
        Some(deadline.max(self.led_since + patience.min(policy.gate_deadline)))
    }
}

impl Migration {
    /// How long a subject may stay where it is.
    fn patience(&self, subject: &Subject) -> Option<Span> {
        let track = self.track(subject)?;
        Some(match (&track.phase, subject) {
            (Phase::Asking { gate, .. }, _) => {
                let bench = self.bench(subject);
                gate.deadline(&self.plan.policy, bench.watched, bench.role)
            }
            (Phase::Operating, Subject::Node(name)) => self.operation_patience(self.node(name)?)?,
            (Phase::Reinstalling(_), _) => self.plan.policy.reinstall_deadline,
            (Phase::Operating, Subject::Cluster)
            | (
                Phase::Planned
                | Phase::Ready { .. }
                | Phase::Working
                | Phase::Held { .. }
                | Phase::Done
                | Phase::Aborted,
                _,
            ) => return None,
        })
    }

    /// Until when the other nodes that are under way may take, for one that nothing was done to yet:
    /// what it lacks may be what they take away, so it is not held before they are back.
    fn others_need(&self, subject: &Subject) -> Option<Timestamp> {
        let Subject::Node(name) = subject else { return None };
        if !matches!(self.node(name)?.track.phase, Phase::Asking { gate: Gate::Preflight, .. }) {
            return None;
        }
        let others = self.nodes.iter().filter(|other| other.planned.name != *name);
        let until = |other: &Node| {
            let patience = self.patience(&Subject::Node(other.planned.name.clone()))?;
            Some(other.track.since + patience)
        };
        others.filter_map(until).max()
    }

    fn operation_patience(&self, node: &Node) -> Option<Span> {
        let policy = &self.plan.policy;
        Some(match &node.operation()?.progress {
            Progress::Intended => CREATE_DEADLINE,
            Progress::Submitted { others, .. } => {
                let delay = START_DELAY_PER_OPERATION.as_secs().saturating_mul(*others);
                policy.start_deadline + Span::from_secs(delay)
            }
            Progress::Withdrawing { .. } => policy.gate_deadline,
            Progress::Started { .. } => policy.operation_deadline + GRACE,
            Progress::Ended { .. } => return None,
        })
    }
}
