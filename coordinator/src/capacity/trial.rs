//! One way of placing pods: in an order, each on one of the nodes that take it.

use super::{
    class::Class,
    counts::{Constraints, Counts},
    filters::{Filter, Statics},
    findings::Refusals,
    model::{ClassId, Model, NodeId, PodId},
    resources::Dimension,
    room::Room,
};

/// A class of pods that are to be placed, with everything that does not change while they are.
#[derive(Debug)]
pub(super) struct Candidate<'m> {
    /// The class.
    pub(super) class: ClassId,
    asked: Vec<(Dimension, i64)>,
    statics: Statics,
    /// Nodes that no filter without regard to other pods refuses.
    pub(super) open: Vec<NodeId>,
    /// What it asks of other pods.
    pub(super) constraints: Constraints<'m>,
    counts: Counts,
    /// Nodes that take a pod of it before any has been placed.
    pub(super) taking: Vec<NodeId>,
}

/// A pod that is to be placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mover {
    /// The pod that leaves, or that waits for a node.
    pub(super) pod: PodId,
    /// Place of its class among the candidates.
    pub(super) candidate: usize,
    /// Priority of the new pod.
    pub(super) priority: i32,
    /// Whether it leaves its node; others have waited for one before.
    pub(super) leaves: bool,
}

/// Everything that is the same in all trials.
#[derive(Debug)]
pub(super) struct Scene<'m> {
    /// The snapshot.
    pub(super) model: &'m Model,
    /// The classes of the pods.
    pub(super) candidates: Vec<Candidate<'m>>,
    /// The pods, as the scheduler's queue orders them.
    pub(super) movers: Vec<Mover>,
}

/// In which order pods are placed. They come one by one as evictions and budgets let them, so each
/// of these can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// By priority, then by age: the order of the scheduler's queue.
    Queue,
    /// The other way round.
    Reversed,
    /// Those that most nodes take go first.
    ChoosyLast,
}

/// Which of several nodes a pod gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The one with the least processor and memory asked for: what the scheduler prefers.
    LeastAllocated,
    /// The one with the most.
    MostAllocated,
    /// The one that the others need most.
    Contested,
}

/// How a trial stands, and in the end how it has ended.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    room: Room,
    counts: Vec<Counts>,
    placed: Vec<(NodeId, ClassId)>,
    /// Movers that no node takes.
    pub(super) left: Vec<usize>,
    /// The mover that had the fewest nodes to choose from when it was placed, and how many.
    pub(super) tightest: Option<(usize, usize)>,
}

impl<'m> Candidate<'m> {
    /// A class of which pods are to be placed while nodes are cordoned.
    pub(super) fn new(model: &'m Model, class: ClassId, leaving: &[NodeId]) -> Self {
        let statics = model.statics(class, leaving);
        let takes = |node: &NodeId| {
            // A pod that bears a cordon could come back; it must fit elsewhere all the same.
            statics.early[*node].is_none() && statics.late[*node].is_none()
        };
        let open = (0..model.nodes.len()).filter(takes).collect();
        let constraints = Constraints::new(model, class, &statics);
        let counts = constraints
            .count(model, |pod| !pod.stays && pod.node.is_some_and(|node| leaving.contains(&node)));
        let asked = model.classes[class].asked.iter().collect();
        let mut new = Self { class, asked, statics, open, constraints, counts, taking: Vec::new() };
        new.taking = new.takers(model, &model.room, &new.counts, &[]).collect();
        new
    }

    /// Nodes that take a pod of it.
    fn takers<'a>(
        &'a self,
        model: &'a Model,
        room: &'a Room,
        counts: &'a Counts,
        placed: &'a [(NodeId, ClassId)],
    ) -> impl Iterator<Item = NodeId> + 'a {
        let emptiest = self.constraints.emptiest(counts);
        let has_ports = !model.classes[self.class].ports.is_empty();
        self.open.iter().copied().filter(move |node| {
            room.covers(*node, &self.asked)
                && (!has_ports || self.has_ports(model, placed, *node))
                && self.constraints.refuse(model, counts, &emptiest, *node).is_none()
        })
    }

    /// What a pod of it asks for.
    pub(super) fn asked(&self) -> &[(Dimension, i64)] {
        &self.asked
    }

    /// Whether the ports of the pod are free.
    fn has_ports(&self, model: &Model, placed: &[(NodeId, ClassId)], node: NodeId) -> bool {
        let wanted = &model.classes[self.class].ports;
        let here = placed.iter().filter(|one| one.0 == node);
        let new = here.flat_map(|one| &model.classes[one.1].ports);
        let mut taken = model.index.ports.get(&node).into_iter().flatten().chain(new);
        !taken.any(|taken| wanted.iter().any(|wanted| wanted.conflicts(taken)))
    }
}

