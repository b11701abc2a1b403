//! The whole simulated world: clusters, hosts, Kubean, installer, faults; and a witness of its own
//! that writes down what must never happen.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::FutureExt;
use rehull_shared::{
    text::sha256_hex,
    time::{Span, Timestamp},
};
use serde_json::{Value, json};

use super::{
    SECRETS,
    api::Api,
    clock::Clock,
    cluster::{KUBERNETES, Layout, Site},
    faults::Fault,
    installer::{self, Installer},
    kubean::{self, Operator},
    machine,
};
use crate::{
    clients::{Connect, Endpoint, Trouble},
    domain::plan::Plan,
};

/// Namespace of Kubean's operator.
pub(super) const NAMESPACE: &str = "kubean-system";

/// Image of every rehearsed operation.
pub(super) const IMAGE: &str = "registry.example/kubean-io/spray-job:v0.12.2";

/// What the driver must do for the world, as it takes time that is real.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chore {
    /// A host goes down, and its agent with it.
    Stop { cluster: String, node: String },
    /// A host is up with a new system: its agent starts.
    Start { cluster: String, node: String },
}

/// Everything that is simulated.
pub(super) struct World {
    clock: Clock,
    seed: String,
    pub(super) management: Api,
    pub(super) sites: Vec<Site>,
    pub(super) operator: Operator,
    pub(super) installer: Installer,
    /// Faults that have not struck yet, by node.
    pending: BTreeMap<String, Fault>,
    /// Faults that have struck, by node.
    pub(super) struck: BTreeMap<String, Fault>,
    pub(super) chores: Vec<Chore>,
    /// What must never happen, and did.
    pub(super) violations: Vec<String>,
}

/// The world, shared with everything that calls into it; all clones are one.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<World>>);

impl Shared {
    /// A world whose every detail follows from `seed`; its hosts are directories in `hosts`.
    pub(super) fn new(
        layouts: &[Layout],
        faults: BTreeMap<String, Fault>,
        seed: &str,
        clock: Clock,
        hosts: &Path,
    ) -> io::Result<Self> {
        let certificate = certificate().map_err(io::Error::other)?;
        let management = Api::new(&format!("{seed}/management"), clock.reader());
        let mut sites = Vec::new();
        for layout in layouts {
            let api = Api::new(&format!("{seed}/{}", layout.name), clock.reader());
            sites.push(Site::new(layout, seed, api, hosts, &certificate, clock.now())?);
        }
        let mut world = World {
            clock,
            seed: seed.to_owned(),
            management,
            sites,
            operator: Operator::default(),
            installer: Installer::default(),
            pending: faults,
            struck: BTreeMap::new(),
            chores: Vec::new(),
            violations: Vec::new(),
        };
        world.furnish();
        Ok(Self(Arc::new(Mutex::new(world))))
    }

    /// The world, for a moment.
    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clients of its clusters.
    pub(super) fn connect(&self) -> Connect {
        let world = self.clone();
        Arc::new(move |plan: Plan, endpoint: Endpoint| {
            let api = world.lock().api(&plan, &endpoint);
            async move { api.map(|api| api.client()) }.boxed()
        })
    }
}

