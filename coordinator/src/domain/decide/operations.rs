//! Operations: intended before they are created, believed in nothing, and what they leave behind.

use rehull_shared::{ids::NodeName, time::Span};

use super::Desk;
use crate::domain::{
    command::{Refusal, Report},
    event::Event,
    gate::{Gate, Proof},
    operation,
    state::{
        Deletion, Extent, Kind, Leftovers, MemberRemoval, Node, OperationIntent, Outcome, Phase,
        Progress, Subject,
    },
};

/// What stands in the way of the same work is told at most so often, while that lasts.
const TROUBLE_TOLD_EVERY: Span = Span::from_mins(1);

impl Desk<'_> {
    /// Intends an operation: from here on it may exist, whatever happens to this process.
    pub(super) fn intend(&mut self, name: &NodeName, kind: Kind) {
        let Some(node) = self.migration().and_then(|migration| migration.node(name)) else {
            return;
        };
        let attempt = node.next_attempt(kind);
        let Some(inputs) = node.inputs.clone() else { return };
        let name = operation::name(self.cluster, kind, name, attempt);
        let node = node.planned.name.clone();
        let intent = OperationIntent { name, kind, attempt, inputs };
        self.write(Event::OperationIntended { node, attempt, intent });
    }

    /// Passes a gate. What proves an operation that did not say so itself is said beside it.
    pub(super) fn pass(&mut self, subject: &Subject, proof: Proof) {
        if let Subject::Node(name) = subject {
            let node = self.migration().and_then(|migration| migration.node(name));
            let doubtful = node.and_then(|node| node.doubtful(proof.gate()));
            if let Some((operation, outcome)) = doubtful.filter(|(op, _)| !op.accepted) {
                let (node, name) = (name.clone(), operation.intent.name.clone());
                self.write(Event::AcceptedByEvidence { node, name, outcome });
            }
        }
        self.write(Event::GatePassed { subject: subject.clone(), proof });
    }

    /// Makes another attempt by itself, if the one before has done nothing at all: its traces say
    /// so, and so does everybody who can see the node. Says whether it did.
    pub(super) fn resubmit(&mut self, name: &NodeName) -> bool {
        let Some(migration) = self.migration() else { return false };
        let Some(node) = migration.node(name) else { return false };
        let (Some(at), Some(operation)) = (migration.resubmission(node), node.operation()) else {
            return false;
        };
        let Phase::Asking { gate, asked, dossier } = &node.track.phase else { return false };
        let subject = Subject::Node(name.clone());
        let nothing = operation.intent.kind.done_by_nobody(node.planned.role);
        let now = self.now();
        let untouched = migration.bench(&subject).contradicts(*gate, nothing, *asked, dossier, now);
        // Where nobody could tell, its traces must be sure of it.
        let sure = !nothing.is_empty() || operation.extent == Extent::NotStarted;
        let due = now >= at && untouched && sure;
        if due {
            let (name, number) = (operation.intent.name.clone(), node.resubmitted + 1);
            let node = node.planned.name.clone();
            self.write(Event::OperationResubmitted { node, name, number });
        }
        due
    }

    /// Gives up waiting for an operation that does not start or does not end.
    pub(super) fn give_operation_up(&mut self, subject: &Subject) {
        let Subject::Node(name) = subject else { return };
        let Some(node) = self.migration().and_then(|migration| migration.node(name)) else {
            return;
        };
        let Some(operation) = node.operation() else { return };
        let (node, name) = (node.planned.name.clone(), operation.intent.name.clone());
        match &operation.progress {
            Progress::Intended | Progress::Submitted { .. } => {
                self.write(Event::OperationWithdrawn { node, name });
            }
            Progress::Withdrawing { .. } | Progress::Started { .. } => {
                let seen = "no end was seen before its deadline".to_owned();
                let (outcome, extent) = (Outcome::Unknown, Extent::Unknown);
                self.write(Event::OperationEnded { node, name, outcome, seen, extent });
            }
            Progress::Ended { .. } => (),
        }
    }

    /// Takes in what an effect has seen or done. Reports about what is over are no error.
    pub(super) fn take(&mut self, report: &Report) -> Result<(), Refusal> {
        self.known()?;
        if let Report::Trouble { subject, work, why } = report {
            self.note_trouble(subject, work, why.as_deref());
            return Ok(());
        }
        let Some(name) = report.node() else {
            self.take_of_cluster(report);
            return Ok(());
        };
        self.knows(name)?;
        if let Some(event) = self.event_of(report) {
            self.write(event);
            if matches!(
                report,
                Report::LeftoversAnswered { .. }
                    | Report::NodeDeletionAnswered { .. }
                    | Report::MemberAnswered { .. }
            ) {
                // Old answers count no more; new ones need a question.
                self.ask(&Subject::Node(name.clone()), Gate::Removal);
            }
        }
        Ok(())
    }

    /// Keeps what stands in the way of rehull itself, for whoever is held by it; and when that has gone.
    fn note_trouble(&mut self, subject: &Subject, work: &str, why: Option<&str>) {
        let Some(track) = self.migration().and_then(|migration| migration.track(subject)) else {
            return;
        };
        let known = track.troubles.get(work);
        let is_news = known.map(|(known, _)| known.as_str()) != why;
        // Words that differ each time are told now and then.
        let is_time = why.is_none()
            || known.is_none_or(|(_, told)| self.now().since(*told) >= TROUBLE_TOLD_EVERY);
        if track.phase.is_worked_on() && is_news && is_time {
            let (subject, work, why) = (subject.clone(), work.to_owned(), why.map(str::to_owned));
            self.write(Event::Troubled { subject, work, why });
        }
    }

    fn take_of_cluster(&mut self, report: &Report) {
        let Some(migration) = self.migration() else { return };
        match report {
            Report::Exported { sha256 } if migration.export.is_none() => {
                self.write(Event::ObjectsExported { sha256: sha256.clone() });
            }
            Report::Identified { identity } if migration.identity.is_none() => {
                self.write(Event::ClusterIdentified { identity: identity.clone() });
            }
            Report::Protection { round, done, seen } => {
                self.hear_of_protection(*round, *done, seen);
            }
            _ => (),
        }
    }

    /// The event that a report amounts to now; `None` if it says nothing new.
    fn event_of(&self, report: &Report) -> Option<Event> {
        let node = self.migration()?.node(report.node()?)?;
        let asking = match &node.track.phase {
            Phase::Asking { gate, .. } => Some(*gate),
            _ => None,
        };
        let operating = node.track.phase == Phase::Operating;
        let of_last = |name: &str| node.operation().is_some_and(|op| op.intent.name == name);
        let of_any = |name: &str| node.operations.iter().find(|op| op.intent.name == name);
        match report.clone() {
            Report::Exported { .. }
            | Report::Protection { .. }
            | Report::Identified { .. }
            | Report::Trouble { .. } => None,
            Report::Backup { .. }
            | Report::LeaderMoved { .. }
            | Report::Changing { .. }
            | Report::EndpointMoved { .. }
            | Report::Reordered { .. }
            | Report::ApiServer { .. } => hand_over_event(node, asking?, report.clone()),
            Report::MemberLeft { node: owner, member } => self.remove_member(owner, member),
            Report::MemberAnswered { node: owner, order, seen } => (asking == Some(Gate::Removal)
                && matches!(&node.member, MemberRemoval::Ordered { order: now, .. } if *now == order))
            .then_some(Event::MemberRemovalAnswered { node: owner, order, seen }),
            Report::Snapshot { node: name, snapshot } => (asking == Some(Gate::Snapshot)
                && node.snapshot.is_none())
            .then_some(Event::SnapshotRecorded { node: name, snapshot }),
            Report::Drain { node: name, drain } => (asking == Some(Gate::Drain)
                && node.drain.as_ref() != Some(&drain))
            .then_some(Event::DrainProgressed { node: name, drain }),
            Report::Inputs { node: name, inputs } => (node.inputs.is_none()
                && asking.is_some_and(Gate::admits_operation))
            .then_some(Event::InputsPrepared { node: name, inputs }),
            Report::Submitted { node: owner, name, uid, others } => (operating
                && of_last(&name)
                && node.operation()?.progress == Progress::Intended)
                .then_some(Event::OperationSubmitted { node: owner, name, uid, others }),
            Report::Started { node: owner, name, pod, pod_node, image_id } => (operating
                && of_last(&name)
                && matches!(
                    node.operation()?.progress,
                    Progress::Submitted { .. } | Progress::Withdrawing { .. }
                ))
            .then_some(Event::OperationStarted { node: owner, name, pod, pod_node, image_id }),
            Report::Ended { node: owner, name, outcome, seen, extent } => (operating
                && of_last(&name))
            .then_some(Event::OperationEnded { node: owner, name, outcome, seen, extent }),
            Report::Copied { node: owner, name, part, number, text } => {
                (!of_any(&name)?.archived).then_some(Event::OperationCopied {
                    node: owner,
                    name,
                    part,
                    number,
                    text,
                })
            }
            Report::Archived { node: owner, name, seen, extent } => (!of_any(&name)?.archived)
                .then_some(Event::OperationArchived { node: owner, name, seen, extent }),
            Report::Foreign { node: owner, name } => {
                operating.then_some(Event::ForeignOperationSeen { node: owner, name })
            }
            Report::Leftovers { node: owner, processes } => self.kill(owner, processes),
            Report::LeftoversAnswered { node: owner, order, seen } => (asking
                == Some(Gate::Removal)
                && matches!(&node.leftovers, Leftovers::Ordered { order: now, .. } if *now == order))
            .then_some(Event::LeftoversAnswered { node: owner, order, seen }),
            Report::NodeDeletionAnswered { node: owner, uid, seen } => (asking
                == Some(Gate::Removal)
                && node.deletion == Deletion::Ordered { uid: uid.clone() })
            .then_some(Event::NodeDeletionAnswered { node: owner, uid, seen }),
            Report::Farewell { node: owner, generation } => (asking == Some(Gate::Reinstall)
                && node.farewell.is_none())
            .then_some(Event::FarewellSaid { node: owner, generation }),
            Report::Others { node: name, ailing } => others_event(node, name, ailing),
            Report::Installer { node: owner, percent, seen, done } => {
                installer_event(&node.track.phase, owner, percent, seen, done)
            }
        }
    }
}

