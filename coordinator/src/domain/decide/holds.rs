//! What people hold, and how it goes on.

use super::Desk;
use crate::domain::{
    command::Refusal,
    event::Event,
    gate::{Age, Gate},
    state::{Node, Phase, Step, Subject},
};

impl Desk<'_> {
    /// A person wants a subject to be held at its next safe point.
    pub(super) fn hold(&mut self, subject: &Subject, why: &str, by: &str) -> Result<(), Refusal> {
        let phase = self.phase_of(subject)?;
        let fault = match phase {
            Phase::Done | Phase::Aborted => "it is over: nothing of it can be held",
            Phase::Held { .. } => "it is held already: `rehull explain` says what it waits for",
            _ if self.node_of(subject).is_some_and(Node::is_frozen) => {
                "it is to be held already, for another member of etcd: `rehull explain` says why"
            }
            _ => {
                let (subject, why, by) = (subject.clone(), why.to_owned(), by.to_owned());
                self.write(Event::HoldRequested { subject, why, by });
                return Ok(());
            }
        };
        Err(not_now(subject, phase, fault))
    }

    /// Rests before a step if a pause or a hold wants it, and it is safe. Whatever goes back goes
    /// on: there it is safe.
    pub(super) fn rests(&mut self, subject: &Subject, next: Step) -> bool {
        let Some(migration) = self.migration() else { return true };
        let given_up = match subject {
            Subject::Cluster => migration.aborted_by.is_some(),
            Subject::Node(name) => migration.node(name).is_some_and(|node| node.is_given_up()),
        };
        if given_up || !migration.may_rest(subject, next) {
            return false;
        }
        let paused = migration.paused_by.is_some();
        match migration.track(subject).and_then(|track| track.hold.clone()) {
            Some(why) => {
                // What admitted the step will be too old when it goes on.
                let resume = self.admission(subject, next).map_or(next, Step::Ask);
                self.write(Event::Held { subject: subject.clone(), why: vec![why], resume });
                true
            }
            None => paused,
        }
    }

    /// Holds a cluster whose nodes are under way: no other node begins.
    pub(super) fn hold_work(&mut self) {
        let Some(migration) = self.migration() else { return };
        let held = migration.track.hold.clone().filter(|_| migration.aborted_by.is_none());
        if let (Phase::Working, Some(why)) = (&migration.track.phase, held) {
            let (subject, resume) = (Subject::Cluster, Step::Work);
            self.write(Event::Held { subject, why: vec![why], resume });
        }
    }

    /// The gate that must have been passed just now for a step. Once an API server was being stopped the
    /// gate before that asks for what cannot be any more; G4 asks for the rest.
    pub(super) fn admission(&self, subject: &Subject, next: Step) -> Option<Gate> {
        let stops = next == Step::Ask(Gate::Withdraw)
            && self.node_of(subject).is_some_and(|node| node.withdrawing);
        next.admitted_by().filter(|_| !stops)
    }

    /// Whether what admitted the next step is too old by now: a pause or a crash lay between.
    pub(super) fn has_rested(&self, subject: &Subject) -> bool {
        let Some(migration) = self.migration() else { return true };
        let limit = Age::Brief.limit(&migration.plan.policy);
        migration.track(subject).is_none_or(|track| track.since + limit < self.now())
    }

    /// A person asks to go on, or wants a hold back that has not taken effect.
    pub(super) fn retry(
        &mut self,
        subject: &Subject,
        resubmit: bool,
        by: &str,
    ) -> Result<(), Refusal> {
        let phase = self.phase_of(subject)?;
        let migration = self.known()?;
        let is_to_be_held = migration.track(subject).is_some_and(|track| track.hold.is_some());
        let at_risk = self.node_of(subject).is_some_and(|node| node.at_risk);
        let fault = match phase {
            Phase::Held { resume, .. }
                if resubmit && !migration.can_be_resubmitted(subject, *resume) =>
            {
                "there is no operation to submit again; retry without it"
            }
            Phase::Held { .. } => {
                let (subject, by) = (subject.clone(), by.to_owned());
                self.write(Event::RetryRequested { subject, resubmit, by });
                return Ok(());
            }
            _ if is_to_be_held && !resubmit && at_risk => {
                "another member of etcd is not well: `rehull etcd` says how; get it well first"
            }
            _ if is_to_be_held && !resubmit => {
                let (subject, by) = (subject.clone(), by.to_owned());
                self.write(Event::HoldWithdrawn { subject, by });
                return Ok(());
            }
            _ => "only what is held can be retried",
        };
        Err(not_now(subject, phase, fault))
    }

    pub(super) fn phase_of(&self, subject: &Subject) -> Result<&Phase, Refusal> {
        if let Subject::Node(node) = subject {
            self.knows(node)?;
        }
        let track = self.known()?.track(subject).expect("it was just known");
        Ok(&track.phase)
    }
}

pub(super) fn not_now(subject: &Subject, phase: &Phase, why: &str) -> Refusal {
    let phase = phase.word().to_owned();
    Refusal::NotNow { subject: subject.clone(), phase, why: why.to_owned() }
}
