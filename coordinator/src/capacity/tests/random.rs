//! Properties of random small clusters.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::capacity::{
    model::{NodeId, PodId},
    trial::Scene,
};

/// A pod: how much it asks for, where it is, what it may not or must do.
#[derive(Clone, Debug)]
struct Random {
    app: u8,
    cpu: u8,
    node: u8,
    rule: u8,
}

fn pods(most: usize) -> impl Strategy<Value = Vec<Random>> {
    let pod = (0..3_u8, 1..4_u8, 0..4_u8, 0..8_u8);
    let pod = pod.prop_map(|(app, cpu, node, rule)| Random { app, cpu, node, rule });
    proptest::collection::vec(pod, 1..most)
}

impl Random {
    fn but(&self) -> Value {
        let other = format!("app{}", (self.app + 1) % 3);
        let own = format!("app{}", self.app);
        let term = |app: &str, topology: &str| {
            json!({"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": topology, "labelSelector": {"matchLabels": {"app": app}}}]})
        };
        let host = "kubernetes.io/hostname";
        let mut but = asks(&self.cpu.to_string(), "1Gi");
        let rule = match self.rule {
            0 => json!({"affinity": {"podAntiAffinity": term(&own, host)}}),
            1 => json!({"affinity": {"podAntiAffinity": term(&other, "zone")}}),
            2 => json!({"affinity": {"podAffinity": term(&other, "zone")}}),
            3 => json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": own}}}]}),
            4 => json!({"nodeSelector": {"zone": "a"}}),
            5 => json!({"priority": 7, "priorityClassName": "high"}),
            _ => json!({}),
        };
        merge(&mut but, spec(rule));
        but
    }
}

/// Four nodes in two zones with these pods; those for node 0 leave it.
fn cluster(pods: &[Random], reversed: bool) -> Model {
    let mut cluster = Cluster::default();
    let class = json!({"metadata": {"name": "high"}, "value": 7});
    cluster.builder.priority_class(&serde_json::from_value(class).unwrap());
    let names = ["a1", "a2", "b1", "b2"];
    let mut order: Vec<usize> = (0..pods.len()).collect();
    if reversed {
        order.reverse();
        cluster.zoned(&["b2", "b1", "a2", "a1"]);
    } else {
        cluster.zoned(&names);
    }
    for number in order {
        let pod = &pods[number];
        let node = names[usize::from(pod.node)];
        cluster.pod(&format!("app{}-{number}", pod.app), node, pod.but());
    }
    cluster.builder.build()
}

/// Movers that are left over in some order with some choice of nodes: all of them are tried.
fn left_over_somehow(scene: &Scene) -> BTreeSet<PodId> {
    let mut left = BTreeSet::new();
    scene.every_way(&mut |trial| {
        let movers = trial.left.iter().map(|mover| scene.movers[*mover].pod);
        left.extend(movers);
    });
    left
}

fn node_id(model: &Model, name: &str) -> NodeId {
    model.node_ids[&model.symbols.find(name).unwrap()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_proven_holds_for_every_order_and_choice(pods in pods(8)) {
        let model = cluster(&pods, false);
        let node = node_id(&model, "a1");
        let leaving = model.leaving(&[node]);
        prop_assume!((1..=3).contains(&leaving.placed.len()));
        let scene = model.scene(&[node], &leaving.placed);
        let report = model.examine(&["a1"]).unwrap();
        let somehow = left_over_somehow(&scene);
        if report.placement.ways == 0 {
            prop_assert_eq!(somehow, BTreeSet::new());
        } else {
            // And what was left over in a trial is no invention.
            let found = report.findings.iter().filter(|one| matches!(
                one.what, What::DoesNotFit { .. } | What::MayNotFit { .. }));
            for one in found {
                let known = somehow.iter().any(|pod| model.pod_object(*pod) == one.about);
                prop_assert!(known, "{} in {:?}", one, somehow);
            }
        }
    }

    #[test]
    fn the_order_of_reading_changes_nothing(pods in pods(12)) {
        let (one, other) = (cluster(&pods, false), cluster(&pods, true));
        prop_assert_eq!(one.examine(&["a1"]), other.examine(&["a1"]));
    }

    #[test]
    fn one_more_empty_node_takes_no_place_away(pods in pods(12)) {
        // But for spread and affinity of both kinds: a pod that another one keeps off its node finds
        // a place or not by where that one went, and a new place changes where it goes.
        let plain: Vec<Random> = pods.into_iter().filter(|pod| pod.rule > 3).collect();
        let left = |more: bool| {
            let mut cluster = Cluster::default();
            let class = json!({"metadata": {"name": "high"}, "value": 7});
            cluster.builder.priority_class(&serde_json::from_value(class).unwrap());
            cluster.zoned(&["a1", "a2", "b1", "b2"]);
            if more {
                cluster.node("c1", json!({"status": {"allocatable": {"cpu": "64",
                    "memory": "256Gi", "pods": "110"}}}));
            }
            for (number, pod) in plain.iter().enumerate() {
                let node = ["a1", "a2", "b1", "b2"][usize::from(pod.node)];
                cluster.pod(&format!("app{}-{number}", pod.app), node, pod.but());
            }
            let report = cluster.drain("a1");
            let does_not_fit = |one: &&Finding| matches!(one.what, What::DoesNotFit { .. });
            report.findings.iter().filter(does_not_fit).count()
        };
        prop_assert!(left(true) <= left(false));
    }
}
