//! The coordinator dies again and again, and nothing is lost or done twice.

use std::collections::BTreeMap;

use super::{
    cluster::Layout,
    driver::{Driver, Script, Turn},
    faults::Fault,
};
use crate::domain::state::{Node, Phase};

fn script() -> Script {
    let layouts = vec![Layout { name: "east", control_planes: 2, workers: 2, network: 7 }];
    let faults = BTreeMap::from([
        ("east-worker1".to_owned(), Fault::SurvivingProcess),
        ("east-worker2".to_owned(), Fault::SucceededDidNothing),
    ]);
    Script { seed: "crash".to_owned(), layouts, faults }
}

/// What must be the same however often the coordinator has died.
#[derive(Debug, PartialEq, Eq)]
struct End {
    nodes: Vec<(String, bool, u32)>,
    operations: Vec<String>,
    made: usize,
    as_wished: bool,
    violations: Vec<String>,
}

/// Rehearses to the end; the coordinator dies after every `every` events. Also gives how often.
async fn rehearse(every: Option<u64>) -> (End, u32) {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::begin(dir.path(), script()).await.unwrap();
    let mut deaths = 0;
    loop {
        let sequence = driver.coordinator.handle.published().sequence;
        let cut = every.map(|every| (sequence / every + 1) * every);
        match driver.turn(cut).await.unwrap() {
            Turn::Finished => break,
            Turn::Goes => (),
            Turn::Cut => {
                deaths += 1;
                driver = driver.crash().await.unwrap();
            }
        }
    }
    let fleet = driver.coordinator.handle.published().fleet;
    let nodes = || fleet.migrations.values().flat_map(|migration| &migration.nodes);
    let of_node = |node: &Node| {
        (node.planned.name.to_string(), node.track.phase == Phase::Done, node.attempt.0)
    };
    let names =
        |node: &Node| node.operations.iter().map(|op| op.intent.name.clone()).collect::<Vec<_>>();
    let mut world = driver.world().lock();
    let created =
        |call: &&String| call.as_str() == "POST /apis/kubean.io/v1alpha1/clusteroperations";
    let end = End {
        nodes: nodes().map(of_node).collect(),
        operations: nodes().flat_map(names).collect(),
        made: world.management.calls().iter().filter(created).count(),
        as_wished: world.is_as_wished(),
        violations: world.violations.clone(),
    };
    assert_eq!(world.operator.seen(), end.operations.len(), "every operation is in the log");
    drop(world);
    driver.end().await.unwrap();
    (end, deaths)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_dies_again_and_again_ends_as_one_that_lives() {
    let (whole, deaths) = rehearse(None).await;
    assert_eq!(deaths, 0);
    assert!(whole.as_wished && whole.violations.is_empty(), "{whole:?}");
    assert_eq!(whole.made, 5, "one removal is made twice: {whole:?}");
    for every in [17, 41] {
        let (cut, deaths) = rehearse(Some(every)).await;
        assert!(deaths > 10, "it died only {deaths} times: this proves nothing");
        assert_eq!(cut, whole, "after {deaths} deaths");
    }
}
