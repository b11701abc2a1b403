//! Where clients of the API are led, and whether the API servers that are to be there serve them.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{ConfigMap, Pod},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::version::Info,
};
use kube::{Api, Client, api::ListParams};
use rehull_shared::{
    evidence::{Check, Source, Verdict, Witness},
    ids::NodeName,
    time::{Span, Timestamp},
};

use super::{
    super::{
        Pass,
        api::{self, few},
        endpoints::{PLACES, Place, certificates},
    },
    Answers, checks, node,
    server::{Reading, SYSTEM, Server},
};
use crate::{
    clients::Endpoint,
    domain::{
        gate::{Bench, Gate},
        state::Node,
    },
    pods,
    readiness::complaint,
};

/// Where every namespace has the certificate authorities of the cluster (Kubernetes 1.20 and later).
const ROOT: &str = "kube-root-ca.crt";

/// The label of the leases of API servers that names their host.
const HOST: &str = "kubernetes.io/hostname";

/// The label of the pods of a control plane, and of its parts, as kubeadm has them.
const TIER: (&str, &str) = ("tier", "control-plane");
const COMPONENT: &str = "component";

/// The parts that every control plane has; etcd may be a service of the host.
const PARTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

impl Pass<'_> {
    /// Whether what joins, and what is upgraded, is sent to a control plane that stays.
    pub(super) async fn endpoints_elsewhere(
        &self,
        server: &Server,
        node: Option<&Node>,
    ) -> Reading<Verdict> {
        let (mut leads, mut wrong) = (Vec::new(), Vec::new());
        for place in PLACES {
            let Some(map) = read(server, &place).await? else { continue };
            if place.name == PLACES[0].name {
                wrong.extend(other_authority(server, &place, &map).await?);
            }
            let at = place.leads_to(&map);
            let at = at.map_err(|why| Verdict::unknown(format!("{place}: {why}")))?;
            let Some(at) = at else {
                if place.everywhere {
                    wrong.push(format!("{place} does not say where it leads"));
                }
                continue;
            };
            match self.may_lead_to(node.map(|node| &node.planned.name), &at) {
                Ok(()) => leads.push(format!("{} leads to {at}", place.name)),
                Err(why) => wrong.push(format!("{}: {why}", place.name)),
            }
        }
        Ok(match wrong.is_empty() {
            true => Verdict::pass(leads.join(", ")),
            false => Verdict::fail(few(wrong)),
        })
    }

    /// What those read who join.
    pub(super) async fn cluster_info(&self, server: &Server) -> Reading<ConfigMap> {
        let [info, ..] = PLACES;
        let missing = || Verdict::unknown(format!("{info} does not exist"));
        read(server, &info).await?.ok_or_else(missing)
    }

    /// Whether the Service `kubernetes` leads to the API servers that are to serve now, and to no other.
    pub(super) async fn servers_listed(&self, server: &Server) -> Reading<Verdict> {
        let slices: Api<EndpointSlice> = Api::namespaced(server.client()?.clone(), "default");
        let of_service = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
        let slices = api::list(&slices, of_service, Some).await;
        let slices = slices
            .map_err(|why| Verdict::unknown(format!("EndpointSlices of kubernetes: {why}")))?;
        let found: BTreeSet<&str> = slices
            .iter()
            .flat_map(|slice| slice.endpoints.iter().flatten())
            .flat_map(|endpoint| endpoint.addresses.iter().map(String::as_str))
            .collect();
        let expected: BTreeSet<&str> =
            self.migration.serving().map(|one| one.address.as_str()).collect();
        let missing = expected.difference(&found).map(|at| format!("{at} is missing"));
        let extra =
            found.difference(&expected).map(|at| format!("{at} is listed, and is not to be"));
        let wrong: Vec<String> = missing.chain(extra).collect();
        Ok(match wrong.is_empty() {
            true => Verdict::pass(format!("it leads to {}", few(found))),
            false => Verdict::fail(few(wrong)),
        })
    }

    /// Asks the API server of the node itself.
    pub(super) async fn ask_own_server(&self, bench: &Bench<'_>, gate: Gate) -> Answers {
        let own = bench.node.and_then(|node| self.migration.plan.control_plane(node));
        let Some(own) = own else { return Answers::new() };
        let mut answers = Answers::new();
        for check in checks(bench, gate, Witness::OwnApiServer) {
            let now = self.now();
            let verdict = match check {
                Check::ApiServerServes => self.serves(&own.api_server).await,
                Check::ApiServerVersionKept => self.version_kept(&own.api_server).await,
                other => Err(Verdict::unknown(format!("its own API server cannot answer {other}"))),
            };
            let verdict = verdict.unwrap_or_else(|unknown| unknown);
            answers.insert((check, Source::ApiServer(own.api_server.clone())), (now, verdict));
        }
        answers
    }

    async fn one_server(&self, address: &str) -> Reading<Client> {
        let endpoint = Endpoint::ApiServer(address.to_owned());
        let client = self.context.clients.get(&self.migration.plan, endpoint).await;
        client.map_err(|trouble| Verdict::unknown(trouble.to_string()))
    }

    async fn version_kept(&self, address: &str) -> Reading<Verdict> {
        let client = self.one_server(address).await?;
        let wanted = &self.migration.plan.kubernetes_version;
        Ok(match api::call(client.apiserver_version()).await {
            Ok(Info { git_version, .. }) if git_version == *wanted => {
                Verdict::pass(format!("{address} is {wanted}"))
            }
            Ok(Info { git_version, .. }) => {
                Verdict::fail(format!("{address} is {git_version}, the plan says {wanted}"))
            }
            Err(failure) => Verdict::unknown(format!("the version of {address}: {failure}")),
        })
    }

    async fn serves(&self, address: &str) -> Reading<Verdict> {
        let client = self.one_server(address).await?;
        Ok(match complaint(&client).await {
            Ok(None) => Verdict::pass(format!("{address} is ready")),
            Ok(Some(answer)) => Verdict::fail(format!("{address} is not ready: {answer}")),
            Err(failure) => Verdict::fail(format!("{address} is not ready: {failure}")),
        })
    }
}