impl Scene<'_> {
    /// Places all pods in one way.
    pub(super) fn run(&self, order: Order, choice: Choice) -> Trial {
        let mut trial = self.begin(self.ordered(order));
        let is_fickle = self.candidates.iter().any(|one| one.constraints.is_fickle());
        let contest = self.contest();
        loop {
            let waiting = std::mem::take(&mut trial.left);
            let before = waiting.len();
            for mover in waiting {
                self.place(&mut trial, mover, choice, &contest);
            }
            // The scheduler tries again what did not fit when another pod has been placed.
            if trial.left.is_empty() || trial.left.len() == before || !is_fickle {
                return trial;
            }
        }
    }

    fn begin(&self, movers: Vec<usize>) -> Trial {
        Trial {
            room: self.model.room.clone(),
            counts: self.candidates.iter().map(|one| one.counts.clone()).collect(),
            placed: Vec::new(),
            left: movers,
            tightest: None,
        }
    }

    fn ordered(&self, order: Order) -> Vec<usize> {
        let mut movers: Vec<usize> = (0..self.movers.len()).collect();
        match order {
            Order::Queue => (),
            Order::Reversed => movers.reverse(),
            Order::ChoosyLast => movers.sort_by_key(|mover| {
                let taking = self.candidates[self.movers[*mover].candidate].taking.len();
                std::cmp::Reverse(taking)
            }),
        }
        movers
    }

    /// How much each node is needed: a pod that few nodes take needs each of them more.
    fn contest(&self) -> Vec<u64> {
        const WHOLE: u64 = 1 << 32;
        let mut contest = vec![0; self.model.nodes.len()];
        for mover in &self.movers {
            let taking = &self.candidates[mover.candidate].taking;
            for node in taking {
                contest[*node] += WHOLE / taking.len() as u64;
            }
        }
        contest
    }

    fn place(&self, trial: &mut Trial, mover: usize, choice: Choice, contest: &[u64]) {
        let place = self.movers[mover].candidate;
        let counted = self.model.classes[self.candidates[place].class].counted;
        let mut best: Option<((u64, i64), NodeId)> = None;
        let mut choices = 0;
        for node in self.takers(trial, place) {
            choices += 1;
            let score = self.least_allocated(&trial.room, node, counted);
            let score = match choice {
                Choice::LeastAllocated => (0, score),
                Choice::MostAllocated => (0, -score),
                Choice::Contested => (contest[node], -score),
            };
            if best.is_none_or(|(known, _)| score > known) {
                best = Some((score, node));
            }
        }
        let Some((_, node)) = best else {
            trial.left.push(mover);
            return;
        };
        if self.movers[mover].leaves && trial.tightest.is_none_or(|(_, fewest)| choices < fewest) {
            trial.tightest = Some((mover, choices));
        }
        self.put(trial, place, node);
    }

    /// Nodes that take a pod of a candidate now.
    fn takers<'a>(&'a self, trial: &'a Trial, place: usize) -> impl Iterator<Item = NodeId> + 'a {
        let counts = &trial.counts[place];
        self.candidates[place].takers(self.model, &trial.room, counts, &trial.placed)
    }

    /// Puts a pod of a candidate on a node.
    fn put(&self, trial: &mut Trial, place: usize, node: NodeId) {
        let id = self.candidates[place].class;
        let class = &self.model.classes[id];
        trial.room.take(node, &class.asked, class.counted);
        trial.placed.push((node, id));
        for (other, counts) in self.candidates.iter().zip(&mut trial.counts) {
            other.constraints.place(self.model, counts, id, node);
        }
    }

    /// `noderesources/least_allocated.go`: the free share of processor and memory, in percent.
    fn least_allocated(&self, room: &Room, node: NodeId, counted: [i64; 2]) -> i64 {
        let resources = self.model.capacity.iter().zip(&room.counted).zip(counted);
        let score = |((capacity, taken), one): ((&Vec<i64>, &Vec<i64>), i64)| {
            let (capacity, taken) = (capacity[node], taken[node].saturating_add(one));
            match capacity > 0 && taken <= capacity {
                true => (capacity - taken).saturating_mul(100) / capacity,
                false => 0,
            }
        };
        resources.map(score).sum::<i64>() / 2
    }

    /// Why each node refuses a pod at the end of a trial.
    pub(super) fn explain(&self, trial: &Trial, mover: usize) -> Refusals {
        let place = self.movers[mover].candidate;
        let candidate = &self.candidates[place];
        let counts = &trial.counts[place];
        let emptiest = candidate.constraints.emptiest(counts);
        let mut refusals = Refusals { nodes: self.model.nodes.len(), ..Refusals::default() };
        for node in 0..self.model.nodes.len() {
            for reason in candidate.reasons(self.model, trial, counts, &emptiest, node) {
                *refusals.reasons.entry(reason).or_default() += 1;
            }
        }
        refusals
    }

    /// Whether a pod would find room at the end of a trial if pods of lower priority went: the one
    /// thing that is not simulated, since it only moves the trouble to others.
    pub(super) fn would_preempt(&self, trial: &Trial, mover: usize) -> bool {
        let mover = self.movers[mover];
        let candidate = &self.candidates[mover.candidate];
        self.model.classes[candidate.class].preempts
            && candidate.open.iter().any(|node| {
                let pods = self.model.index.pods_of_node[*node].iter();
                let lower = pods.map(|pod| &self.model.classes[self.model.pods[*pod].class]);
                let lower: Vec<&Class> =
                    lower.filter(|class| class.priority < mover.priority).collect();
                let freed = |dimension| -> i64 {
                    lower.iter().map(|class| class.asked.get(dimension)).sum()
                };
                let room = &trial.room;
                !lower.is_empty()
                    && room.slots[*node] + lower.len() as i64 > 0
                    && candidate.asked.iter().all(|(dimension, amount)| {
                        room.free(*dimension)[*node].saturating_add(freed(*dimension)) >= *amount
                    })
            })
    }
}