/// What was done to take a control plane out of its cluster's way, if its gate is still asked.
fn hand_over_event(state: &Node, asking: Gate, report: Report) -> Option<Event> {
    match report {
        Report::Backup { node, backup } => (matches!(asking, Gate::Quorum | Gate::RemoveAdmission)
            && state.backup.is_none())
        .then_some(Event::BackupRecorded { node, backup }),
        Report::LeaderMoved { node, seen } => Some(Event::LeaderMoved { node, seen }),
        Report::Changing { node, object, revision, change } => (state.changing.get(&object)
            != Some(&revision))
        .then_some(Event::ChangeIntended { node, object, revision, change }),
        Report::EndpointMoved { node, object, from, to } => {
            Some(Event::EndpointMoved { node, object, from, to })
        }
        Report::Reordered { node, before_sha256, after_sha256 } => {
            Some(Event::InventoryReordered { node, before_sha256, after_sha256 })
        }
        Report::ApiServer { node, on, seen } => {
            (state.api_server_on != Some(on)).then_some(Event::ApiServerSwitched { node, on, seen })
        }
        _ => None,
    }
}

/// What the members of etcd that stay mean for a control plane that is away, if that is news.
fn others_event(state: &Node, node: NodeName, ailing: Option<String>) -> Option<Event> {
    let is_news = state.is_missed() && state.at_risk != ailing.is_some();
    is_news.then_some(match ailing {
        Some(why) => Event::QuorumAtRisk { node, why },
        None => Event::QuorumRestored { node },
    })
}

fn installer_event(
    phase: &Phase,
    node: NodeName,
    percent: u8,
    seen: String,
    done: bool,
) -> Option<Event> {
    let Phase::Reinstalling(reinstall) = phase else { return None };
    if done {
        let announced = reinstall.announced_by.is_some();
        return (!announced)
            .then(|| Event::ReinstallAnnounced { node, by: "installer".to_owned() });
    }
    let news = reinstall.progress.as_ref() != Some(&(percent, seen.clone()));
    news.then_some(Event::InstallerProgressed { node, percent, seen })
}
