//! What makes hosts control planes, played: their etcd, which of their API servers serve, and what
//! leads clients to those.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rehull_agent::etcd::{PlayedEtcd, PlayedMember};
use rehull_shared::{text::sha256_hex, time::Timestamp};
use ring::hmac;
use serde_json::{Value, json};

use super::{
    api::{Api, Turn, store::Store},
    machine::Machine,
    workloads::{key, text},
};
use crate::domain::plan::ControlPlane;

/// The label by which the EndpointSlice of the Service `kubernetes` is found.
const SERVICE: &str = "kubernetes.io/service-name";

/// How the key of a signature begins in `cluster-info`; the id of its token follows.
const SIGNATURE: &str = "jws-kubeconfig-";

/// The control planes of a cluster.
pub(super) struct ControlPlanes {
    pub(super) etcd: PlayedEtcd,
    /// Those that are migrated; none, if they stay as they are.
    all: Vec<ControlPlane>,
    seed: String,
    /// Members of etcd that there ever were.
    made: u32,
    /// `host:port` of every API server, and of those that listen.
    servers: Vec<String>,
    up: Arc<Mutex<BTreeSet<String>>>,
    /// An address that stays in the Service `kubernetes` when its API server goes.
    pub(super) stale: Option<String>,
}

impl ControlPlanes {
    /// All of them serve, the last one leads etcd.
    pub(super) fn new(all: Vec<ControlPlane>, servers: Vec<String>, seed: &str) -> Self {
        let (seed, made, stale) = (format!("{seed}/etcd"), 0, None);
        let up = Arc::new(Mutex::new(servers.iter().cloned().collect()));
        let etcd = PlayedEtcd::default();
        let addresses: Vec<String> = all.iter().map(|one| one.address.clone()).collect();
        let mut planes = Self { etcd, all, seed, made, servers, up, stale };
        addresses.iter().for_each(|address| planes.enter(address));
        {
            let mut state = planes.etcd.state();
            (state.cluster_id, state.term, state.revision) = (planes.id("cluster"), 2, 1_000);
            state.leader = state.members.last().map_or(0, |member| member.id);
        }
        planes.name_members(&addresses);
        planes
    }

    fn id(&self, what: &str) -> u64 {
        let hash = sha256_hex(format!("{}/{what}", self.seed).as_bytes());
        u64::from_str_radix(&hash[..15], 16).unwrap_or(1)
    }

    /// The one whose host has this address.
    pub(super) fn at(&self, address: &str) -> Option<&ControlPlane> {
        self.all.iter().find(|one| one.address == address)
    }

    /// One API server, by its own address, which listens or does not. `None` if there is no such.
    pub(super) fn server(&self, address: &str, api: &Api) -> Option<Api> {
        self.servers.iter().find(|own| *own == address)?;
        let (up, address) = (self.up.clone(), address.to_owned());
        Some(api.behind(Arc::new(move |_| {
            match up.lock().unwrap_or_else(PoisonError::into_inner).contains(&address) {
                true => Turn::Answer,
                false => Turn::Break("connection refused".to_owned()),
            }
        })))
    }

