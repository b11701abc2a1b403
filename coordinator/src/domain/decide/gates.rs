//! Rounds of evidence: asking, hearing, judging, and what comes after.

use rehull_shared::{
    evidence::{Check, Evidence},
    ids::Round,
};

use super::Desk;
use crate::domain::{
    command::Refusal,
    event::Event,
    gate::{Blocker, Gate},
    state::{Extent, Kind, Migration, Node, Phase, Step, Subject},
};

impl Desk<'_> {
    /// Opens a new round for a gate.
    pub(super) fn ask(&mut self, subject: &Subject, gate: Gate) {
        let Some(track) = self.migration().and_then(|migration| migration.track(subject)) else {
            return;
        };
        let round = Round(track.round.0 + 1);
        self.write(Event::EvidenceRequested { subject: subject.clone(), gate, round });
    }

    /// Takes an answer in, and judges the gate with it.
    pub(super) fn hear(&mut self, subject: &Subject, evidence: &Evidence) -> Result<(), Refusal> {
        let migration = self.known()?;
        let bench = migration.bench(subject);
        let Some(Phase::Asking { gate, asked, dossier }) =
            migration.track(subject).map(|track| &track.phase)
        else {
            return Ok(()); // a late answer is no error: it answers a question that is closed
        };
        let Some(need) = bench.needs(*gate).find(|need| need.check == evidence.check) else {
            return Ok(());
        };
        let expected = bench.witnesses(need).contains(&evidence.source);
        if evidence.round != asked.round || evidence.observed_at < asked.at || !expected {
            return Ok(());
        }
        let (gate, policy) = (*gate, &migration.plan.policy);
        let mut with = dossier.clone();
        with.add(evidence.clone(), policy.evidence_max_age);
        let verdict = bench.judge(gate, *asked, &with, self.now());
        let window = need.window.length(policy, bench.watched);
        if verdict.is_ok() || dossier.is_news(evidence, need.age.limit(policy), window) {
            let (subject, evidence) = (subject.clone(), evidence.clone());
            self.write(Event::EvidenceRecorded { subject, evidence });
        }
        match verdict {
            Ok(proof) if !self.is_undone(subject, gate) => self.pass(subject, proof),
            Err(why) if why.iter().all(is_silence) => self.hold_at(subject, gate, why),
            Ok(_) | Err(_) => (),
        }
        Ok(())
    }

    /// Holds what has waited for longer than it may.
    pub(super) fn enforce_deadline(&mut self, subject: &Subject) {
        let Some(migration) = self.migration() else { return };
        let Some(track) = migration.track(subject) else { return };
        let now = self.now();
        let deadline = self.scribe.fleet.deadline(self.cluster, subject);
        if deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        match &track.phase {
            Phase::Asking { gate, asked, dossier } => {
                let gate = *gate;
                match migration.bench(subject).judge(gate, *asked, dossier, now) {
                    Ok(proof) if !self.is_undone(subject, gate) => self.pass(subject, proof),
                    Ok(_) => self.hold_at(subject, gate, Vec::new()),
                    Err(why) => self.hold_at(subject, gate, why),
                }
            }
            Phase::Operating => self.give_operation_up(subject),
            Phase::Reinstalling(reinstall) => {
                let announced = reinstall.announced_by.is_some();
                let mut why = vec![Blocker::NotEnrolled { announced }];
                why.extend(self.troubles(subject));
                let subject = subject.clone();
                self.write(Event::Held { subject, why, resume: Step::Reinstall });
            }
            // These wait for a person, for their turn, or for nothing.
            Phase::Planned
            | Phase::Ready { .. }
            | Phase::Working
            | Phase::Held { .. }
            | Phase::Done
            | Phase::Aborted => (),
        }
    }

    /// Whether nobody could tell that the operation that a gate looks at has never run, but by its own
    /// traces: then what is seen does not prove that it has.
    fn is_undone(&self, subject: &Subject, gate: Gate) -> bool {
        let doubtful = self.node_of(subject).and_then(|node| Some((node, node.doubtful(gate)?.0)));
        doubtful.is_some_and(|(node, operation)| {
            let telling = operation.intent.kind.done_by_nobody(node.planned.role);
            telling.is_empty() && operation.extent == Extent::NotStarted
        })
    }

    /// Holds what a gate does not let pass, unless another attempt is due.
    fn hold_at(&mut self, subject: &Subject, gate: Gate, mut why: Vec<Blocker>) {
        let mut resume = Step::Ask(gate);
        why.extend(self.troubles(subject));
        if let Subject::Node(name) = subject {
            if self.resubmit(name) {
                return;
            }
            let node = self.node_of(subject);
            // Another removal may never be admitted, since the one before has changed what admits it. So
            // a person decides again on what that one did.
            if gate == Gate::RemoveAdmission && node.is_some_and(Node::is_past_return) {
                resume = Step::Submit(Kind::Remove);
            }
            why.extend(node.and_then(|node| {
                let (operation, outcome) = node.doubtful(gate)?;
                let (name, extent) = (operation.intent.name.clone(), operation.extent);
                let resubmitted = node.resubmitted;
                Some(Blocker::Operation { name, outcome, extent, resubmitted })
            }));
        }
        self.write(Event::Held { subject: subject.clone(), why, resume });
    }

    /// What rehull itself could not do for a subject.
    fn troubles(&self, subject: &Subject) -> Vec<Blocker> {
        let track = self.migration().and_then(|migration| migration.track(subject));
        let troubles = track.into_iter().flat_map(|track| &track.troubles);
        let blocker = |(work, (why, _)): (&String, &(String, _))| Blocker::Trouble {
            work: work.clone(),
            why: why.clone(),
        };
        troubles.map(blocker).collect()
    }

    /// Begins the next step of a subject that is ready for it, unless a pause lets it rest.
    pub(super) fn step(&mut self, subject: &Subject) {
        let Some(migration) = self.migration() else { return };
        let Some(Phase::Ready { next }) = migration.track(subject).map(|track| &track.phase) else {
            return;
        };
        let next = *next;
        if self.rests(subject, next) {
            return;
        }
        if self.waits_for_operations(subject, next) {
            return;
        }
        if let Some(gate) = self.admission(subject, next).filter(|_| self.has_rested(subject)) {
            return self.ask(subject, gate);
        }
        let joining = matches!(next, Step::Ask(Gate::JoinAdmission) | Step::Submit(Kind::Join));
        if joining && !self.is_verified(subject) {
            // Another system has enrolled since its OS was looked at.
            return self.ask(subject, Gate::Os);
        }
        match (next, subject) {
            (Step::Ask(gate), _) => self.ask(subject, gate),
            (Step::Submit(kind), Subject::Node(node)) => self.intend(node, kind),
            (Step::Reinstall, Subject::Node(node)) => {
                self.write(Event::ReinstallAuthorized { node: node.clone() });
            }
            (Step::Finish, Subject::Node(node)) => self.finish_node(node),
            (Step::Finish, Subject::Cluster) => {
                let aborted = self.migration().is_some_and(|it| it.aborted_by.is_some());
                let end = if aborted { Event::MigrationAborted } else { Event::MigrationCompleted };
                self.write(end);
            }
            (Step::Work, Subject::Cluster) => self.write(Event::WorkBegun),
            (Step::Submit(_) | Step::Reinstall, Subject::Cluster)
            | (Step::Work, Subject::Node(_)) => (),
        }
    }

    /// Whether a step has to wait until the operations of another node are over.
    fn waits_for_operations(&self, subject: &Subject, next: Step) -> bool {
        next.is_about_operations()
            && self
                .migration()
                .and_then(Migration::operating)
                .is_some_and(|node| subject.node() != Some(&node.planned.name))
    }

    /// Whether the OS that was verified is the one of the host's present generation.
    fn is_verified(&self, subject: &Subject) -> bool {
        let Subject::Node(name) = subject else { return false };
        let current = self.scribe.fleet.agent_of(self.cluster, name);
        let verified = self.migration().and_then(|m| m.node(name)).and_then(|node| node.verified);
        current.is_some() && verified == current
    }
}

/// Whether it is that another API server was silent during a removal: that goes away by a person's word
/// only, so nothing is won by waiting for it.
fn is_silence(why: &Blocker) -> bool {
    matches!(why, Blocker::Contradicted { check: Check::ApiServersSteady, .. })
}