/// No API server of a host renews its lease. Before Kubernetes 1.26, none has one.
pub(super) fn leases_stopped(
    leases: &[Lease],
    host: &NodeName,
    window: Span,
    now: Timestamp,
    last: Option<&str>,
) -> Verdict {
    let of_host = |lease: &&Lease| {
        let label = lease.metadata.labels.as_ref().and_then(|all| all.get(HOST));
        label.is_some_and(|name| name.eq_ignore_ascii_case(host.as_str()))
    };
    let mut stopped = Vec::new();
    for lease in leases.iter().filter(of_host) {
        let name = lease.metadata.name.as_deref().unwrap_or_default();
        match node::lease_stopped(Some(lease), name, window, now, last) {
            Verdict::Pass(words) => stopped.push(words),
            other => return other,
        }
    }
    match stopped.is_empty() {
        true => Verdict::pass(format!("no API server of {host} has a lease")),
        false => Verdict::pass(stopped.join("; ")),
    }
}

/// What is wrong with the certificate authority in `cluster-info`: who joins by a token believes in it alone
/// (F57). One of those that the cluster itself gives to its pods must be in it; while one is changed for
/// another, both lists have several.
async fn other_authority(
    server: &Server,
    place: &Place,
    map: &ConfigMap,
) -> Reading<Option<String>> {
    let given = match place.authorities(map) {
        Ok(given) => given,
        Err(why) => return Ok(Some(format!("{place}: {why}"))),
    };
    let unknown = |why: String| Verdict::unknown(format!("ConfigMap {ROOT}: {why}"));
    let maps: Api<ConfigMap> = Api::namespaced(server.client()?.clone(), place.namespace);
    let root = api::get(&maps, ROOT).await.map_err(|why| unknown(why.to_string()))?;
    let pem = root.and_then(|root| root.data?.remove("ca.crt"));
    let pem = pem.ok_or_else(|| unknown("it is not there".to_owned()))?;
    let own = certificates(pem.as_bytes()).map_err(unknown)?;
    Ok((!given.iter().any(|one| own.contains(one))).then(|| {
        format!("{place} has none of the certificate authorities in ConfigMap {ROOT} beside it")
    }))
}

