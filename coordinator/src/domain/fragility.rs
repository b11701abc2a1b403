//! The time in which etcd bears no loss, because a control plane is away: how long it is, how long it
//! is expected to be, and when people are told.

use rehull_shared::{
    ids::NodeName,
    time::{Span, Timestamp},
};

use super::{
    plan::{Plan, PlannedNode},
    policy::Policy,
    state::{Migration, Node},
};

/// The time in which one control plane was away, or is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// When its removal was intended.
    pub from: Timestamp,
    /// When it was proved to be back.
    pub until: Option<Timestamp>,
}

/// How loud people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loudness {
    /// Somebody should look.
    Warning,
    /// Somebody must, now.
    Page,
}

/// Whether etcd bears no loss while one of its voters is removed: of those left, more than half must be
/// there.
pub fn bears_no_loss_with_one_away(voters: usize) -> bool {
    let left = voters.saturating_sub(1);
    left < left / 2 + 2
}

/// The least time in which etcd will bear no loss, each time that a control plane goes: what evidence
/// alone takes; `None` where it bears one all the while, or none goes.
pub fn predicted(plan: &Plan, nodes: &[PlannedNode]) -> Option<(usize, Span)> {
    let times = nodes.iter().filter(|node| node.role.is_control_plane()).count();
    let fragile = times > 0 && bears_no_loss_with_one_away(plan.control_planes.len());
    fragile.then(|| (times, plan.policy.operation_windows()))
}

impl Policy {
    /// The longest that etcd may bear no loss before people are told so.
    pub fn fragility_limit(&self, loudness: Loudness) -> Span {
        match loudness {
            Loudness::Warning => self.fragility_warning,
            Loudness::Page => self.fragility_page,
        }
    }
}

impl Migration {
    /// The control plane for which etcd bears no loss now, and since when.
    pub fn fragile(&self) -> Option<(&Node, Timestamp)> {
        if !bears_no_loss_with_one_away(self.plan.control_planes.len()) {
            return None;
        }
        self.nodes.iter().find_map(|node| match node.away {
            Some(Away { from, until: None }) if !node.track.phase.is_over() => Some((node, from)),
            _ => None,
        })
    }

    /// How long etcd has borne no loss so far, each time, that of now included.
    pub fn fragility(&self, now: Timestamp) -> Vec<(&NodeName, Span)> {
        if !bears_no_loss_with_one_away(self.plan.control_planes.len()) {
            return Vec::new();
        }
        let length = |node| -> Option<(&NodeName, Span)> {
            let node: &Node = node;
            let away = node.away?;
            Some((&node.planned.name, away.until.unwrap_or(now).since(away.from)))
        };
        self.nodes.iter().filter_map(length).collect()
    }

    /// What people are to be told now of it, and were not yet.
    pub fn fragility_to_tell(&self, now: Timestamp) -> Option<(&Node, Timestamp, Loudness)> {
        let (node, from) = self.fragile()?;
        let over = |loudness| from + self.plan.policy.fragility_limit(loudness) <= now;
        let loudness = [Loudness::Page, Loudness::Warning].into_iter().find(|one| over(*one))?;
        (node.told.is_none_or(|told| told < loudness)).then_some((node, from, loudness))
    }
}
