//! Operations: created once, found again by name, followed to their end, and believed in nothing.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};
use rehull_shared::{
    evidence::Verdict,
    ids::{Epoch, NodeName},
};

use super::{
    Pass, Requests,
    api::{self, Failure},
};
use crate::{
    clients::Trouble,
    domain::{
        command::{Report, Request},
        state::{Extent, Operation, Outcome, Progress, Subject},
    },
    kubean::{self, ClusterOperation, annotation, same_meaning},
};

mod archive;
mod follow;

/// One operation, as it was intended, and where it is looked for.
struct Case<'a> {
    pass: &'a Pass<'a>,
    node: &'a NodeName,
    operation: &'a Operation,
    /// What it must be.
    ours: ClusterOperation,
    client: Client,
}

impl Pass<'_> {
    /// Creates the operation if it is not there, and follows it to its end.
    pub(super) async fn run_operation(
        &self,
        node: &NodeName,
        name: &str,
    ) -> Result<Requests, Trouble> {
        let Some(case) = self.case(node, name).await? else { return Ok(Requests::new()) };
        match (case.find().await?, &case.operation.progress) {
            (None, Progress::Intended) => case.create().await,
            (None, _) => {
                let why = "it is gone: deleted by somebody, or by Kubean's retention";
                Ok(case.ended(Outcome::Unknown, why, Extent::Unknown))
            }
            (Some(found), _) => case.meet(&found).await,
        }
    }

    /// Deletes the operation that has not started, unless it has started meanwhile.
    pub(super) async fn withdraw_operation(
        &self,
        node: &NodeName,
        name: &str,
    ) -> Result<Requests, Trouble> {
        let Some(case) = self.case(node, name).await? else { return Ok(Requests::new()) };
        let Some(found) = case.find().await? else {
            let why = "withdrawn before it started: it is gone";
            return Ok(case.ended(Outcome::Unknown, why, Extent::NotStarted));
        };
        if let Err(why) = case.is_ours(&found) {
            let why = format!("withdrawn; what has its name is not ours: {why}");
            return Ok(case.ended(Outcome::Unknown, &why, Extent::Unknown));
        }
        let traces = case.traces(&found).await?;
        if found.is_over() || traces.actor.is_some() {
            return case.follow(&found, traces);
        }
        if let Some(pod) = traces.running() {
            let why = format!("its pod {pod} runs: it is not deleted, but waited for");
            return Err(Trouble::new(name, why));
        }
        if found.metadata.deletion_timestamp.is_none() {
            case.delete(&found).await?;
        }
        Ok(Requests::new())
    }

    async fn case<'a>(
        &'a self,
        node: &'a NodeName,
        name: &str,
    ) -> Result<Option<Case<'a>>, Trouble> {
        let state = self.node(node)?;
        let made = &state.operations;
        let Some(operation) = made.iter().find(|op| op.intent.name == name) else {
            return Ok(None);
        };
        let role = state.planned.role;
        let whose =
            kubean::Identity { migration: self.migration.id, epoch: self.epoch(), node, role };
        let ours = kubean::expected(&self.migration.plan, &operation.intent, whose)
            .map_err(|bad| Trouble::new(name, bad))?;
        let client = self.management_client().await?;
        Ok(Some(Case { pass: self, node, operation, ours, client }))
    }
}

