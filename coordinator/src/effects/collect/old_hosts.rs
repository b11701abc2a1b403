//! What all hosts that still run the old system are asked for one of them.

use futures::future::join_all;
use rehull_shared::{
    evidence::{Check, Source, Verdict},
    ids::Round,
    time::Timestamp,
};

use super::{
    super::{Pass, api::few},
    Look, fitness,
};
use crate::domain::state::{Node, Phase};

impl Pass<'_> {
    /// Whether our own records have confirmed a check a short while ago, in this round.
    pub(super) fn is_fresh(&self, node: Option<&Node>, check: Check, now: Timestamp) -> bool {
        let Some(Phase::Asking { dossier, .. }) = node.map(|node| &node.track.phase) else {
            return false;
        };
        let half = self.migration.plan.policy.evidence_max_age.as_secs() / 2;
        dossier.get(check, &Source::Coordinator).is_some_and(|seen| {
            matches!(seen.evidence.verdict, Verdict::Pass(_))
                && now.since(seen.evidence.observed_at).as_secs() < half
        })
    }

    /// Has every host that still runs the old system try its repositories: an operation for one node
    /// prepares all of them (F80). Hosts that have none set up bring their packages another way.
    pub(super) async fn old_repositories(&self, round: Round) -> Verdict {
        let old = |node: &&Node| !node.is_out() && !node.track.phase.is_over();
        let old: Vec<&Node> = self.migration.nodes.iter().filter(old).collect();
        let heard = old.iter().map(|node| self.hear(node, round, Look::Repositories));
        let heard = join_all(heard).await;
        let (mut tried, mut dead) = (0, Vec::new());
        for (node, heard) in old.iter().zip(&heard) {
            let found = heard.as_ref().map_err(|(_, unknown)| unknown.clone());
            let found = found.and_then(|heard| fitness::repositories(&heard.report).cloned());
            let found = match found {
                Ok(repositories) => repositories.found,
                Err(unknown) => {
                    let name = &node.planned.name;
                    return Verdict::unknown(format!("repositories of {name}: {}", unknown.seen()));
                }
            };
            tried += found.len();
            let silent = fitness::silent(&found).into_iter();
            dead.extend(silent.map(|why| format!("{}: {why}", node.planned.name)));
        }
        let hosts = old.len();
        match dead.is_empty() {
            true => Verdict::pass(format!("{tried} package repositories of {hosts} hosts serve")),
            false => Verdict::fail(format!("package repositories do not serve: {}", few(dead))),
        }
    }
}