impl World {
    /// The management cluster as Kubean has left it.
    fn furnish(&mut self) {
        let store = &mut *self.management.store();
        for name in ["default", "kube-system", NAMESPACE] {
            store.put(json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name },
                "status": { "phase": "Active" },
            }));
        }
        for site in &self.sites {
            let name = site.name.as_str();
            let server = format!("https://10.20.{}.10:6443", site.network);
            let kubeconfig = json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "admin",
                "clusters": [{ "name": "c", "cluster": { "server": server } }],
                "contexts": [{ "name": "admin", "context": { "cluster": "c", "user": "u" } }],
                "users": [{ "name": "u", "user": { "token": SECRETS[2] } }],
            });
            let reference =
                |what: &str| json!({ "name": format!("{name}-{what}"), "namespace": NAMESPACE });
            for (what, key, content) in [
                ("hosts-conf", "hosts.yml", site.inventory()),
                ("vars-conf", "group_vars.yml", variables()),
                ("kubeconf", "config", kubeconfig.to_string()),
            ] {
                store.put(json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": reference(what),
                    "data": { key: content },
                }));
            }
            store.put(json!({
                "apiVersion": "kubean.io/v1alpha1", "kind": "Cluster", "metadata": { "name": name },
                "spec": {
                    "hostsConfRef": reference("hosts-conf"), "varsConfRef": reference("vars-conf"),
                    "kubeconfRef": reference("kubeconf"),
                },
            }));
            store.put(json!({
                "apiVersion": "kubean.io/v1alpha1", "kind": "ClusterOperation",
                "metadata": {
                    "name": format!("{name}-install"), "labels": { "clusterName": name },
                },
                "spec": {
                    "cluster": name, "image": IMAGE, "actionType": "playbook",
                    "action": "cluster.yml",
                },
                "status": { "status": "Succeeded" },
            }));
        }
    }

    /// What time it is.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets everything move that moves by itself.
    pub(super) fn step(&mut self) -> io::Result<()> {
        let now = self.now();
        kubean::step(self, now)?;
        installer::step(self, now)?;
        self.sites.iter_mut().for_each(|site| site.step(now));
        Ok(())
    }

    /// The cluster of this name.
    pub(super) fn site(&mut self, cluster: &str) -> Option<&mut Site> {
        self.sites.iter_mut().find(|site| site.name.as_str() == cluster)
    }

    /// Lets a fault strike a node, if one of these waits for it.
    pub(super) fn strike(&mut self, node: &str, which: &[Fault]) -> Option<Fault> {
        let fault = self.pending.get(node).copied().filter(|fault| which.contains(fault))?;
        self.pending.remove(node);
        self.struck.insert(node.to_owned(), fault);
        Some(fault)
    }

    /// How long an operation runs: some minutes, the same for the same seed.
    pub(super) fn length_of(&self, operation: &Value) -> Span {
        let name = operation["metadata"]["name"].as_str().unwrap_or_default();
        let hash = sha256_hex(format!("{}/{name}", self.seed).as_bytes());
        let spread = u32::from_str_radix(&hash[..4], 16).unwrap_or(0) % 180;
        Span::from_secs(150 + spread)
    }

    /// A host goes into the installer: everything on it is lost.
    pub(super) fn begin_reinstall(&mut self, cluster: &str, node: &str) {
        let api = self.site(cluster).map(|site| site.api.clone());
        if api.is_some_and(|api| api.store().get("nodes", "", node).is_some()) {
            self.violations.push(format!("{node} is wiped while it is a node of the cluster"));
        }
        let worker = self.site(cluster).and_then(|site| site.worker(node));
        let Some(worker) = worker else { return };
        let was_clean = worker.machine.is_clean();
        worker.machine.down = true;
        if !was_clean {
            self.violations.push(format!("{node} is wiped while Kubernetes runs on it"));
        }
        let (cluster, node) = (cluster.to_owned(), node.to_owned());
        self.chores.push(Chore::Stop { cluster, node });
    }

    /// A host is about to join.
    pub(super) fn check_join(&mut self, cluster: &str, node: &str) {
        let worker = self.site(cluster).and_then(|site| site.worker(node));
        let Some(os) = worker.map(|worker| worker.machine.os) else { return };
        if *os != machine::NEW {
            self.violations.push(format!("{node} joins with {}", os.pretty));
        }
    }

    fn api(&self, plan: &Plan, endpoint: &Endpoint) -> Result<Api, Trouble> {
        let site = self.sites.iter().find(|site| site.name == plan.cluster);
        let site = site.ok_or_else(|| Trouble::new(&plan.cluster, "nobody rehearses it"))?;
        match endpoint {
            Endpoint::Management => Ok(self.management.clone()),
            Endpoint::ApiServer(address) if !site.has_server(address) => {
                Err(Trouble::new(endpoint, "connection refused"))
            }
            Endpoint::Workload | Endpoint::ApiServer(_) => Ok(site.api.clone()),
        }
    }

    /// Whether every worker is a Ready node with the new OS, and carries what it carried.
    pub(super) fn is_as_wished(&mut self) -> bool {
        self.sites.iter().all(|site| {
            let store = site.api.store();
            site.workers.iter().all(|worker| {
                let node = store.get("nodes", "", worker.machine.name.as_str());
                node.is_some_and(|node| {
                    node["status"]["nodeInfo"]["osImage"] == machine::NEW.pretty
                        && node["status"]["conditions"][0]["status"] == "True"
                        && !node["metadata"]["labels"]["tier"].is_null()
                        && node["metadata"]["annotations"]["example.com/owner"] == "team-shop"
                        && node["spec"]["unschedulable"] != true
                })
            })
        })
    }
}

fn variables() -> String {
    format!("kube_version: {KUBERNETES}\nregistry_password: {}\n", SECRETS[1])
}

/// A certificate such as a kubelet has: valid for years, so it only shows how long.
fn certificate() -> Result<String, rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2024, 6, 1);
    params.not_after = rcgen::date_time_ymd(2027, 6, 1);
    Ok(params.self_signed(&key)?.pem())
}