impl Case<'_> {
    fn name(&self) -> &str {
        &self.operation.intent.name
    }

    fn operations(&self) -> Api<ClusterOperation> {
        Api::all(self.client.clone())
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.pass.migration.plan.namespace)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.pass.migration.plan.namespace)
    }

    async fn find(&self) -> Result<Option<ClusterOperation>, Trouble> {
        let found = api::get(&self.operations(), self.name()).await;
        found.map_err(|failure| failure.with(format!("operation {}", self.name())))
    }

    fn report(&self, report: Report) -> Request {
        Request::Report(report)
    }

    fn ended(&self, outcome: Outcome, seen: &str, extent: Extent) -> Requests {
        let (node, name, seen) = (self.node.clone(), self.name().to_owned(), seen.to_owned());
        vec![self.report(Report::Ended { node, name, outcome, seen, extent })]
    }

    /// Creates it, if nothing stands in the way, and only as long as what has admitted it is young: a
    /// crash may lie between.
    async fn create(&self) -> Result<Requests, Trouble> {
        let name = self.name();
        let subject = Subject::Node(self.node.clone());
        let deadline = self.pass.fleet.deadline(&self.pass.effect.cluster, &subject);
        if deadline.is_none_or(|deadline| self.pass.now() >= deadline) {
            let why = "is not created any more: what has admitted it is too old";
            return Err(Trouble::new(name, why));
        }
        let others = unfinished(&self.operations()).await?;
        if let Some(other) = others.iter().find(|other| self.is_of_cluster(other)) {
            let why = format!("waits: {} of this cluster is not over", describe(other));
            return Err(Trouble::new(name, why));
        }
        let job = ClusterOperation::job_of(name);
        let found = api::get(&self.jobs(), &job).await.map_err(|failure| failure.with(&job))?;
        if found.is_some() {
            let why =
                format!("Job {job} exists already, and the operator would adopt it: delete it");
            return Err(Trouble::new(name, why));
        }
        let inputs = self.pass.inputs_stored(&self.client, &self.operation.intent.inputs).await;
        if !matches!(inputs, Verdict::Pass(_)) {
            return Err(Trouble::new(name, inputs.seen()));
        }
        match api::call(self.operations().create(&PostParams::default(), &self.ours)).await {
            Ok(made) => self.submitted(&made).await,
            // Created by a call whose answer was lost: the next pass meets it.
            Err(Failure::Refused(status)) if status.code == 409 => Ok(Requests::new()),
            Err(failure) => Err(failure.with(format!("creation of operation {name}"))),
        }
    }

    fn is_of_cluster(&self, other: &ClusterOperation) -> bool {
        other.spec.cluster == self.pass.migration.plan.cluster.as_str()
    }

    /// It exists. Others are looked for again: the webhook may let two in at the same moment.
    async fn submitted(&self, made: &ClusterOperation) -> Result<Requests, Trouble> {
        let mut others = unfinished(&self.operations()).await?;
        others.retain(|other| other.name_any() != self.name());
        let (node, name) = (self.node.clone(), self.name().to_owned());
        let uid = made.uid().unwrap_or_default();
        let count = u32::try_from(others.len()).unwrap_or(u32::MAX);
        let mut requests = vec![self.report(Report::Submitted { node, name, uid, others: count })];
        for other in others.iter().filter(|other| self.is_of_cluster(other)) {
            let (node, name) = (self.node.clone(), other.name_any());
            requests.push(self.report(Report::Foreign { node, name }));
        }
        Ok(requests)
    }

    /// An object of its name exists.
    async fn meet(&self, found: &ClusterOperation) -> Result<Requests, Trouble> {
        let is_ours = self.is_ours(found);
        match (&self.operation.progress, is_ours) {
            (Progress::Intended, Ok(())) => self.submitted(found).await,
            (Progress::Intended, Err(why)) => {
                let why = format!("an operation of this name exists that is not ours: {why}");
                Err(Trouble::new(self.name(), why))
            }
            (_, Ok(())) => {
                let traces = self.traces(found).await?;
                self.follow(found, traces)
            }
            (_, Err(why)) => Ok(self.ended(Outcome::Unknown, &why, Extent::Unknown)),
        }
    }

    /// Whether an object of its name is the one that was intended: by UID once that is known, else
    /// by marks and meaning.
    fn is_ours(&self, found: &ClusterOperation) -> Result<(), String> {
        if let Some(uid) = self.operation.uid().filter(|uid| !uid.is_empty()) {
            return match found.uid().as_deref() == Some(uid) {
                true => Ok(()),
                false => Err("another object has taken its name".to_owned()),
            };
        }
        let mark = |object: &ClusterOperation, key| object.annotations().get(key).cloned();
        use annotation::{ATTEMPT, EPOCH, MIGRATION, NODE, SPEC_HASH};
        for key in [MIGRATION, NODE, ATTEMPT, SPEC_HASH] {
            if mark(found, key) != mark(&self.ours, key) {
                return Err(format!("its annotation {key} is not the one we would have written"));
            }
        }
        let epoch = mark(found, EPOCH).and_then(|epoch| epoch.parse().ok()).map(Epoch);
        if epoch.is_none_or(|epoch| epoch > self.pass.epoch()) {
            return Err("a later coordinator has made it".to_owned());
        }
        match same_meaning(&self.ours.spec, &found.spec) {
            true => Ok(()),
            false => Err("its spec has been changed since it was made".to_owned()),
        }
    }

    /// Deletes the very object that was seen, as it was seen: if its pod is reported meanwhile, the
    /// deletion is refused. In the foreground, so that it is gone only when its pod is.
    async fn delete(&self, found: &ClusterOperation) -> Result<(), Trouble> {
        let preconditions =
            Preconditions { uid: found.uid(), resource_version: found.resource_version() };
        let how = DeleteParams::foreground().preconditions(preconditions);
        match api::call(self.operations().delete(self.name(), &how)).await {
            Ok(_) => Ok(()),
            Err(Failure::Refused(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(failure) => Err(failure.with(format!("deletion of operation {}", self.name()))),
        }
    }
}

/// Operations that are running, or may begin to run.
pub(super) async fn unfinished(
    operations: &Api<ClusterOperation>,
) -> Result<Vec<ClusterOperation>, Trouble> {
    let keep = |operation: ClusterOperation| (!operation.is_over()).then_some(operation);
    let list = api::list(operations, ListParams::default(), keep).await;
    list.map_err(|failure| failure.with("the list of operations"))
}

/// An operation in words.
pub(super) fn describe(operation: &ClusterOperation) -> String {
    let word = match operation.word() {
        "" => "not begun",
        word => word,
    };
    format!("operation {} ({}, {word})", operation.name_any(), operation.spec.action)
}

#[cfg(test)]
mod tests;
