//! The coordinator dies again and again, and nothing is lost or done twice.

use super::{Driver, Error, Fate, Script, Turn};
use crate::{
    domain::{
        effect::{Effect, Work},
        state::{Node, Operation, Outcome, Phase, Progress},
    },
    rehearsal::{clock::BEGIN, coordinator::Coordinator, faults::Fault, prepared::Layout},
};

fn script() -> Script {
    let east = Layout { name: "east", control_planes: 2, include: false, workers: 2, network: 7 };
    let faults = [
        ("east-worker1".to_owned(), Fault::SurvivingProcess),
        ("east-worker2".to_owned(), Fault::SucceededDidNothing),
    ]
    .into();
    let (seed, originals) = ("crash".to_owned(), vec![east.original()]);
    Script { seed, begin: BEGIN, originals, faults }
}

impl Driver {
    /// The coordinator dies and another one takes its log.
    async fn crash(self) -> Result<Self, Error> {
        let Self { parts, coordinator, agents, person, deeds, news, asked, _hosts } = self;
        coordinator.close().await?;
        let coordinator = Coordinator::open(&parts).await?;
        let driver = Self { parts, coordinator, agents, person, deeds, news, asked, _hosts };
        driver
            .wait("the agents do not come back", |driver| {
                driver.agents.keys().all(|whom| driver.is_linked(whom))
            })
            .await?;
        Ok(driver)
    }
}

/// What must be the same however often the coordinator has died.
#[derive(Debug, PartialEq, Eq)]
struct End {
    nodes: Vec<(String, bool, u32)>,
    operations: Vec<(String, Option<Outcome>)>,
    made: usize,
    as_wished: bool,
    violations: Vec<String>,
}

/// Rehearses to the end. Also gives how often the coordinator has died.
async fn rehearse(fate: Fate<'_>) -> (End, u32) {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::begin(dir.path(), script()).await.unwrap();
    let mut deaths = 0;
    loop {
        match driver.turn(fate).await.unwrap() {
            Turn::Finished => break,
            Turn::Goes => (),
            Turn::Stopped => panic!("nothing helps"),
            Turn::Cut => {
                deaths += 1;
                driver = driver.crash().await.unwrap();
            }
        }
    }
    let end = end_of(&driver);
    driver.end().await.unwrap();
    (end, deaths)
}

fn end_of(driver: &Driver) -> End {
    let fleet = driver.coordinator.handle.published().fleet;
    let nodes = || fleet.migrations.values().flat_map(|migration| &migration.nodes);
    let of_node = |node: &Node| {
        (node.planned.name.to_string(), node.track.phase == Phase::Done, node.attempt.0)
    };
    let of_operation = |operation: &Operation| {
        let outcome = match operation.progress {
            Progress::Ended { outcome, .. } => Some(outcome),
            _ => None,
        };
        (operation.intent.name.clone(), outcome)
    };
    let operations = nodes().flat_map(|node| &node.operations).map(of_operation);
    let world = driver.world().lock();
    let creation = "POST /apis/kubean.io/v1alpha1/clusteroperations";
    let end = End {
        nodes: nodes().map(of_node).collect(),
        operations: operations.collect(),
        made: world.management.calls().iter().filter(|call| *call == creation).count(),
        as_wished: world.is_as_wished(),
        violations: world.violations.clone(),
    };
    assert_eq!(world.operator.seen(), end.operations.len(), "every operation is in the log");
    end
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_dies_again_and_again_ends_as_one_that_lives() {
    let (whole, deaths) = rehearse(&mut |_, _, _| None).await;
    assert_eq!(deaths, 0);
    assert!(whole.as_wished && whole.violations.is_empty(), "{whole:?}");
    assert_eq!(whole.made, 5, "one removal is made twice: {whole:?}");

    // After every 40th event, with what the next pass has seen unsaid.
    let mut last = 0;
    let mut by_events = |_: &Effect, _, sequence: u64| {
        let due = sequence / 40 > last / 40;
        last = sequence;
        due.then_some(0)
    };
    let (end, deaths) = rehearse(&mut by_events).await;
    assert!(deaths >= 15, "it died only {deaths} times: this proves little");
    assert_eq!(end, whole, "after {deaths} deaths");

    // After everything that changes the world, done the first time: with nothing said of it, and
    // with half.
    let mut seen = std::collections::BTreeSet::new();
    let mut by_deeds = |effect: &Effect, reports: usize, _| {
        let changes = !matches!(effect.work, Work::Collect { .. }) && reports > 0;
        let first = changes && seen.insert((effect.clone(), reports));
        first.then_some(reports / 2 * (seen.len() % 2))
    };
    let (end, deaths) = rehearse(&mut by_deeds).await;
    assert!(deaths >= 15, "it died only {deaths} times: this proves little");
    assert_eq!(end, whole, "after {deaths} deaths");
}
