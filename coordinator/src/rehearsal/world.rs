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
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::Value;

use super::{
    api::Api,
    clock::Clock,
    cluster::{Original, Site},
    faults::{Fault, Faults},
    installer::{self, Installer},
    kubean::{self, Operator},
};
use crate::{
    clients::{Connect, Endpoint, Trouble},
    domain::plan::Plan,
};

mod mishaps;

/// Namespace of Kubean's operator in clusters that are made up.
pub(super) const NAMESPACE: &str = "kubean-system";

/// Image of every operation that is made up.
pub(super) const IMAGE: &str = "registry.example/kubean-io/spray-job:v0.12.2";

/// What the driver must do for the world, as it takes time that is real.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chore {
    /// A host goes down, or only its agent.
    Stop { cluster: String, node: String },
    /// A host is up with a new system: its agent starts, and enrols.
    Start { cluster: String, node: String },
    /// The agent of the system that was there starts again.
    Restart { cluster: String, node: String },
}

/// Everything that is simulated.
pub(super) struct World {
    clock: Clock,
    seed: String,
    pub(super) management: Api,
    pub(super) sites: Vec<Site>,
    pub(super) operator: Operator,
    pub(super) installer: Installer,
    /// Faults that have not struck yet.
    pending: Faults,
    /// Faults that have struck.
    pub(super) struck: Faults,
    /// Objects that faults have put up, by node: a budget, a volume, an operation.
    marks: BTreeMap<(String, Fault), (String, String)>,
    /// The certificate of an authority that no cluster has, PEM.
    stranger: String,
    pub(super) chores: Vec<Chore>,
    /// What must never happen, and did.
    pub(super) violations: Vec<String>,
}

/// The world, shared with everything that calls into it; all clones are one.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<World>>);

impl Shared {
    /// A world whose every detail follows from its originals and `seed`; its hosts are directories
    /// in `hosts`.
    pub(super) fn new(
        originals: Vec<Original>,
        faults: Faults,
        seed: &str,
        clock: Clock,
        hosts: &Path,
    ) -> io::Result<Self> {
        let [certificate, stranger] = [1, 2].map(|number| certificate(clock.now(), number));
        let certificate = certificate.map_err(io::Error::other)?;
        let management = Api::new(&format!("{seed}/management"), clock.reader());
        let mut sites = Vec::new();
        for mut original in originals {
            management.store().adopt(std::mem::take(&mut original.management));
            let api = Api::new(&format!("{seed}/{}", original.name), clock.reader());
            sites.push(Site::new(original, seed, api, hosts, &certificate, clock.now())?);
        }
        let world = World {
            clock,
            seed: seed.to_owned(),
            management,
            sites,
            operator: Operator::default(),
            installer: Installer::default(),
            pending: faults,
            struck: Faults::new(),
            marks: BTreeMap::new(),
            stranger: stranger.map_err(io::Error::other)?,
            chores: Vec::new(),
            violations: Vec::new(),
        };
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
    /// What time it is.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets everything move that moves by itself.
    pub(super) fn step(&mut self) -> io::Result<()> {
        let now = self.now();
        self.meet_cordons();
        kubean::step(self, now)?;
        installer::step(self, now)?;
        for site in &mut self.sites {
            site.step(now)?;
            let lost = site.control_planes.lost().map(|what| format!("{}: {what}", site.name));
            let news = lost.filter(|lost| !self.violations.contains(lost));
            self.violations.extend(news);
        }
        Ok(())
    }

    /// The cluster of this name.
    pub(super) fn site(&mut self, cluster: &str) -> Option<&mut Site> {
        self.sites.iter_mut().find(|site| site.name.as_str() == cluster)
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
        let Some(site) = self.site(cluster) else { return };
        let Some(host) = site.host(node) else { return };
        let was_clean = host.machine.is_clean();
        host.machine.down = true;
        let address = host.machine.address.clone();
        let is_member = site.control_planes.has_member(&address);
        if !was_clean {
            self.violations.push(format!("{node} is wiped while Kubernetes runs on it"));
        }
        if is_member {
            self.violations.push(format!("{node} is wiped while it is a member of etcd"));
        }
        let (cluster, node) = (cluster.to_owned(), node.to_owned());
        self.chores.push(Chore::Stop { cluster, node });
    }

    /// A host is about to join.
    pub(super) fn check_join(&mut self, cluster: &str, node: &str) {
        let Some(site) = self.site(cluster) else { return };
        let target = site.target;
        let Some(os) = site.host(node).map(|host| host.machine.os) else { return };
        if os != target {
            self.violations.push(format!("{node} joins with {}", os.pretty));
        }
    }

    fn api(&self, plan: &Plan, endpoint: &Endpoint) -> Result<Api, Trouble> {
        let site = self.sites.iter().find(|site| site.name == plan.cluster);
        let site = site.ok_or_else(|| Trouble::new(&plan.cluster, "nobody rehearses it"))?;
        match endpoint {
            Endpoint::Management => Ok(self.management.clone()),
            Endpoint::ApiServer(address) => {
                let server = site.control_planes.server(address, &site.api);
                server.ok_or_else(|| Trouble::new(endpoint, "connection refused"))
            }
            // What does not lead to one of them stands before all.
            Endpoint::Workload => {
                let kept = kubean::kept_server(&self.management.store(), site.name.as_str());
                let server = kept.and_then(|at| site.control_planes.server(&at, &site.api));
                Ok(server.unwrap_or_else(|| site.api.clone()))
            }
        }
    }

    /// Whether every node that migrates is a Ready node with the new OS, and carries what it carried.
    pub(super) fn is_as_wished(&self) -> bool {
        let mut sites = self.sites.iter();
        sites.all(|site| site.hosts.iter().all(|host| site.is_as_wished(host)))
    }
}

/// A certificate such as a kubelet has: valid for years, so it only shows how long. Its hash goes to
/// the log, so it is always the same.
fn certificate(now: Timestamp, number: u8) -> Result<String, rcgen::Error> {
    let year = now.to_string().get(..4).and_then(|year| year.parse().ok()).unwrap_or(2025);
    // An Ed25519 key in PKCS #8 (RFC 8410), whose signatures need no chance.
    let mut key = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    key.extend([number; 32]);
    let key = PrivatePkcs8KeyDer::from(key);
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ED25519)?;
    let mut params = rcgen::CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(year - 1, 6, 1);
    params.not_after = rcgen::date_time_ymd(year + 2, 6, 1);
    Ok(params.self_signed(&key)?.pem())
}
