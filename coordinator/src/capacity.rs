//! The capacity and disruption preflight: what would become of the pods of a node that is cordoned
//! and drained.
//!
//! A [`Builder`] takes the objects of a cluster in and makes a [`Model`] of them; [`Model::examine`]
//! drains nodes of it as kube-scheduler's default profile would have it, and tells what it found,
//! one [`Finding`] each. Nothing here reads, waits, or knows the time.
//!
//! # What is simulated
//!
//! The nodes are cordoned, with the taint that a cordon brings, and stay in the cluster: an empty
//! node that takes nothing is a domain for topology spread. Every pod leaves at once but those of
//! DaemonSets and static pods, and a pod like each of them is placed by the filters NodeUnschedulable,
//! TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit, NodeVolumeLimits, VolumeBinding,
//! VolumeZone, PodTopologySpread (hard constraints) and InterPodAffinity (required terms, in both
//! directions), read in the source of v1.34. Pods that have waited before take part, too.
//!
//! # Order and choice
//!
//! The scheduler takes pods by priority, then by age, and prefers nodes by scores. Neither can be
//! relied on: evictions come one by one, as budgets let them, and scores weigh images, preferences
//! and chance. So the first trial takes the queue's order and the least allocated node; if that
//! leaves nobody over and no other way can either (`certain`), all is well. Else eight other ways
//! are tried, among them the least favourable ones that can be made up cheaply. A pod that is left
//! over in the first is [`What::DoesNotFit`], in another [`What::MayNotFit`]: both block. Where it is
//! not certain, a way that was not tried may still leave a pod over; gate `Drain` sees that.
//! Preemption is not counted on: it moves the trouble to others.
//!
//! # What is not
//!
//! New pods are taken to be like the old ones, though their template may have changed. Profiles,
//! extenders and schedulers of the site's own, dynamic resources ([`What::Unforeseeable`]), the space
//! that storage backends have left, and in-line disks of clouds (VolumeRestrictions) are not looked
//! at; nor are pods that others create in the meantime.

mod budgets;
mod builder;
mod certain;
mod class;
mod counts;
mod filters;
mod findings;
mod index;
mod labels;
mod model;
mod notes;
pub(crate) mod quantity;
mod resources;
mod room;
mod scan;
mod simulate;
mod storage;
mod symbols;
#[cfg(test)]
mod tests;
mod trial;
mod workloads;

pub use builder::Builder;
pub use findings::{Finding, Healthy, Object, Refusal, Refusals, Weight, What};
pub use model::Model;
pub use simulate::Placement;

/// What was found of nodes that are to be drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How their pods were placed elsewhere.
    pub placement: Placement,
    /// Everything that was found, what weighs most first.
    pub findings: Vec<Finding>,
}

impl Model {
    /// Examines what would become of the pods of these nodes if all of them were drained; `None` if
    /// there is no node of one of these names.
    pub fn examine(&self, nodes: &[&str]) -> Option<Report> {
        let id = |name: &&str| self.node_ids.get(&self.symbols.find(name)?).copied();
        let nodes = nodes.iter().map(id).collect::<Option<Vec<_>>>()?;
        let leaving = self.leaving(&nodes);
        let (placement, mut findings) = self.simulate(&nodes, &leaving.placed);
        findings.extend(self.disruptions(&leaving.evicted));
        findings.extend(self.scan(&nodes, &leaving));
        findings.sort_by(|a, b| {
            let key = |one: &Finding| (one.weight(), one.check());
            key(a).cmp(&key(b)).then_with(|| a.about.cmp(&b.about))
        });
        Some(Report { placement, findings })
    }
}
