//! Whether a pod finds a node however the others are placed: a proof, where there is a short one.
//!
//! A pod that is placed before takes room on one node, so it can spoil at most that node for the
//! pod in question; or, if the two must be apart, the whole domain of that node. What all of them
//! ask for together is limited, too: no more nodes can be filled than that is enough for. A pod that
//! more nodes take than can be spoiled is certain to find one.

use super::trial::{Candidate, Scene};

impl Scene<'_> {
    /// Whether each pod that leaves is certain to find a node. `false` proves nothing.
    pub(super) fn is_certain(&self) -> bool {
        let mut is_certain = vec![None; self.candidates.len()];
        self.movers.iter().filter(|mover| mover.leaves).all(|mover| {
            let known = &mut is_certain[mover.candidate];
            *known.get_or_insert_with(|| self.is_certain_for(mover.candidate))
        })
    }

    fn is_certain_for(&self, place: usize) -> bool {
        let candidate = &self.candidates[place];
        // What may go only where others are, or are not, can be led astray in other ways.
        if candidate.constraints.is_fickle() {
            return false;
        }
        let mut others = 0;
        let mut domains = 0;
        for (other, one) in self.candidates.iter().enumerate() {
            let all = self.movers.iter().filter(|mover| mover.candidate == other).count();
            let count = if other == place { all - 1 } else { all };
            others += count;
            domains += count * self.largest_domain(candidate, one);
        }
        let spoiled = others.min(self.filled(place)) + domains;
        candidate.taking.len() > spoiled
    }

    /// How many nodes a pod of one class can make impossible for another by being there, beyond
    /// its own: they must be apart in a domain of so many nodes.
    fn largest_domain(&self, one: &Candidate, other: &Candidate) -> usize {
        let model = self.model;
        let apart = |from: &Candidate, to: &Candidate| {
            let terms = model.classes[from.class].anti_affinity.iter();
            let about = terms.filter(|term| model.is_about(term, to.class));
            let sizes = about.map(|term| &model.index.topologies[&term.topology].sizes);
            sizes.map(|sizes| sizes.iter().max().map_or(0, |most| *most as usize)).sum::<usize>()
        };
        apart(one, other) + apart(other, one)
    }

    /// How many nodes the other pods together can fill so that a pod finds no room.
    fn filled(&self, place: usize) -> usize {
        let candidate = &self.candidates[place];
        let model = self.model;
        let classes = || {
            let classes = self.movers.iter().map(|mover| mover.candidate);
            let mut left = Some(place); // the pod itself is none of the others
            classes.filter(move |class| !(left == Some(*class) && left.take().is_some()))
        };
        let ports = classes().filter(|other| self.share_ports(place, *other)).count();
        let slots = candidate.taking.iter().map(|node| model.room.slots[*node]);
        let mut filled = ports + fillable(slots.collect(), classes().count() as i64);
        for (dimension, amount) in candidate.asked() {
            let asked = |class: usize| {
                let class = self.candidates[class].class;
                model.classes[class].asked.get(*dimension)
            };
            let total = classes().map(asked).fold(0, i64::saturating_add);
            let free = candidate.taking.iter().map(|node| model.room.free(*dimension)[*node]);
            let gaps = free.map(|free| free.saturating_sub(*amount).saturating_add(1)).collect();
            filled += fillable(gaps, total);
        }
        filled
    }

    fn share_ports(&self, one: usize, other: usize) -> bool {
        let ports = |place: usize| &self.model.classes[self.candidates[place].class].ports;
        ports(one).iter().any(|one| ports(other).iter().any(|other| one.conflicts(other)))
    }
}

/// How many of these gaps so much can fill, the smallest first.
fn fillable(mut gaps: Vec<i64>, total: i64) -> usize {
    gaps.sort_unstable();
    let mut left = total;
    let fits = |gap: &&i64| {
        left = left.saturating_sub(**gap);
        left >= 0
    };
    gaps.iter().take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_gaps_are_filled_first() {
        assert_eq!(fillable(vec![5, 1, 3], 4), 2);
        assert_eq!(fillable(vec![5, 1, 3], 3), 1);
        assert_eq!(fillable(vec![5, 1, 3], 0), 0);
        assert_eq!(fillable(vec![], 9), 0);
    }
}
