//! How each event changes the state. It checks again what `decide` has checked: an event that
//! cannot follow the ones before it means that the log is damaged, and everything stops.

use std::{collections::BTreeMap, sync::Arc};

use rehull_shared::{
    evidence::Check,
    ids::{ClusterName, NodeName, Round},
    time::Timestamp,
};

use super::{
    Asked, Fleet, Host, Kind, Migration, Node, Phase, Protection, Step, Subject, Switch, Track,
};
use crate::domain::{
    approval::Approval,
    event::{Event, Recorded},
    gate::{Blocker, Dossier, Gate},
};

mod node;

/// The log contains an event that cannot follow the ones before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log has an impossible event: {what} while {subject} is {phase}")]
pub struct Corrupt {
    what: String,
    subject: String,
    phase: String,
}

fn corrupt(what: &Event, subject: impl ToString, phase: impl ToString) -> Corrupt {
    let what: String = format!("{what:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
    Corrupt { what, subject: subject.to_string(), phase: phase.to_string() }
}

impl Fleet {
    /// Takes one event in.
    pub fn evolve(&mut self, recorded: &Recorded) -> Result<(), Corrupt> {
        let (at, event) = (recorded.at, &recorded.event);
        if recorded.epoch < self.epoch {
            return Err(corrupt(event, "the coordinator", format!("at epoch {}", self.epoch)));
        }
        self.epoch = recorded.epoch;
        let last_at = std::mem::replace(&mut self.last_at, at);
        let Some(cluster) = &recorded.cluster else {
            return match event {
                Event::LeadershipTaken => {
                    self.led_since = at;
                    self.away = at.since(last_at);
                    Ok(())
                }
                other => Err(corrupt(other, "no cluster", "named")),
            };
        };
        match event {
            Event::MigrationStarted { id, plan, by, nodes } => {
                let migration = Migration {
                    id: *id,
                    plan: (**plan).clone(),
                    by: by.clone(),
                    started_at: at,
                    paused_by: None,
                    aborted_by: None,
                    planned: *nodes,
                    track: Track::new(Phase::Ready { next: Step::first_of_cluster() }, at),
                    nodes: Vec::new(),
                    export: None,
                    protection: Protection::default(),
                    identity: None,
                    proved: None,
                };
                match self.migrations.insert(cluster.clone(), Arc::new(migration)) {
                    Some(old) if old.is_whole() && !old.is_finished() => {
                        Err(corrupt(event, cluster, "being migrated already"))
                    }
                    _ => Ok(()),
                }
            }
            Event::TokenIssued { node, token, .. } => {
                self.host(cluster, node).token = Some(token.clone());
                Ok(())
            }
            Event::AgentEnrolled { node, generation, identity } => {
                let host = self.host(cluster, node);
                if generation.0 != host.generation.0 + 1 || host.token.is_none() {
                    return Err(corrupt(event, node, format!("at {:?}", host.generation)));
                }
                let identity = Some(identity.clone());
                *host = Host { generation: *generation, revoked: false, token: None, identity };
                Ok(())
            }
            Event::AgentRevoked { node, generation, .. } => {
                let host = self.host(cluster, node);
                if *generation != host.generation {
                    return Err(corrupt(event, node, format!("at {:?}", host.generation)));
                }
                (host.revoked, host.token) = (true, None);
                Ok(())
            }
            event => match self.migrations.get_mut(cluster) {
                Some(migration) => Arc::make_mut(migration).evolve(event, at),
                None => Err(corrupt(event, cluster, "unknown")),
            },
        }
    }

    fn host(&mut self, cluster: &ClusterName, node: &NodeName) -> &mut Host {
        Arc::make_mut(&mut self.hosts).entry((cluster.clone(), node.clone())).or_default()
    }
}

impl Migration {
    fn evolve(&mut self, event: &Event, at: Timestamp) -> Result<(), Corrupt> {
        match event {
            Event::NodePlanned { node } => self.nodes.push(Node::new(node.clone(), at)),
            Event::MigrationPaused { by } => self.paused_by = Some(by.clone()),
            Event::MigrationResumed { .. } => self.paused_by = None,
            Event::ObjectsExported { sha256 } => self.export = Some(sha256.clone()),
            Event::ClusterIdentified { identity } => self.identity = Some(identity.clone()),
            Event::BackupProved { proof, .. } => self.proved = Some((proof.clone(), at)),
            Event::ProtectionIntended { on } => {
                let gate = match &self.track.phase {
                    Phase::Asking { gate, .. } => gate.protects(),
                    _ => None,
                };
                if gate != Some(*on) {
                    return Err(corrupt(event, "the cluster", self.track.phase.word()));
                }
                // From here on nobody knows, until somebody says that it is on.
                self.protection.off_since.get_or_insert(at);
                let round = self.track.round;
                self.protection.switch = Some(Switch { on: *on, round, answer: None });
            }
            Event::ProtectionAnswered { on, done, seen } => {
                match self.protection.switch.as_mut().filter(|switch| switch.on == *on) {
                    Some(switch) => switch.answer = Some((*done, seen.clone())),
                    None => return Err(corrupt(event, "the cluster", self.track.phase.word())),
                }
                if *on && *done {
                    self.protection.off_since = None;
                }
            }
            Event::WorkBegun => {
                self.track.may(event, Step::Work)?;
                self.track.enter(Phase::Working, at);
            }
            Event::MigrationCompleted => {
                self.track.may(event, Step::Finish)?;
                self.track.enter(Phase::Done, at);
            }
            Event::AbortRequested { subject: Subject::Cluster, by } => {
                if self.track.phase.is_over() || self.out().next().is_some() {
                    return Err(corrupt(event, "the cluster", self.track.phase.word()));
                }
                self.aborted_by = Some(by.clone());
                self.track.hold = None;
                self.track.enter(Phase::Working, at);
            }
            Event::MigrationAborted => {
                if self.aborted_by.is_none() || !self.is_untouched() {
                    self.track.may(event, Step::Finish)?;
                }
                self.track.enter(Phase::Aborted, at);
            }
            Event::EvidenceRequested { subject, .. }
            | Event::EvidenceRecorded { subject, .. }
            | Event::GatePassed { subject, .. }
            | Event::Held { subject, .. }
            | Event::HoldRequested { subject, .. }
            | Event::HoldWithdrawn { subject, .. }
            | Event::RetryRequested { subject, .. }
            | Event::Troubled { subject, .. }
            | Event::Approved { subject, .. }
            | Event::ApprovalEnded { subject, .. } => self.evolve_track(subject, event, at)?,
            event => {
                let name = node_of(event)?;
                let node = self.nodes.iter_mut().find(|node| &node.planned.name == name);
                node.ok_or_else(|| corrupt(event, name, "unknown"))?.evolve(event, at)?;
            }
        }
        Ok(())
    }

    fn evolve_track(
        &mut self,
        subject: &Subject,
        event: &Event,
        at: Timestamp,
    ) -> Result<(), Corrupt> {
        let break_max = self.plan.policy.evidence_max_age;
        let next = match event {
            Event::GatePassed { proof, .. } => Some(self.after(subject, proof.gate())),
            _ => None,
        };
        let (mut verified, mut resubmitted, mut away) = (&mut None, &mut 0, &mut None);
        let track = match subject {
            Subject::Cluster => &mut self.track,
            Subject::Node(name) => {
                let node = self.nodes.iter_mut().find(|node| &node.planned.name == name);
                let node = node.ok_or_else(|| corrupt(event, name, "unknown"))?;
                match event {
                    Event::RetryRequested { resubmit, .. } => node.forget_for_retry(*resubmit, at),
                    Event::EvidenceRequested { gate, .. } => node.forget_inputs(*gate),
                    _ => (),
                }
                (verified, resubmitted, away) =
                    (&mut node.verified, &mut node.resubmitted, &mut node.away);
                &mut node.track
            }
        };
        match (&mut track.phase, event) {
            (
                Phase::Ready { .. }
                | Phase::Asking { .. }
                | Phase::Reinstalling(_)
                | Phase::Working,
                Event::EvidenceRequested { gate, round, .. },
            ) => {
                if round.0 != track.round.0 + 1 {
                    return Err(corrupt(event, subject, format!("in round {}", track.round)));
                }
                let follows = match &track.phase {
                    Phase::Ready {
                        next: Step::Ask(Gate::JoinAdmission) | Step::Submit(Kind::Join),
                    } => {
                        matches!(gate, Gate::JoinAdmission | Gate::Os)
                    }
                    Phase::Ready { next } => {
                        *next == Step::Ask(*gate) || next.admitted_by() == Some(*gate)
                    }
                    Phase::Asking { gate: now, .. } => now == gate,
                    Phase::Reinstalling(_) => *gate == Gate::Os,
                    _ => matches!(gate, Gate::Finalize | Gate::ClusterAbort),
                };
                if !follows {
                    return Err(corrupt(event, subject, track.phase.word()));
                }
                track.round = *round;
                let asked = Asked { round: *round, at };
                let again = matches!(&track.phase, Phase::Asking { .. });
                let phase = Phase::Asking { gate: *gate, asked, dossier: Dossier::default() };
                // A new round of the same gate does not push its deadline away.
                if again { track.phase = phase } else { track.enter(phase, at) }
            }
            (Phase::Asking { dossier, .. }, Event::EvidenceRecorded { evidence, .. }) => {
                dossier.add(evidence.clone(), break_max);
            }
            (Phase::Asking { gate, asked, dossier }, Event::GatePassed { proof, .. })
                if proof.gate() == *gate && proof.round() == asked.round =>
            {
                if gate.verifies_operation() {
                    *resubmitted = 0;
                }
                if let (Gate::Join | Gate::Rejoin, Some(away)) = (*gate, away.as_mut()) {
                    away.until = Some(at);
                }
                if *gate == Gate::Os {
                    let mut answers = dossier.iter().map(|seen| &seen.evidence);
                    let os = answers.find(|answer| answer.check == Check::OsIsTarget);
                    *verified = os.and_then(|answer| answer.generation);
                }
                let next = next.expect("it was worked out for this event");
                track.enter(Phase::Ready { next }, at);
            }
            (
                Phase::Ready { .. }
                | Phase::Asking { .. }
                | Phase::Reinstalling(_)
                | Phase::Working,
                Event::Held { why, resume, .. },
            ) => {
                track.hold = None;
                track.enter(Phase::Held { why: why.clone(), resume: *resume }, at);
            }
            (phase, Event::HoldRequested { why, by, .. }) if !phase.is_over() => {
                track.hold = Some(Blocker::HeldBy { by: by.clone(), why: why.clone() });
            }
            (phase, Event::Troubled { work, why, .. }) if phase.is_worked_on() => match why {
                Some(why) => drop(track.troubles.insert(work.clone(), (why.clone(), at))),
                None => drop(track.troubles.remove(work)),
            },
            (_, Event::HoldWithdrawn { .. }) if track.hold.is_some() => track.hold = None,
            (phase, Event::Approved { item, by, why, until, .. }) if !phase.is_over() => {
                let (item, by, why) = (item.clone(), by.clone(), why.clone());
                let approval = Approval { item, by, why, until: *until, ended: false };
                track.approvals.insert(approval.item.id(), approval);
            }
            (_, Event::ApprovalEnded { item, .. })
                if track.approvals.get(item).is_some_and(|approval| !approval.ended) =>
            {
                track.approvals.get_mut(item).expect("it is there").ended = true;
            }
            (Phase::Held { resume, .. }, Event::RetryRequested { resubmit, .. }) => {
                let next = resume.retried(*resubmit);
                track.enter(Phase::Ready { next }, at);
            }
            (phase, event) => return Err(corrupt(event, subject, phase.word())),
        }
        Ok(())
    }
}

impl Track {
    fn new(phase: Phase, since: Timestamp) -> Self {
        let round = Round::default();
        let (troubles, approvals) = (BTreeMap::new(), BTreeMap::new());
        Self { round, phase, since, hold: None, troubles, approvals }
    }

    fn enter(&mut self, phase: Phase, at: Timestamp) {
        self.phase = phase;
        self.since = at;
        self.troubles.clear();
    }

    fn may(&self, event: &Event, step: Step) -> Result<(), Corrupt> {
        match &self.phase {
            Phase::Ready { next } if *next == step => Ok(()),
            phase => Err(corrupt(event, "the cluster", phase.word())),
        }
    }
}

impl Phase {
    /// Whether rehull itself may have something to do for it.
    pub fn is_worked_on(&self) -> bool {
        matches!(self, Phase::Asking { .. } | Phase::Operating | Phase::Reinstalling(_))
    }

    /// One word for messages.
    pub fn word(&self) -> &'static str {
        match self {
            Phase::Planned => "planned",
            Phase::Ready { .. } => "ready",
            Phase::Asking { .. } => "asking",
            Phase::Operating => "operating",
            Phase::Reinstalling(_) => "reinstalling",
            Phase::Working => "working",
            Phase::Held { .. } => "held",
            Phase::Done => "done",
            Phase::Aborted => "aborted",
        }
    }
}

