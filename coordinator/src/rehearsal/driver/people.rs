//! The people of a rehearsal at work: they do what `explain` says, accept what can be accepted, and
//! reinstall hosts where no program does.

use rehull_shared::{
    ids::{ClusterName, NodeName},
    text::sha256_hex,
    time::Span,
};

use super::{Driver, Error};
use crate::{
    domain::{
        command::{Command, Request},
        plan::Installer,
        state::{BackupProof, Phase, Subject, Token},
    },
    items,
    projection::{self, View},
    rehearsal::{
        installer,
        person::{Deed, Resolve},
    },
};

/// How long what a person accepts is accepted: longer than any rehearsal.
const APPROVED_FOR: Span = Span::from_secs(365 * 86_400);

/// How long the invitations of people are good.
const TOKEN_LIFE: Span = Span::from_mins(60);

impl Driver {
    /// Has the person do what `explain` says would unblock what is held. False if something is held
    /// that the person can neither help nor leave out.
    pub(super) async fn let_person_act(&mut self) -> Result<bool, Error> {
        let (published, now) = (self.coordinator.handle.published(), self.clock().now());
        let explain = |cluster: &ClusterName, subject: &Subject| {
            let view = View {
                fleet: &published.fleet,
                sequence: published.sequence,
                history: self.coordinator.handle.history(),
                troubles: &self.coordinator.troubles.all(),
                connected: &self.coordinator.context.agents.connected(),
                refused: &self.coordinator.context.agents.refused(),
                etcd: &Default::default(),
                readiness: &Default::default(),
                now,
            };
            projection::explain(&view, cluster, subject.node())
                .map(|all| all.unblock)
                .unwrap_or_default()
        };
        let resolves = self.person.looks(&published.fleet, now, &explain);
        let mut deeds = Vec::new();
        for resolve in resolves {
            let deed = match resolve {
                Resolve::Act(deed) => {
                    let node = deed.node().map(ToString::to_string).unwrap_or_default();
                    let mut world = self.parts.world.lock();
                    let mended = world.mend(deed.cluster.as_str(), &node, deed.remedy)?;
                    if mended { Some(deed) } else { deed.instead(&explain) }
                }
                Resolve::GiveUp(deed) => deed,
            };
            let Some(deed) = deed else { return Ok(false) };
            deeds.push(deed);
        }
        self.parts.world.lock().violations.append(&mut self.person.missing);
        self.do_chores().await?;
        for deed in deeds {
            self.accept(&deed).await?;
            self.submit(deed.command()).await?;
            self.deeds.push(deed);
        }
        Ok(true)
    }

    /// What control planes wait for, and is given as soon as the migration runs: a proof that a backup
    /// can be restored, and a person's word for the first of them.
    pub(super) async fn promise(
        &self,
        cluster: &ClusterName,
        first: NodeName,
    ) -> Result<(), Error> {
        let by = || "operator".to_owned();
        let proof = BackupProof {
            backup: format!("{cluster}/rehearsed"),
            snapshot_sha256: sha256_hex(cluster.as_str().as_bytes()),
            objects: 1,
            nodes: 1,
        };
        let prove = Request::ProveBackup { proof, by: by() };
        self.submit(Command::Of(cluster.clone(), prove)).await?;
        let approve = Request::Approve {
            typed: first.to_string(),
            items: vec![items::of_first(&first)],
            subject: Subject::Node(first),
            why: "it is rehearsed".to_owned(),
            until: self.clock().now() + APPROVED_FOR,
            by: by(),
        };
        self.submit(Command::Of(cluster.clone(), approve)).await
    }

    /// Accepts the items that a deed names.
    async fn accept(&self, deed: &Deed) -> Result<(), Error> {
        let ids = deed.items();
        let fleet = self.coordinator.handle.published().fleet;
        let Some(migration) = fleet.migrations.get(&deed.cluster).filter(|_| !ids.is_empty())
        else {
            return Ok(());
        };
        let mut items = items::of(migration, &deed.subject, &self.coordinator.context).await?;
        items.retain(|item| ids.contains(&item.id().as_str()));
        let subject = deed.subject.clone();
        let (why, by) = ("it is rehearsed".to_owned(), "operator".to_owned());
        let until = self.clock().now() + APPROVED_FOR;
        let typed = deed.node().map(ToString::to_string).unwrap_or_default();
        let approve = Request::Approve { subject, items, why, until, by, typed };
        self.submit(Command::Of(deed.cluster.clone(), approve)).await
    }

    /// Where no program reinstalls hosts, the person does: hands the new system its token, and says
    /// when it is there.
    pub(super) async fn reinstall_by_hand(&mut self) -> Result<(), Error> {
        let fleet = self.coordinator.handle.published().fleet;
        for (cluster, migration) in &fleet.migrations {
            if migration.plan.installer != Installer::Manual {
                continue;
            }
            for node in &migration.nodes {
                let Phase::Reinstalling(reinstall) = &node.track.phase else { continue };
                if reinstall.announced_by.is_some() {
                    continue;
                }
                let name = &node.planned.name;
                let order = (migration.id.to_string(), node.reinstall.to_string());
                let begun = installer::has_begun(&self.parts.world.lock(), name.as_str(), &order);
                let token = if begun { None } else { Some(self.invite(cluster, name).await?) };
                let whom = (cluster.as_str(), name.as_str());
                let done = installer::by_hand(&mut self.parts.world.lock(), whom, order, token);
                if done {
                    let (node, by) = (name.clone(), "operator".to_owned());
                    let confirm = Request::ConfirmReinstalled { node, by };
                    self.submit(Command::Of(cluster.clone(), confirm)).await?;
                }
            }
        }
        self.do_chores().await
    }

    /// Opens an invitation, and gives its secret.
    pub(super) async fn invite(
        &self,
        cluster: &ClusterName,
        node: &NodeName,
    ) -> Result<String, Error> {
        let secret = self.parts.secret();
        let sha256 = sha256_hex(secret.as_bytes());
        let token = Token { sha256, expires: self.clock().now() + TOKEN_LIFE };
        let request = Request::IssueToken { node: node.clone(), token, by: "operator".to_owned() };
        self.submit(Command::Of(cluster.clone(), request)).await?;
        Ok(secret)
    }
}