impl Candidate<'_> {
    /// Why a node refuses a pod of it: all shortages, or what the first filter says.
    fn reasons(
        &self,
        model: &Model,
        trial: &Trial,
        counts: &Counts,
        emptiest: &[i64],
        node: NodeId,
    ) -> Vec<String> {
        let first = |filter: Filter| vec![filter.words().to_owned()];
        if let Some(filter) = self.statics.early[node] {
            return first(filter);
        }
        if !self.has_ports(model, &trial.placed, node) {
            return first(Filter::Ports);
        }
        let short = |volumes: bool| {
            let asked = self.asked.iter();
            let asked = asked.filter(move |one| model.dimensions.is_volumes(one.0) == volumes);
            asked
                .filter(|(dimension, amount)| trial.room.free(*dimension)[node] < *amount)
                .map(|(dimension, _)| model.dimensions.shortage(*dimension, &model.symbols))
        };
        let slots = (trial.room.slots[node] < 1).then(|| Filter::Slots.words().to_owned());
        let shortages: Vec<String> = slots.into_iter().chain(short(false)).collect();
        if !shortages.is_empty() {
            return shortages;
        }
        let limits: Vec<String> = short(true).take(1).collect();
        if !limits.is_empty() {
            return limits;
        }
        let last = || self.constraints.refuse(model, counts, emptiest, node);
        self.statics.late[node].or_else(last).map(first).unwrap_or_default()
    }
}

#[cfg(test)]
impl Scene<'_> {
    /// Shows every end that some order and some choice of nodes can bring.
    pub(super) fn every_way(&self, show: &mut impl FnMut(&Trial)) {
        let movers = (0..self.movers.len()).collect();
        self.go_on(&self.begin(movers), show);
    }

    fn go_on(&self, trial: &Trial, show: &mut impl FnMut(&Trial)) {
        let mut is_end = true;
        for mover in &trial.left {
            let place = self.movers[*mover].candidate;
            let takers = self.takers(trial, place).collect::<Vec<_>>();
            is_end &= takers.is_empty();
            for node in takers {
                let mut next = trial.clone();
                next.left.retain(|left| left != mover);
                self.put(&mut next, place, node);
                self.go_on(&next, show);
            }
        }
        if is_end {
            show(trial);
        }
    }
}
