//! Drains a node, and makes its pods anew as their controllers would.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use crate::{
    generate::{self, Cluster},
    world::{Place, Places, World},
};

/// What has become of pods.
pub(crate) struct Outcome {
    /// Where the pods of the node are now, and those that had to go for others, each by the name that
    /// it had.
    pub(crate) moved: Places,
    /// How many pods of the node had to find another.
    pub(crate) movers: usize,
    /// Whether the new pods came one by one.
    pub(crate) one_by_one: bool,
    /// How many pods waited for a node before.
    pub(crate) waiting: usize,
    /// How many of those have got one now.
    pub(crate) placed_others: usize,
    /// How many pods had to go for others.
    pub(crate) preempted: usize,
    /// Nodes that no pod should be on now.
    pub(crate) closed: BTreeSet<String>,
}

/// What has been made of the pods of a cluster.
struct Controllers<'c> {
    world: &'c World,
    manifests: HashMap<String, &'c Value>,
    /// Every pod that should be there, with the name of the one that it stands for.
    pods: BTreeMap<String, String>,
    made: usize,
}

/// A node that has pods to move.
pub(crate) fn choose(cluster: &Cluster, places: &Places) -> Option<String> {
    let mut movers: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in &cluster.pods {
        if let Some(Place::On(node)) = places.get(&generate::name(pod))
            && !stays(pod)
            && owner(pod).is_some()
            && !cluster.closed.contains(node)
        {
            *movers.entry(node).or_default() += 1;
        }
    }
    let fewest = movers.values().copied().min();
    let nodes: Vec<&str> = movers
        .into_iter()
        .filter(|(_, movers)| !cluster.fewest || Some(*movers) == fewest)
        .map(|(node, _)| node)
        .collect();
    let mut chance = cluster.chance;
    (!nodes.is_empty()).then(|| chance.one(&nodes).to_owned())
}

/// Evicts all pods of a cordoned node but those of DaemonSets and of files, and makes them anew.
///
/// # Errors
/// If the scheduler does not come to rest.
pub(crate) async fn drain(
    world: &World,
    cluster: &Cluster,
    before: &Places,
    node: &str,
) -> Result<Outcome, String> {
    let manifests = cluster.pods.iter().map(|pod| (generate::name(pod), pod)).collect();
    let pods = before.keys().map(|name| (name.clone(), name.clone())).collect();
    let mut controllers = Controllers { world, manifests, pods, made: 0 };
    let evicted: Vec<&String> = before
        .iter()
        .filter(|(_, place)| **place == Place::On(node.to_owned()))
        .map(|(name, _)| name)
        .filter(|name| !stays(controllers.manifests[*name]))
        .collect();
    let mut moved = BTreeSet::new();
    if cluster.one_by_one {
        for name in &evicted {
            world.delete(name).await;
            moved.extend(controllers.replace(&[name]).await);
        }
    } else {
        let mut others: BTreeSet<String> = before.keys().cloned().collect();
        for name in &evicted {
            world.delete(name).await;
            others.remove(*name);
        }
        world.settled(&others).await?;
        moved.extend(controllers.replace(&evicted).await);
    }
    let movers = moved.len();
    let mut preempted = 0;
    let places = loop {
        let names = controllers.pods.keys().cloned().collect();
        let places = world.settled(&names).await?;
        let gone: Vec<String> =
            names.into_iter().filter(|name| !places.contains_key(name)).collect();
        if gone.is_empty() {
            break places;
        }
        preempted += gone.len();
        moved.extend(controllers.replace(&gone.iter().collect::<Vec<_>>()).await);
    };
    let mut outcome = Outcome {
        moved: Places::new(),
        movers,
        one_by_one: cluster.one_by_one,
        waiting: before.values().filter(|place| matches!(place, Place::Nowhere(_))).count(),
        placed_others: 0,
        preempted,
        closed: cluster.closed.clone(),
    };
    outcome.closed.insert(node.to_owned());
    for (name, stands_for) in &controllers.pods {
        if moved.contains(stands_for) {
            outcome.moved.insert(stands_for.clone(), places[name].clone());
        } else if before[stands_for] != places[name] && matches!(places[name], Place::On(_)) {
            outcome.placed_others += 1;
        }
    }
    Ok(outcome)
}

impl Controllers<'_> {
    /// Makes pods anew that have gone, if they have a controller; says for which pods they stand.
    async fn replace(&mut self, gone: &[&String]) -> Vec<String> {
        let mut new = Vec::new();
        let mut moved = Vec::new();
        for name in gone {
            let Some(stands_for) = self.pods.remove(*name) else { continue };
            let manifest = self.manifests[&stands_for];
            if owner(manifest).is_none() {
                continue;
            }
            self.made += 1;
            let mut pod = manifest.clone();
            let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
            pod["metadata"]["name"] = format!("{name}-new{}", self.made).into();
            if let Some(spec) = pod["spec"].as_object_mut() {
                spec.remove("nodeName");
            }
            self.pods.insert(generate::name(&pod), stands_for.clone());
            moved.push(stands_for);
            new.push(pod);
        }
        self.world.create(&new).await;
        moved
    }
}

/// The kind of its controller.
fn owner(pod: &Value) -> Option<&str> {
    pod["metadata"]["ownerReferences"][0]["kind"].as_str()
}

/// Whether no drain evicts it.
fn stays(pod: &Value) -> bool {
    owner(pod) == Some("DaemonSet")
        || pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some()
}
