//! What the capacity and disruption preflight says to the checks of a node that is to be drained.

use k8s_openapi::api::core::v1::Pod;
use rehull_shared::{
    evidence::{Check, Verdict},
    ids::NodeName,
};

use super::{
    super::{
        Pass,
        api::few,
        evictions::{self, Answer, evict},
    },
    server::{Reports, Server},
};
use crate::{
    capacity::{Placement, Report, Weight},
    domain::{approval::Item, state::Subject},
    items, pods,
};

impl Pass<'_> {
    /// Answers a check of the preflight about a node.
    pub(super) async fn preflight(
        &self,
        check: Check,
        server: &Server,
        node: &NodeName,
    ) -> Result<Verdict, Verdict> {
        let others = self.migration.leaving_before(node).map(|other| other.planned.name.as_str());
        let others: Vec<&str> = others.collect();
        let with =
            if others.is_empty() { String::new() } else { format!(", with {}", few(&others)) };
        let Some(Reports { alone, together }) = server.reports(node, &others).await? else {
            return Ok(Verdict::fail(format!("Node {node} does not exist{with}")));
        };
        let (mut against, items) = sorted(alone, check);
        if let (Check::CapacityElsewhere, Some(together)) = (check, together) {
            // What a person could accept of the others was accepted of them.
            against = sorted(together, check).0;
            against.iter_mut().for_each(|why| *why += &with);
        }
        let (open, accepted) = self.unaccepted(&Subject::Node(node.clone()), items);
        against.extend(open.iter().map(Item::words));
        if !against.is_empty() {
            return Ok(Verdict::fail(few(against)));
        }
        let passes = match check {
            Check::CapacityElsewhere => {
                words(&together.as_ref().unwrap_or(alone).placement) + &with
            }
            Check::DisruptionsAllowed => match evictable(server, node).await? {
                Ok(words) => words,
                Err(refused) => return Ok(Verdict::fail(refused)),
            },
            _ => "no data that anybody would miss is on the disk of the host".to_owned(),
        };
        Ok(Verdict::pass(passes + &accepted))
    }
}

/// What blocks a check for good, and what does until a person accepts it.
fn sorted(report: &Report, check: Check) -> (Vec<String>, Vec<Item>) {
    let (mut blocking, mut items) = (Vec::new(), Vec::new());
    for finding in report.findings.iter().filter(|finding| finding.check() == check) {
        match items::of_finding(finding) {
            Some(item) => items.push(item),
            None if finding.weight() == Weight::Blocks => blocking.push(finding.to_string()),
            None => (),
        }
    }
    (blocking, items)
}

/// Whether every movable pod of the node could be evicted now: the API server says yes to the
/// eviction without carrying it out. The inner error names those that could not.
async fn evictable(server: &Server, node: &NodeName) -> Result<Result<String, String>, Verdict> {
    let moving: Vec<&Pod> =
        server.pods(node).await?.iter().filter(|pod| pods::is_movable(pod)).collect();
    let budgets = server.budgets().await?;
    let mut refused = Vec::new();
    for pod in &moving {
        match evict(server.client()?, pod, true).await {
            Answer::Accepted | Answer::Gone => (),
            Answer::Refused(failure) => refused.push(evictions::refusal(pod, &failure, budgets)),
            Answer::Silent(why) => {
                let pod = pods::name(pod);
                return Err(Verdict::unknown(format!("cannot try the eviction of {pod}: {why}")));
            }
        }
    }
    Ok(match refused.is_empty() {
        true => Ok(format!("{} pods could be evicted", moving.len())),
        false => Err(few(refused)),
    })
}

/// How the pods were placed, and how much choice was left.
fn words(placement: &Placement) -> String {
    let Placement { pods, nodes, ways, tightest } = placement;
    let mut words = format!("{pods} pods fit on {nodes} other nodes");
    if *ways > 0 {
        words += &format!(" in each of {ways} ways");
    } else if *pods > 0 {
        words += " in every order";
    }
    if let Some((pod, choice)) = tightest {
        words += &format!("; {pod} had the fewest to choose from: {choice}");
    }
    words
}
