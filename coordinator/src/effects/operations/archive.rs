//! What an operation leaves behind, copied into our log before Kubean's retention deletes it.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Resource, ResourceExt,
    api::{DynamicObject, ListParams, LogParams},
    core::ApiResource,
};
use rehull_shared::{ids::NodeName, text::bounded};
use serde::Serialize;
use serde_json::Value;

use super::{Case, follow::is_owned_by};
use crate::{
    clients::Trouble,
    domain::{
        command::{Report, Request},
        event::CopiedPart,
        state::{Extent, Kind},
    },
    effects::{Pass, Requests, api, api::Failure},
    inventory::Secrets,
    kubean::{ClusterOperation, INVENTORY_KEY, VARS_KEY, stored},
};

/// Longest piece, in bytes: an event must fit a pack of the log with room to spare.
const PIECE_MAX: usize = 3 * 1024;

/// Longest log that is kept, in bytes; of a longer one head and tail, half of it each.
const LOG_MAX: usize = 256 * 1024;

/// Longest log that is read into memory, in bytes. A verbose run prints a few MiB.
const READ_MAX: i64 = 16 * 1024 * 1024;

/// The play of kubespray's removal that first changes anything, and Ansible's last words.
const RESET: &str = "PLAY [Reset node]";
const RECAP: &str = "PLAY RECAP";

impl Pass<'_> {
    /// Copies what is there; what is gone is said.
    pub(in crate::effects) async fn archive_operation(
        &self,
        node: &NodeName,
        name: &str,
    ) -> Result<Requests, Trouble> {
        let Some(case) = self.case(node, name).await? else { return Ok(Requests::new()) };
        let mut archive = Archive { secrets: case.secrets().await?, ..Archive::default() };
        let uid = case.copy_operation(&mut archive).await?;
        case.copy_job(&mut archive, uid.as_deref()).await?;
        case.copy_pods(&mut archive).await?;
        let (node, name) = (node.clone(), name.to_owned());
        let seen = bounded(&archive.seen.join("; "), 1_000);
        let extent = archive.extent;
        archive.requests.push(Request::Report(Report::Archived { node, name, seen, extent }));
        Ok(archive.requests)
    }
}

/// What has been copied so far.
#[derive(Default)]
struct Archive {
    secrets: Secrets,
    requests: Requests,
    seen: Vec<String>,
    extent: Extent,
}

impl Archive {
    fn add(&mut self, case: &Case<'_>, part: CopiedPart, text: &str) {
        let text = self.secrets.redact(text);
        for (number, piece) in pieces(&text).into_iter().enumerate() {
            self.requests.push(Request::Report(Report::Copied {
                node: case.node.clone(),
                name: case.name().to_owned(),
                part,
                number: u32::try_from(number).unwrap_or(u32::MAX),
                text: piece.to_owned(),
            }));
        }
    }

    fn say(&mut self, words: impl Into<String>) {
        self.seen.push(words.into());
    }
}

impl Case<'_> {
    /// What must not be repeated: values of the inventory and the variables that it read. If its
    /// own copies are gone, the Cluster's tell them.
    async fn secrets(&self) -> Result<Secrets, Trouble> {
        let plan = &self.pass.migration.plan;
        let inputs = &self.operation.intent.inputs;
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &plan.namespace);
        let mut secrets = Secrets::default();
        let mut is_gone = false;
        for (name, key) in [(&inputs.inventory, INVENTORY_KEY), (&inputs.vars, VARS_KEY)] {
            let map = api::get(&maps, name).await;
            match map.map_err(|failure| failure.with(format!("ConfigMap {name}")))? {
                Some(map) => secrets.learn(map.data.unwrap_or_default().get(key).map_or("", |t| t)),
                None => is_gone = true,
            }
        }
        if is_gone {
            let stored = stored(&self.client, &plan.namespace, &plan.cluster).await?;
            secrets.learn(&stored.inventory);
            secrets.learn(&stored.vars);
        }
        Ok(secrets)
    }

    /// Its UID, if it is still there.
    async fn copy_operation(&self, archive: &mut Archive) -> Result<Option<String>, Trouble> {
        // Whole, with fields that our types do not know.
        let kind = ApiResource::erase::<ClusterOperation>(&());
        let whole: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        let found = api::get(&whole, self.name()).await;
        let Some(found) = found.map_err(|failure| failure.with(self.name()))? else {
            archive.say("the operation is gone");
            return Ok(self.operation.uid().map(str::to_owned));
        };
        let uid = found.metadata.uid.clone();
        if self.operation.uid().is_some_and(|ours| !ours.is_empty() && uid.as_deref() != Some(ours))
        {
            archive.say("the operation is gone, and another has its name");
            return Ok(None);
        }
        archive.add(self, CopiedPart::Operation, &json(&found));
        archive.say("operation");
        Ok(uid)
    }

    async fn copy_job(&self, archive: &mut Archive, uid: Option<&str>) -> Result<(), Trouble> {
        let name = ClusterOperation::job_of(self.name());
        let found = api::get(&self.jobs(), &name).await;
        match found.map_err(|failure| failure.with(format!("Job {name}")))? {
            Some(job) => {
                let ours = is_owned_by(&job.metadata, uid);
                archive.add(self, CopiedPart::Job, &json(&job));
                archive.say(if ours { "Job" } else { "Job (not of this operation)" });
            }
            None => archive.say("the Job is gone"),
        }
        Ok(())
    }

    async fn copy_pods(&self, archive: &mut Archive) -> Result<(), Trouble> {
        let job = ClusterOperation::job_of(self.name());
        let label = ListParams::default().labels(&format!("job-name={job}"));
        let pods = api::list(&self.pods(), label, Some).await;
        let mut pods = pods.map_err(|failure| failure.with(format!("pods of Job {job}")))?;
        pods.sort_by_key(|pod| (pod.metadata.creation_timestamp.clone(), pod.name_any()));
        // A Job of Kubean has one pod; of several, the last one tells most.
        let others = pods.len().saturating_sub(1);
        let Some(pod) = pods.pop() else {
            archive.say("the pod and its log are gone");
            return Ok(());
        };
        archive.add(self, CopiedPart::Pod, &json(&pod));
        let name = pod.name_any();
        let more = if others > 0 { format!(" ({others} older ones not)") } else { String::new() };
        archive.say(format!("pod {name}{more}"));
        let limit = LogParams { limit_bytes: Some(READ_MAX), ..LogParams::default() };
        match api::call(self.pods().logs(&name, &limit)).await {
            Ok(log) => {
                if self.operation.intent.kind == Kind::Remove {
                    archive.extent = extent_of(&log);
                }
                let (kept, words) = shortened(&archive.secrets.redact(&log));
                archive.add(self, CopiedPart::Log, &kept);
                archive.say(words);
            }
            // The container has never run, or is gone already.
            Err(Failure::Refused(status)) if matches!(status.code, 400 | 404) => {
                archive.say(format!("no log: {}", bounded(&status.message, 200)));
            }
            Err(failure) => return Err(failure.with(format!("log of pod {name}"))),
        }
        Ok(())
    }
}

