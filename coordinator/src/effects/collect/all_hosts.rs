//! What all hosts of a kind are asked for a gate of one of them, or of their cluster.

use std::collections::BTreeSet;

use futures::future::join_all;
use rehull_proto::v1::{Proxy, Report};
use rehull_shared::{
    evidence::{Check, Source, Verdict},
    ids::{NodeName, Round},
    time::{Span, Timestamp},
};

use super::{
    super::{Pass, api::few, control_planes::host_of},
    Look, fitness,
    host::{Heard, part},
};
use crate::domain::{
    plan::ControlPlane,
    state::{Node, Phase, Subject},
};

/// How much later than the start of a proxy its configuration may have been changed: a start time is
/// known to a second, and a container is made in some.
const WRITTEN_LATE_MAX: Span = Span::from_secs(5);

impl Pass<'_> {
    /// Whether our own records have confirmed a check a short while ago, in this round.
    pub(super) fn is_fresh(&self, subject: &Subject, check: Check, now: Timestamp) -> bool {
        let track = self.migration.track(subject);
        let Some(Phase::Asking { dossier, .. }) = track.map(|track| &track.phase) else {
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
        let old = self.migration.nodes.iter().filter(old).map(|node| &node.planned.name);
        let found = self.each(old, round, Look::Repositories, fitness::repositories).await;
        let found = match found {
            Ok(found) => found,
            Err((name, unknown)) => {
                return Verdict::unknown(format!("repositories of {name}: {}", unknown.seen()));
            }
        };
        let dead = found.iter().flat_map(|(name, repositories)| {
            let silent = fitness::silent(&repositories.found).into_iter();
            silent.map(move |why| format!("{name}: {why}"))
        });
        let dead: Vec<String> = dead.collect();
        let tried: usize = found.iter().map(|(_, repositories)| repositories.found.len()).sum();
        let hosts = found.len();
        match dead.is_empty() {
            true => Verdict::pass(format!("{tried} package repositories of {hosts} hosts serve")),
            false => Verdict::fail(format!("package repositories do not serve: {}", few(dead))),
        }
    }

    /// Whether the proxies of all workers that are there lead to all control planes (F28): one that knows
    /// only some of them cuts its node off when these go. Who is away comes back to the same address.
    pub(super) async fn proxies_lead_to_all(&self, round: Round) -> Verdict {
        let found = match self.each(self.workers(), round, Look::Proxy, proxy).await {
            Ok(found) => found,
            Err((name, unknown)) => {
                return Verdict::unknown(format!("the proxy of {name}: {}", unknown.seen()));
            }
        };
        let planes = &self.migration.plan.control_planes;
        let wrong = found.iter().flat_map(|(name, proxy)| {
            wrong_with(proxy, planes).into_iter().map(move |why| format!("{name}: {why}"))
        });
        let wrong: Vec<String> = wrong.collect();
        let there = found.iter().filter(|(_, proxy)| !proxy.servers.is_empty()).count();
        match wrong.is_empty() {
            true => Verdict::pass(format!(
                "{there} of {} workers have a proxy of their own, which leads to {} control planes",
                found.len(),
                planes.len()
            )),
            false => Verdict::fail(few(wrong)),
        }
    }

    /// Those that are planned and are there, and those that are not planned but have an agent.
    fn workers(&self) -> impl Iterator<Item = &NodeName> {
        let is_worker = |node: &&Node| !node.planned.role.is_control_plane() && !node.is_absent();
        let planned = self.migration.nodes.iter().filter(is_worker);
        let cluster = &self.effect.cluster;
        let enrolled = self.fleet.hosts.keys().filter(move |(of, name)| {
            let plan = &self.migration.plan;
            of == cluster
                && self.fleet.agent_of(cluster, name).is_some()
                && self.migration.node(name).is_none()
                && plan.control_plane(name).is_none()
        });
        planned.map(|node| &node.planned.name).chain(enrolled.map(|(_, name)| name))
    }

    /// Asks the agents of these nodes, side by side, for one part of their reports. `Err` names the first
    /// of which nobody knows it.
    async fn each<'a, T: Clone>(
        &self,
        names: impl Iterator<Item = &'a NodeName>,
        round: Round,
        what: Look,
        part: impl for<'r> Fn(&'r Report) -> Result<&'r T, Verdict>,
    ) -> Result<Vec<(&'a NodeName, T)>, (&'a NodeName, Verdict)> {
        let names: Vec<&NodeName> = names.collect();
        let heard = join_all(names.iter().map(|name| self.hear(name, round, what))).await;
        let parts = names.into_iter().zip(&heard).map(|(name, heard)| {
            let said = heard.as_ref().map_err(|(_, unknown)| (name, unknown.clone()));
            let said =
                said.and_then(|Heard { report, .. }| part(report).map_err(|why| (name, why)));
            Ok((name, said?.clone()))
        });
        parts.collect()
    }
}

fn proxy(report: &Report) -> Result<&Proxy, Verdict> {
    part(report, &report.proxy, "proxy")
}

/// What is wrong with a proxy, whose servers are to be exactly these control planes.
fn wrong_with(proxy: &Proxy, planes: &[ControlPlane]) -> Vec<String> {
    if proxy.servers.is_empty() {
        return Vec::new();
    }
    let is = |server: &str, plane: &ControlPlane| {
        let (host, port) = (host_of(server), server.rsplit(':').next());
        (host == plane.address || host == plane.name.as_str())
            && port == plane.api_server.rsplit(':').next()
    };
    let config = &proxy.config;
    let missing = planes.iter().filter(|plane| !proxy.servers.iter().any(|at| is(at, plane)));
    let missing =
        missing.map(|plane| format!("{config} has no {} ({})", plane.name, plane.api_server));
    let servers: BTreeSet<&String> = proxy.servers.iter().collect();
    let extra = servers.into_iter().filter(|at| !planes.iter().any(|plane| is(at, plane)));
    let extra = extra.map(|at| format!("{config} leads to {at}, which is no control plane"));
    let changed = Timestamp::from_millis(proxy.changed_ms);
    let late = changed > Timestamp::from_millis(proxy.started_ms) + WRITTEN_LATE_MAX;
    let late = late.then(|| format!("{config} was changed at {changed}, and was not read again"));
    missing.chain(extra).chain(late).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::testing::plane;

    #[test]
    fn a_proxy_leads_to_all_control_planes_and_has_read_that() {
        let planes = [plane(1), plane(2)];
        let judge = |servers: &[&str], changed_ms: i64| {
            let servers = servers.iter().map(|&at| at.to_owned()).collect();
            let (config, started_ms) = ("nginx.conf".to_owned(), 10_000);
            wrong_with(&Proxy { config, servers, started_ms, changed_ms }, &planes).join("; ")
        };
        let both = ["10.0.0.2:6443", "10.0.0.1:6443"];
        assert_eq!(judge(&both, 15_000), "");
        assert_eq!(judge(&["m1:6443", "10.0.0.2:6443"], 0), "");
        assert_eq!(judge(&[], 99_000), "", "the node has no proxy");
        assert_eq!(judge(&both[..1], 0), "nginx.conf has no m1 (10.0.0.1:6443)");
        let other = ["10.0.0.2:6443", "10.0.0.1:8443", "10.0.0.1:6443"];
        let words = "nginx.conf leads to 10.0.0.1:8443, which is no control plane";
        assert_eq!(judge(&other, 0), words);
        let words = judge(&both, 15_001);
        assert!(words.ends_with("was not read again"), "{words}");
    }
}
