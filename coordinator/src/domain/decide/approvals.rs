//! What people accept, for how long, and its end; and what they have proved.

use std::collections::BTreeSet;

use rehull_shared::time::Timestamp;

use super::{Desk, holds::not_now};
use crate::domain::{
    approval::Item,
    command::Refusal,
    event::Event,
    plan::Role,
    state::{BackupProof, Migration, Subject},
};

impl Desk<'_> {
    /// Whoever approves something of the first control plane must mean it, and not one of the others.
    pub(super) fn means(&self, subject: &Subject, typed: &str) -> Result<(), Refusal> {
        let Subject::Node(node) = subject else { return Ok(()) };
        let first = self.known()?.bench(subject).role == Role::FirstControlPlane;
        if first && typed != node.as_str() {
            let phase = self.phase_of(subject)?;
            let why = format!(
                "it is the first control plane, so its name must be typed for this: --typed {node}"
            );
            return Err(not_now(subject, phase, &why));
        }
        Ok(())
    }

    /// A person accepts items, until a time. Accepting one again moves its end.
    pub(super) fn approve(
        &mut self,
        subject: &Subject,
        items: &[Item],
        why: &str,
        until: Timestamp,
        by: &str,
    ) -> Result<(), Refusal> {
        let phase = self.phase_of(subject)?;
        if phase.is_over() {
            return Err(not_now(subject, phase, "it is over: nothing of it needs an approval"));
        }
        if until <= self.now() {
            return Err(not_now(subject, phase, "the approval would have ended already"));
        }
        for item in items {
            let (subject, item, by, why) = (subject.clone(), item.clone(), by.into(), why.into());
            self.write(Event::Approved { subject, item, by, why, until });
        }
        Ok(())
    }

    /// A person has proved a backup of the cluster: that counts until the migration is over.
    pub(super) fn prove_backup(&mut self, proof: &BackupProof, by: &str) -> Result<(), Refusal> {
        let phase = &self.known()?.track.phase;
        if phase.is_over() {
            return Err(not_now(
                &Subject::Cluster,
                phase,
                "it is over: nothing of it needs a proof",
            ));
        }
        self.write(Event::BackupProved { proof: proof.clone(), by: by.to_owned() });
        Ok(())
    }

    /// A person takes approvals back: all of them, or none if one is not known.
    pub(super) fn disapprove(
        &mut self,
        subject: &Subject,
        items: &[String],
        by: &str,
    ) -> Result<(), Refusal> {
        let phase = self.phase_of(subject)?;
        let approvals = self.known()?.track(subject).map(|track| &track.approvals);
        let holds = |item: &String| {
            approvals.and_then(|all| all.get(item)).is_some_and(|it| it.holds(self.now()))
        };
        if let Some(item) = items.iter().find(|item| !holds(item)) {
            let why = format!("no approval of item {item} holds: see `rehull explain`");
            return Err(not_now(subject, phase, &why));
        }
        for item in items.iter().collect::<BTreeSet<_>>() {
            self.end(subject.clone(), item.clone(), Some(by.to_owned()));
        }
        Ok(())
    }

    /// Ends the approvals whose time has come.
    pub(super) fn end_approvals(&mut self) {
        let now = self.now();
        let ended = self.migration().map(|migration| overdue(migration, now)).unwrap_or_default();
        for (subject, item) in ended {
            self.end(subject, item, None);
        }
    }

    fn end(&mut self, subject: Subject, item: String, by: Option<String>) {
        self.write(Event::ApprovalEnded { subject, item, by });
    }
}

/// Approvals that have not ended although they hold no more.
fn overdue(migration: &Migration, now: Timestamp) -> Vec<(Subject, String)> {
    let open = migration.tracks().filter(|(_, track)| !track.phase.is_over());
    open.flat_map(|(node, track)| {
        let over = track.approvals.iter().filter(move |(_, it)| !it.ended && !it.holds(now));
        over.map(move |(item, _)| (Subject::of(node), item.clone()))
    })
    .collect()
}