fn node_of(event: &Event) -> Result<&NodeName, Corrupt> {
    match event {
        Event::NodeStarted { node }
        | Event::SnapshotRecorded { node, .. }
        | Event::DrainProgressed { node, .. }
        | Event::InputsPrepared { node, .. }
        | Event::OperationIntended { node, .. }
        | Event::OperationSubmitted { node, .. }
        | Event::OperationWithdrawn { node, .. }
        | Event::OperationStarted { node, .. }
        | Event::OperationEnded { node, .. }
        | Event::AcceptedByEvidence { node, .. }
        | Event::OperationResubmitted { node, .. }
        | Event::OperationCopied { node, .. }
        | Event::OperationArchived { node, .. }
        | Event::ForeignOperationSeen { node, .. }
        | Event::LeftoversOrdered { node, .. }
        | Event::LeftoversAnswered { node, .. }
        | Event::NodeDeletionRequested { node, .. }
        | Event::NodeDeletionOrdered { node, .. }
        | Event::NodeDeletionAnswered { node, .. }
        | Event::RollbackRequested { node, .. }
        | Event::BackupRecorded { node, .. }
        | Event::LeaderMoved { node, .. }
        | Event::ChangeIntended { node, .. }
        | Event::EndpointMoved { node, .. }
        | Event::InventoryReordered { node, .. }
        | Event::ApiServerSwitched { node, .. }
        | Event::MemberRemovalOrdered { node, .. }
        | Event::MemberRemovalAnswered { node, .. }
        | Event::FragilityExceeded { node, .. }
        | Event::QuorumAtRisk { node, .. }
        | Event::QuorumRestored { node }
        | Event::FarewellSaid { node, .. }
        | Event::ReinstallAuthorized { node }
        | Event::InstallerProgressed { node, .. }
        | Event::ReinstallAnnounced { node, .. }
        | Event::NodeFinished { node }
        | Event::NodeAborted { node }
        | Event::AbortRequested { subject: Subject::Node(node), .. } => Ok(node),
        other => Err(corrupt(other, "no node", "named")),
    }
}
