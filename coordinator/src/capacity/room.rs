//! What is free on nodes.

use super::{
    model::NodeId,
    resources::{Amounts, Dimension},
};

/// Free amounts, by resource and node. They may be negative: pods that were placed by hand, or
/// before a node became smaller, take more than there is.
#[derive(Clone, Debug)]
pub(super) struct Room {
    free: Vec<Vec<i64>>,
    /// Pods that a node may still take.
    pub(super) slots: Vec<i64>,
    /// What counts as taken when nodes are compared: processor and memory.
    pub(super) counted: [Vec<i64>; 2],
}

impl Room {
    /// Nodes without pods.
    pub(super) fn new(free: Vec<Vec<i64>>, slots: Vec<i64>) -> Self {
        let counted = [vec![0; slots.len()], vec![0; slots.len()]];
        Self { free, slots, counted }
    }

    /// How much is free of one resource, by node.
    pub(super) fn free(&self, dimension: Dimension) -> &[i64] {
        &self.free[dimension.place()]
    }

    /// Puts a pod on a node.
    pub(super) fn take(&mut self, node: NodeId, amounts: &Amounts, counted: [i64; 2]) {
        for (dimension, amount) in amounts.iter() {
            let free = &mut self.free[dimension.place()][node];
            *free = free.saturating_sub(amount);
        }
        self.slots[node] -= 1;
        for (all, one) in self.counted.iter_mut().zip(counted) {
            all[node] = all[node].saturating_add(one);
        }
    }

    /// Adds a resource of which only these nodes have so much, and all others as much as one likes.
    pub(super) fn limit(
        &mut self,
        dimension: Dimension,
        limits: impl Iterator<Item = (NodeId, i64)>,
    ) {
        let mut free = vec![i64::MAX; self.slots.len()];
        for (node, limit) in limits {
            free[node] = limit;
        }
        self.free.truncate(dimension.place());
        self.free.push(free);
    }

    /// Attaches one volume.
    pub(super) fn attach(&mut self, node: NodeId, dimension: Dimension) {
        let free = &mut self.free[dimension.place()][node];
        *free = free.saturating_sub(1);
    }

    /// Whether a node has all of this and one more pod free.
    pub(super) fn covers(&self, node: NodeId, amounts: &[(Dimension, i64)]) -> bool {
        self.slots[node] > 0
            && amounts.iter().all(|(dimension, amount)| {
                *amount <= 0 || self.free[dimension.place()][node] >= *amount
            })
    }
}