/// An object as text, without the bookkeeping of the API server.
fn json<K: Resource + Serialize + Clone>(object: &K) -> String {
    let mut object = object.clone();
    object.meta_mut().managed_fields = None;
    serde_json::to_value(&object).unwrap_or(Value::Null).to_string()
}

/// How far a removal got, by the log of its only pod. A log without the recap has lost its end, and
/// one that was too long to be read tells nothing either.
fn extent_of(log: &str) -> Extent {
    if log.contains(RESET) {
        Extent::Reset
    } else if log.contains(RECAP) && (log.len() as i64) < READ_MAX {
        Extent::NotReset
    } else {
        Extent::Unknown
    }
}

/// A log that fits, and what was done to it in words.
fn shortened(log: &str) -> (String, String) {
    if log.len() <= LOG_MAX {
        return (log.to_owned(), format!("log of {} bytes, whole", log.len()));
    }
    let head = log.floor_char_boundary(LOG_MAX / 2);
    let tail = log.ceil_char_boundary(log.len() - LOG_MAX / 2);
    let words =
        format!("log of {} bytes, {} of them in the middle left out", log.len(), tail - head);
    (format!("{}\n[rehull: {} bytes left out]\n{}", &log[..head], tail - head, &log[tail..]), words)
}

/// Text in pieces that fit an event.
fn pieces(text: &str) -> Vec<&str> {
    let mut rest = text;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, others) = rest.split_at(rest.floor_char_boundary(PIECE_MAX));
        pieces.push(piece);
        rest = others;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_small_and_give_the_text_again() {
        let text = "ä\u{1f6a2}x\n".repeat(3_000);
        let pieces = pieces(&text);
        assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE_MAX));
        assert_eq!(pieces.concat(), text);
        assert!(super::pieces("").is_empty());
    }

    #[test]
    fn how_far_a_removal_got_is_told_by_its_whole_log_only() {
        for (log, extent) in [
            ("PLAY [Gather facts]\nPLAY RECAP ****\nn1 : unreachable=1\n", Extent::NotReset),
            ("PLAY [Gather facts]\nTASK [x]\n", Extent::Unknown),
            ("PLAY [Reset node] ****\nTASK [x]\n", Extent::Reset),
            ("PLAY [Reset node] ****\nPLAY RECAP ****\n", Extent::Reset),
            ("", Extent::Unknown),
        ] {
            assert_eq!(extent_of(log), extent, "{log:?}");
        }
        let long = format!("PLAY RECAP\n{}", " ".repeat(READ_MAX as usize));
        assert_eq!(extent_of(&long), Extent::Unknown, "its end was not read");
    }

    #[test]
    fn a_long_log_keeps_its_head_and_its_tail_and_says_so() {
        let long = format!("first{}last", "ä".repeat(LOG_MAX));
        let (kept, words) = shortened(&long);
        assert!(kept.starts_with("first") && kept.ends_with("last"), "{words}");
        assert!(kept.len() <= LOG_MAX + 60 && words.contains("left out"), "{words}");
        assert_eq!(shortened("ok\n"), ("ok\n".to_owned(), "log of 3 bytes, whole".to_owned()));
    }
}
