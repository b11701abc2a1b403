//! What becomes of the pods of nodes that are cordoned and drained.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    findings::{Finding, Refusals, What},
    model::{ClassId, Model, NodeId, PodId},
    trial::{Candidate, Choice, Mover, Order, Scene, Trial},
};

/// The ways of placing that are tried unless the first one proves to be enough; the first is what
/// the scheduler would most likely do.
const WAYS: [(Order, Choice); 9] = [
    (Order::Queue, Choice::LeastAllocated),
    (Order::Queue, Choice::MostAllocated),
    (Order::Queue, Choice::Contested),
    (Order::Reversed, Choice::LeastAllocated),
    (Order::Reversed, Choice::MostAllocated),
    (Order::Reversed, Choice::Contested),
    (Order::ChoosyLast, Choice::LeastAllocated),
    (Order::ChoosyLast, Choice::MostAllocated),
    (Order::ChoosyLast, Choice::Contested),
];

/// How the pods of the nodes were placed elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Pods that must be placed.
    pub pods: usize,
    /// Other nodes that may take pods: Ready, and not cordoned.
    pub nodes: usize,
    /// In how many ways they were placed; none if it was proven that every way will do.
    pub ways: usize,
    /// The pod that had the fewest nodes to choose from, `namespace/name`, and how many.
    pub tightest: Option<(String, usize)>,
}

impl Model {
    /// Places the pods that leave these nodes on the others.
    pub(super) fn simulate(&self, leaving: &[NodeId], pods: &[PodId]) -> (Placement, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut movers = Vec::new();
        for pod in pods {
            let refused = self.refused(*pod);
            match refused {
                Some(what) => findings.push(self.finding(*pod, what)),
                None => movers.push(*pod),
            }
        }
        let scene = self.scene(leaving, &movers);
        let first = scene.run(WAYS[0].0, WAYS[0].1);
        let left_over = self.left_over(&scene, &first);
        let proven = left_over.is_empty() && scene.is_certain();
        // Luck matters only where there is room for all.
        if left_over.is_empty() && !proven {
            findings.extend(self.left_over_by_luck(&scene));
        }
        findings.extend(left_over);
        let is_other = |id: &NodeId| !leaving.contains(id);
        let open = |id: &NodeId| self.nodes[*id].is_ready && !self.nodes[*id].is_cordoned;
        let tightest = first.tightest.map(|(mover, nodes)| {
            let pod = self.pod_object(scene.movers[mover].pod);
            (pod.to_string(), nodes)
        });
        let placement = Placement {
            pods: pods.len(),
            nodes: (0..self.nodes.len()).filter(is_other).filter(open).count(),
            ways: if proven { 0 } else { WAYS.len() },
            tightest,
        };
        (placement, findings)
    }

    /// The pods that leave, and those that have waited before and may get a node now: the latter
    /// take room that the others cannot have, and nobody blames the cordon if they wait on.
    pub(super) fn scene(&self, leaving: &[NodeId], pods: &[PodId]) -> Scene<'_> {
        let mut places: HashMap<ClassId, usize> = HashMap::new();
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut movers = Vec::new();
        let leaving_pods: BTreeSet<PodId> = pods.iter().copied().collect();
        for pod in pods.iter().chain(&self.index.waiting) {
            let class = self.pods[*pod].class;
            let Ok(priority) = self.priority(class) else { continue };
            let place = *places.entry(class).or_insert_with(|| {
                candidates.push(Candidate::new(self, class, leaving));
                candidates.len() - 1
            });
            let leaves = leaving_pods.contains(pod);
            let candidate = &candidates[place];
            // What can never be placed only costs time.
            let is_lost = candidate.taking.is_empty() && !candidate.constraints.is_fickle();
            if leaves || !(is_lost || self.mounts[class].refused.is_some()) {
                movers.push(Mover { pod: *pod, candidate: place, priority, leaves });
            }
        }
        movers.sort_by(|a, b| {
            let key =
                |mover: &Mover| (std::cmp::Reverse(mover.priority), self.pods[mover.pod].made_s);
            let name = |mover: &Mover| self.pod_object(mover.pod);
            key(a).cmp(&key(b)).then_with(|| name(a).cmp(&name(b)))
        });
        Scene { model: self, candidates, movers }
    }

    /// Why no new pod like this one would be scheduled, whatever node is free.
    fn refused(&self, pod: PodId) -> Option<What> {
        let class = self.pods[pod].class;
        let why = match self.priority(class) {
            Err(why) => Some(why),
            Ok(_) => self.mounts[class].refused.clone(),
        };
        let uncertain = || {
            let why = self.mounts[class].uncertain.clone()?;
            Some(What::Unforeseeable { why })
        };
        why.map(|why| What::CannotRestart { why }).or_else(uncertain)
    }

    /// The priority that a new pod of a class gets.
    fn priority(&self, class: ClassId) -> Result<i32, String> {
        match self.classes[class].priority_class {
            None => Ok(self.default_priority),
            Some(name) => {
                self.priorities.get(&name).copied().ok_or_else(|| {
                    format!("no PriorityClass with name {} was found", self.text(name))
                })
            }
        }
    }

    /// The pods that were left over in the first trial.
    fn left_over(&self, scene: &Scene, first: &Trial) -> Vec<Finding> {
        let left = first.left.iter().filter(|mover| scene.movers[**mover].leaves);
        let finding = |mover: &usize| {
            let what = What::DoesNotFit {
                refusals: scene.explain(first, *mover),
                preempting: scene.would_preempt(first, *mover),
            };
            self.finding(scene.movers[*mover].pod, what)
        };
        left.map(finding).collect()
    }

    /// The pods that are left over in another trial.
    fn left_over_by_luck(&self, scene: &Scene) -> Vec<Finding> {
        let mut failed: BTreeMap<usize, (usize, Refusals)> = BTreeMap::new();
        for (order, choice) in &WAYS[1..] {
            let trial = scene.run(*order, *choice);
            for mover in trial.left.iter().filter(|mover| scene.movers[**mover].leaves) {
                let explain = || (0, scene.explain(&trial, *mover));
                failed.entry(*mover).or_insert_with(explain).0 += 1;
            }
        }
        let finding = |(mover, (failed, refusals)): (usize, (usize, Refusals))| {
            let what = What::MayNotFit { refusals, failed, tried: WAYS.len() };
            self.finding(scene.movers[mover].pod, what)
        };
        failed.into_iter().map(finding).collect()
    }

    /// A finding about a pod.
    pub(super) fn finding(&self, pod: PodId, what: What) -> Finding {
        Finding { about: self.pod_object(pod), what }
    }
}
