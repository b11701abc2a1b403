//! How far an operation is, told from its Job and pods rather than from its own words.

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    ResourceExt,
    api::{ListParams, ObjectMeta},
};
use rehull_shared::time::{Span, Timestamp};

use super::{Case, Requests};
use crate::{
    clients::Trouble,
    domain::{
        command::Report,
        state::{Extent, Outcome, Progress},
    },
    effects::api,
    kubean::{ACTOR, ClusterOperation},
};

/// How long after the end of its Job an operation may go on to say that it is running. The operator
/// looks every 5 s, and a restart of it takes about 16 s.
const LATE: Span = Span::from_secs(120);

/// What an operation has left in the management cluster so far.
pub(super) struct Traces {
    /// Its Job, by name.
    pub(super) job: Option<Job>,
    /// Pods of a Job of that name.
    pub(super) pods: Vec<Pod>,
    /// The pod that the operator has seen running, if it is a pod of our Job: the proof of a start.
    pub(super) actor: Option<Pod>,
}

impl Traces {
    /// A pod that runs.
    pub(super) fn running(&self) -> Option<String> {
        self.pods.iter().find(|pod| phase(pod) == "Running").map(ResourceExt::name_any)
    }

    /// A pod that runs or may begin to.
    fn living(&self) -> Option<String> {
        let over = |pod: &&Pod| matches!(phase(pod), "Succeeded" | "Failed");
        self.pods.iter().find(|pod| !over(pod)).map(ResourceExt::name_any)
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(super) fn is_owned_by(metadata: &ObjectMeta, uid: Option<&str>) -> bool {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    uid.is_some_and(|uid| owners.iter().any(|owner| owner.uid == uid))
}

impl Case<'_> {
    /// Looks for the Job and its pods. The name of a pod may be cut, so its label is what counts.
    pub(super) async fn traces(&self, found: &ClusterOperation) -> Result<Traces, Trouble> {
        let name = ClusterOperation::job_of(self.name());
        let job = api::get(&self.jobs(), &name).await;
        let job = job.map_err(|failure| failure.with(format!("Job {name}")))?;
        let label = ListParams::default().labels(&format!("job-name={name}"));
        let pods = api::list(&self.pods(), label, Some).await;
        let pods = pods.map_err(|failure| failure.with(format!("pods of Job {name}")))?;
        let job_uid = job.as_ref().and_then(|job| job.metadata.uid.as_deref());
        let is_ours = job
            .as_ref()
            .is_some_and(|job| is_owned_by(&job.metadata, found.metadata.uid.as_deref()));
        let actor = found.annotations().get(ACTOR).filter(|_| is_ours);
        let actor = actor.and_then(|actor| {
            let pod = pods.iter().find(|pod| pod.metadata.name.as_ref() == Some(actor))?;
            is_owned_by(&pod.metadata, job_uid).then(|| pod.clone())
        });
        Ok(Traces { job, pods, actor })
    }

    /// Reports a start and an end, once each is proved.
    pub(super) fn follow(
        &self,
        found: &ClusterOperation,
        traces: Traces,
    ) -> Result<Requests, Trouble> {
        let uid = found.metadata.uid.as_deref();
        if let Some(job) = traces.job.as_ref().filter(|job| !is_owned_by(&job.metadata, uid)) {
            let why = format!(
                "the operator has adopted Job {}, which is not its own: nothing of it has run",
                job.name_any()
            );
            return Ok(self.ended(Outcome::Unknown, &why, Extent::NotStarted));
        }
        let mut requests = self.start(&traces);
        let late = || self.is_late(&traces);
        let end = match (found.is_over(), traces.living()) {
            // It says that it is over, but what it has started is not.
            (true, Some(pod)) => {
                let why = format!("says {}, but its pod {pod} is not over", found.word());
                return if requests.is_empty() {
                    Err(Trouble::new(self.name(), why))
                } else {
                    Ok(requests)
                };
            }
            (true, None) => Some(judge(found, &traces)),
            (false, None) if late() => {
                let why = format!(
                    "its Job is over, but {LATE} later it still says {:?}: ask the operator's log",
                    found.word()
                );
                Some((Outcome::Unknown, why, Extent::Unknown))
            }
            (false, _) => None,
        };
        if let Some((outcome, seen, extent)) = end {
            requests.extend(self.ended(outcome, &seen, extent));
        }
        Ok(requests)
    }

    /// The report of a start, if it is new and proved.
    fn start(&self, traces: &Traces) -> Requests {
        let waits = matches!(
            self.operation.progress,
            Progress::Submitted { .. } | Progress::Withdrawing { .. }
        );
        let Some(pod) = traces.actor.as_ref().filter(|_| waits) else { return Requests::new() };
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        let image_id = statuses.and_then(|all| all.first()).map(|status| status.image_id.clone());
        vec![self.report(Report::Started {
            node: self.node.clone(),
            name: self.name().to_owned(),
            pod: pod.name_any(),
            pod_node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            image_id: image_id.unwrap_or_default(),
        })]
    }

    /// Whether the Job ended so long ago that the operator should have said so.
    fn is_late(&self, traces: &Traces) -> bool {
        let ended = traces.job.as_ref().and_then(job_ended);
        ended.is_some_and(|ended| ended + LATE < self.pass.now())
    }
}

/// When a Job ended.
fn job_ended(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = |type_: &str| matches!(type_, "Complete" | "Failed");
    let last = conditions.iter().find(|one| ended(&one.type_) && one.status == "True")?;
    last.last_transition_time.as_ref().map(timestamp)
}

fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_millis(time.0.as_millisecond())
}

/// What a finished operation amounts to. Only a hint: a round of evidence follows in any case.
fn judge(found: &ClusterOperation, traces: &Traces) -> (Outcome, String, Extent) {
    let word = found.word();
    let status = found.status.clone().unwrap_or_default();
    let unknown =
        |why: &str| (Outcome::Unknown, format!("says {word}, but {why}"), Extent::Unknown);
    if let (Some(start), Some(end)) = (&status.start_time, &status.end_time)
        && end.0 < start.0
    {
        return unknown("ended before it started: it has adopted an older Job");
    }
    if status.has_modified == Some(true) {
        return unknown("somebody has changed its spec while it ran");
    }
    match (word, &traces.job, &status.job_ref) {
        ("Succeeded", None, _) => unknown("its Job is gone"),
        ("Succeeded", Some(job), _) if job_ended(job).is_none() => unknown("its Job has not ended"),
        ("Succeeded", Some(_), _) => (Outcome::Succeeded, words_of(word, traces), Extent::Unknown),
        (_, None, None) => {
            let why = "says Failed: it had no Job (image, playbook or inputs were refused)";
            (Outcome::Failed, why.to_owned(), Extent::NotStarted)
        }
        (_, None, Some(_)) => unknown("its Job was deleted under it"),
        (_, Some(_), _) => (Outcome::Failed, words_of(word, traces), Extent::Unknown),
    }
}

/// What a Job and its pod say of the end.
fn words_of(word: &str, traces: &Traces) -> String {
    let mut words = format!("says {word}");
    let conditions = traces.job.as_ref().and_then(|job| job.status.as_ref()?.conditions.as_ref());
    for condition in conditions.into_iter().flatten() {
        if condition.type_ == "Failed" && condition.status == "True" {
            let reason = condition.reason.as_deref().unwrap_or_default();
            words = format!("{words}; Job failed: {reason}");
        }
    }
    match traces.pods.first() {
        Some(pod) => format!("{words}; pod {} {}", pod.name_any(), phase(pod)),
        None => format!("{words}; no pod is left of it"),
    }
}
