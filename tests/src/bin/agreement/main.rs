//! Asks a real scheduler whether the capacity preflight is right: makes clusters up, lets rehull
//! say what would become of the pods of a node, drains the node, and looks.
//!
//! Nothing may be left without a node that rehull said had one. The other way round rehull may be
//! stricter where its documentation says so, in few cases, and each kind is counted.
//!
//! `SEED` is the first cluster, `CLUSTERS` how many there are: `SEED=17 CLUSTERS=1` repeats one.

mod compare;
mod control_plane;
mod drain;
mod generate;
mod world;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use rehull::{capacity::Report, clients::objects};
use serde_json::Value;
use tokio::time::Instant;

use self::{
    compare::{Judgement, Tally},
    drain::Outcome,
    generate::{Cluster, NAMESPACES},
    world::{Place, World},
};

#[tokio::main]
async fn main() -> ExitCode {
    let number = |name: &str, otherwise: u64| match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => otherwise,
    };
    let (first, clusters) = (number("SEED", 1), number("CLUSTERS", 200));
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = tests.join(".cache/agreement");
    let began = Instant::now();
    let world = World::start(&tests.join("testbed/.cache/bin")).await;
    world.create(&generate::common()).await;
    println!("API server and scheduler are ready after {} s", began.elapsed().as_secs());
    let (began, mut tally) = (Instant::now(), Tally::default());
    for seed in first..first + clusters {
        let cluster = generate::cluster(seed);
        match examine(&world, &cluster).await {
            Ok(Some(case)) => {
                let judgement = tally.judge(&case.node, &case.report, &case.outcome);
                if clusters == 1 || matches!(judgement, Judgement::Wrong(_)) {
                    let path = keep(&kept, seed, &case);
                    println!("cluster {seed}: {judgement}\n{}", case.words());
                    println!("  the cluster: {}", path.display());
                    println!("  again: SEED={seed} CLUSTERS=1 tests/run testbed agreement");
                }
            }
            Ok(None) => tally.idle += 1,
            Err(why) => {
                tally.undecided += 1;
                println!("cluster {seed}: the scheduler does not come to rest: {why}");
            }
        }
        world.clear(&NAMESPACES).await;
    }
    println!("{tally}{clusters} clusters in {} s", began.elapsed().as_secs());
    match tally.verdict(clusters) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("rehull and the scheduler do not agree: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked and done with one cluster.
struct Case {
    /// Objects as they were before the drain.
    objects: Vec<Value>,
    node: String,
    report: Report,
    outcome: Outcome,
}

/// Asks, drains and looks; `None` if no node has a pod that could be moved.
///
/// # Errors
/// If the scheduler does not come to rest.
async fn examine(world: &World, cluster: &Cluster) -> Result<Option<Case>, String> {
    world.create(&cluster.objects).await;
    world.create(&cluster.pods).await;
    let names = cluster.pods.iter().map(generate::name).collect();
    let before = world.settled(&names).await?;
    let Some(node) = drain::choose(cluster, &before) else { return Ok(None) };
    let report = ask(world, &node).await;
    world.cordon(&node).await;
    // The cordon may let pods go elsewhere that waited; otherwise nothing has changed yet.
    if !before.values().any(|place| matches!(place, Place::Nowhere(_))) {
        assert_eq!(report, ask(world, &node).await, "the cordon of {node} changed the report");
    }
    let mut objects = cluster.objects.clone();
    for pod in &cluster.pods {
        let mut pod = pod.clone();
        match before.get(&generate::name(&pod)) {
            Some(Place::On(node)) => pod["spec"]["nodeName"] = node.as_str().into(),
            Some(_) => (),
            None => continue,
        }
        objects.push(pod);
    }
    let outcome = drain::drain(world, cluster, &before, &node).await?;
    Ok(Some(Case { objects, node, report, outcome }))
}

/// What rehull says of a node, from what the API server has.
async fn ask(world: &World, node: &str) -> Report {
    let model = objects::model(world.client()).await;
    let model = model.unwrap_or_else(|why| panic!("the cluster cannot be read: {why}"));
    model.examine(&[node]).expect("the node is there")
}

impl Case {
    fn words(&self) -> String {
        let mut words = format!("  drained: {}; {:?}\n", self.node, self.report.placement);
        for finding in self.report.findings.iter().filter(|one| compare::is_about_capacity(one)) {
            words += &format!("  rehull: {finding}\n");
        }
        for (pod, place) in &self.outcome.moved {
            words += &format!("  {pod}: {place}\n");
        }
        words
    }
}

/// Writes a cluster down as it was before the drain, with what was said of it.
fn keep(dir: &Path, seed: u64, case: &Case) -> PathBuf {
    let path = dir.join(format!("{seed}.yaml"));
    let mut text: String = case.words().lines().map(|line| format!("# {line}\n")).collect();
    for object in &case.objects {
        text += "---\n";
        text += &serde_saphyr::to_string(object).expect("YAML");
    }
    let written = fs::create_dir_all(dir).and_then(|()| fs::write(&path, text));
    written.unwrap_or_else(|why| panic!("{} is not written: {why}", path.display()));
    path
}