/// What is there; `None` only of what a cluster can do without.
async fn read(server: &Server, place: &Place) -> Reading<Option<ConfigMap>> {
    let maps: Api<ConfigMap> = Api::namespaced(server.client()?.clone(), place.namespace);
    let unknown = |why: String| Verdict::unknown(format!("{place}: {why}"));
    let map = api::get(&maps, place.name).await.map_err(|why| unknown(why.to_string()))?;
    match map {
        None if place.everywhere => Err(unknown("it does not exist".to_owned())),
        map => Ok(map),
    }
}

/// Every part of the control plane on a node is there, and Ready.
pub(super) fn pods_ready(on_node: &[Pod], name: &NodeName) -> Verdict {
    let label = |pod: &Pod, key: &str| pod.metadata.labels.as_ref()?.get(key).cloned();
    let parts: Vec<(String, &Pod)> = on_node
        .iter()
        .filter(|pod| pod.metadata.namespace.as_deref() == Some(SYSTEM))
        .filter(|pod| label(pod, TIER.0).as_deref() == Some(TIER.1))
        .filter_map(|pod| Some((label(pod, COMPONENT)?, pod)))
        .collect();
    let down = parts.iter().filter(|(_, pod)| !pods::is_ready(pod));
    let down = down.map(|(_, pod)| format!("{} is not Ready", pods::name(pod)));
    let missing = PARTS.iter().filter(|part| !parts.iter().any(|(found, _)| found == *part));
    let missing = missing.map(|part| format!("{name} has no {part}"));
    let wrong: Vec<String> = down.chain(missing).collect();
    match wrong.is_empty() {
        true => Verdict::pass(format!("{} pods of its control plane are Ready", parts.len())),
        false => Verdict::fail(few(wrong)),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        domain::effect::{Effect, Work},
        effects::{stage::Stage, testing::says},
    };

    fn map(namespace: &str, name: &str, key: &str, text: String) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {key: text},
            "metadata": {"namespace": namespace, "name": name}})
    }

    #[tokio::test]
    async fn what_joins_is_led_somewhere_and_given_an_authority_of_the_cluster() {
        let mut stage = Stage::new();
        stage.migration().plan.endpoint = Some("lb.example".into());
        let pem =
            |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem();
        let (old, new, other) = (pem("old"), pem("new"), pem("other"));
        let put = |object| stage.workload.store().put(object);
        let root = |pem: String| put(map("kube-public", ROOT, "ca.crt", pem));
        let info = |pem: &str, server: &str| {
            let text = format!(
                "clusters:\n- cluster:\n    certificate-authority-data: {}\n    {server}\n",
                STANDARD.encode(pem)
            );
            put(map("kube-public", "cluster-info", "kubeconfig", text));
        };
        let config = "controlPlaneEndpoint: lb.example:6443\n".to_owned();
        put(map("kube-system", "kubeadm-config", "ClusterConfiguration", config));
        let cluster = "prod".parse().unwrap();
        let effect = Effect { cluster, work: Work::CleanUp };
        let look = async || {
            let server = Server::new(Ok(stage.workload.client()));
            let pass = stage.bare_pass(&effect);
            pass.endpoints_elsewhere(&server, None).await.unwrap_or_else(|unknown| unknown)
        };
        let leads = "server: https://lb.example:6443";
        info(&old, leads);
        says(&look().await, "unknown", "kube-root-ca.crt: it is not there");
        root(old.clone());
        says(&look().await, "pass", "cluster-info leads to lb.example:6443");
        // While one is changed for another, either list may have both.
        root(format!("{old}{new}"));
        says(&look().await, "pass", "cluster-info leads to lb.example:6443");
        info(&format!("{old}{new}"), leads);
        root(new);
        says(&look().await, "pass", "cluster-info leads to lb.example:6443");
        info(&other, leads);
        says(
            &look().await,
            "fail",
            "none of the certificate authorities in ConfigMap kube-root-ca.crt",
        );
        info(&old, "tls-server-name: x");
        root(old);
        says(&look().await, "fail", "cluster-info does not say where it leads");
    }
}