    /// Looks at the hosts, and has everything follow: who listens, which members run, what the
    /// Service leads to, what is signed.
    pub(super) fn step<'a>(
        &mut self,
        machines: impl Iterator<Item = &'a Machine>,
        store: &mut Store,
        now: Timestamp,
    ) {
        if self.all.is_empty() {
            return;
        }
        for machine in machines {
            let Some(own) = self.all.iter().find(|one| one.address == machine.address) else {
                continue;
            };
            let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
            match machine.runs("/kube-apiserver") {
                true => _ = up.insert(own.api_server.clone()),
                false => _ = up.remove(&own.api_server),
            }
            let mut etcd = self.etcd.state();
            let member = etcd.members.iter_mut().find(|one| one.address == machine.address);
            if let Some(member) = member {
                member.runs = machine.runs("/etcd");
            }
        }
        self.list(store);
        sign(store, now);
    }

    /// What must never be lost, and is.
    pub(super) fn lost(&self) -> Option<&'static str> {
        let etcd = self.etcd.state();
        let up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        match (etcd.has_quorum(), up.is_empty()) {
            _ if self.all.is_empty() => None,
            (false, _) => Some("etcd has lost its quorum"),
            (true, true) => Some("no API server listens"),
            (true, false) => None,
        }
    }

    /// Each API server has itself listed in the Service `kubernetes`, and takes itself out when it
    /// ends.
    fn list(&self, store: &mut Store) {
        let up = self.up.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let listed = |one: &&ControlPlane| {
            up.contains(&one.api_server) || self.stale.as_ref() == Some(&one.address)
        };
        let listed: Vec<&str> =
            self.all.iter().filter(listed).map(|one| one.address.as_str()).collect();
        let slices: Vec<String> = store
            .list("endpointslices")
            .filter(|slice| slice["metadata"]["labels"][SERVICE] == "kubernetes")
            .map(|slice| text(&slice["metadata"]["name"]))
            .collect();
        for name in slices {
            store.edit("endpointslices", "default", &name, |slice| {
                let endpoint =
                    |at: &&str| json!({ "addresses": [at], "conditions": { "ready": true } });
                slice["endpoints"] = listed.iter().map(endpoint).collect();
            });
        }
    }

    /// A member joins etcd, as a voter.
    pub(super) fn enter(&mut self, address: &str) {
        self.made += 1;
        let id = self.id(&self.made.to_string());
        let mut state = self.etcd.state();
        state.revision += 1;
        let address = address.to_owned();
        state.members.push(PlayedMember { id, address, runs: true, ..PlayedMember::default() });
    }

    /// The member of a host is removed, if there is one.
    pub(super) fn leave(&self, address: &str) {
        let mut state = self.etcd.state();
        let id = state.members.iter().find(|one| one.address == address).map(|one| one.id);
        id.into_iter().for_each(|id| state.remove(id));
    }

    /// Whether etcd knows a member of this address.
    pub(super) fn has_member(&self, address: &str) -> bool {
        self.etcd.state().members.iter().any(|one| one.address == address)
    }

    /// Names go by the order of the inventory.
    pub(super) fn name_members(&self, addresses: &[String]) {
        let mut state = self.etcd.state();
        for member in &mut state.members {
            let place = addresses.iter().position(|address| *address == member.address);
            member.name = place.map_or(String::new(), |place| format!("etcd{}", place + 1));
        }
    }

    /// What an upgrade of control planes writes: everything leads to the last one that it came to,
    /// unless a load balancer stands before them.
    pub(super) fn upgraded(&self, store: &mut Store, last: &str) {
        let Some(to) = self.at(last).map(|one| one.api_server.clone()) else { return };
        let config = store.get("configmaps", "kube-system", "kubeadm-config");
        let config = config.map(|map| text(&map["data"]["ClusterConfiguration"]));
        let led = |text: &String| self.all.iter().any(|one| text.contains(&one.api_server));
        if config.as_ref().is_some_and(led) {
            lead(
                store,
                "kube-system/kubeadm-config/ClusterConfiguration/controlPlaneEndpoint:",
                &to,
            );
            lead(store, "kube-system/kube-proxy/kubeconfig.conf/server:", &format!("https://{to}"));
        }
    }
}

/// Has those believe in the authority of the played hosts who join: a copy has that of its original.
pub(super) fn trust(store: &mut Store, certificate: &str) {
    let field = "kube-public/cluster-info/kubeconfig/certificate-authority-data:";
    lead(store, field, &STANDARD.encode(certificate));
    store.put(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "kube-root-ca.crt", "namespace": "kube-public" },
        "data": { "ca.crt": certificate },
    }));
}

/// Writes a field of the YAML in a ConfigMap: `namespace/name/key/field:`.
fn lead(store: &mut Store, place: &str, to: &str) {
    let parts: Vec<&str> = place.split('/').collect();
    let [namespace, name, key, field] = parts[..] else { return };
    store.edit("configmaps", namespace, name, |map| {
        let Some(before) = map["data"][key].as_str() else { return };
        let line = |line: &str| match line.trim_start_matches([' ', '-']).strip_prefix(field) {
            Some(rest) => line.replace(rest, &format!(" {to}\n")),
            None => line.to_owned(),
        };
        let after: String = before.split_inclusive('\n').map(line).collect();
        map["data"][key] = json!(after);
    });
}

/// The controllers of bootstrap tokens: those whose time is over go, and `cluster-info` is signed with
/// every other one that may sign.
fn sign(store: &mut Store, now: Timestamp) {
    let decoded = |data: &Value| {
        let bytes = STANDARD.decode(data.as_str().unwrap_or_default()).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    let is_token = |secret: &&Value| secret["type"] == "bootstrap.kubernetes.io/token";
    let is_over = |secret: &&Value| {
        let end = decoded(&secret["data"]["expiration"]).parse();
        end.is_ok_and(|end: Timestamp| end <= now)
    };
    let over: Vec<_> = store.list("secrets").filter(is_token).filter(is_over).map(key).collect();
    for (namespace, name) in over {
        store.remove("secrets", &namespace, &name);
    }
    let token = |secret: &Value| {
        let data = &secret["data"];
        let signs = decoded(&data["usage-bootstrap-signing"]) == "true";
        signs.then(|| (decoded(&data["token-id"]), decoded(&data["token-secret"])))
    };
    let tokens = store.list("secrets").filter(is_token).filter_map(token);
    let tokens: Vec<(String, String)> = tokens.collect();
    store.edit("configmaps", "kube-public", "cluster-info", |map| {
        let signed = text(&map["data"]["kubeconfig"]);
        let Some(data) = map["data"].as_object_mut() else { return };
        data.retain(|key, _| !key.starts_with(SIGNATURE));
        for (id, secret) in tokens {
            let header = json!({ "alg": "HS256", "kid": id }).to_string();
            let header = URL_SAFE_NO_PAD.encode(header);
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            let payload = URL_SAFE_NO_PAD.encode(&signed);
            let mac = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
            let signature = format!("{header}..{}", URL_SAFE_NO_PAD.encode(mac));
            data.insert(format!("{SIGNATURE}{id}"), json!(signature));
        }
    });
}
