//! What the capacity and disruption preflight says to the checks of a node that is to be drained.

use k8s_openapi::api::core::v1::Pod;
use rehull_shared::{
    evidence::{Check, Verdict},
    ids::NodeName,
};

use super::{
    super::{
        api::few,
        evictions::{self, Answer, evict},
    },
    server::Server,
};
use crate::{
    capacity::{Placement, Report, Weight},
    pods,
};

/// The other nodes take the pods of this one.
pub(super) async fn elsewhere(server: &Server, node: &NodeName) -> Result<Verdict, Verdict> {
    let Some(report) = server.report(node).await? else {
        return Ok(missing(node));
    };
    let against = against(report, Check::CapacityElsewhere);
    Ok(against.unwrap_or_else(|| Verdict::pass(words(&report.placement))))
}

/// Nothing on the node is lost with its disk.
pub(super) async fn data(server: &Server, node: &NodeName) -> Result<Verdict, Verdict> {
    let Some(report) = server.report(node).await? else {
        return Ok(missing(node));
    };
    let against = against(report, Check::DataElsewhere);
    Ok(against.unwrap_or_else(|| Verdict::pass("no data that matters is on the disk of the host")))
}

/// Every movable pod of the node could be evicted now, and nobody would miss it: as far as objects
/// tell, and the API server says yes to the eviction without carrying it out.
pub(super) async fn disruptions(server: &Server, node: &NodeName) -> Result<Verdict, Verdict> {
    let Some(report) = server.report(node).await? else {
        return Ok(missing(node));
    };
    if let Some(against) = against(report, Check::DisruptionsAllowed) {
        return Ok(against);
    }
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
        true => Verdict::pass(format!("{} pods could be evicted", moving.len())),
        false => Verdict::fail(few(refused)),
    })
}

/// What blocks a check; a loss blocks, too.
fn against(report: &Report, check: Check) -> Option<Verdict> {
    let findings = report.findings.iter().filter(|one| one.check() == check);
    let blocking: Vec<String> =
        findings.filter(|one| one.weight() < Weight::Shown).map(ToString::to_string).collect();
    (!blocking.is_empty()).then(|| Verdict::fail(few(blocking)))
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

fn missing(node: &NodeName) -> Verdict {
    Verdict::fail(format!("Node {node} does not exist"))
}
