//! How control planes go, and which clients of the API may notice: what can be read of them, and no more.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Node as KubeNode, Pod},
};
use kube::{Api, Client, api::ListParams};

use crate::{
    clients::{
        Endpoint,
        calls::{Failure, few, get, list},
        kept_server, server_of,
    },
    domain::plan::{ControlPlane, Plan, PlannedNode, Role},
    effects::{Context, PLACES, host_of},
};

/// Where kubespray's proxies and the parts of control planes are.
const SYSTEM: &str = "kube-system";

/// How the static pods are called in which kubespray puts a proxy on each node before the API servers.
const PROXIES: [&str; 2] = ["nginx-proxy-", "haproxy-"];

/// Those of a control plane of which only one works at a time, by the names of their Leases.
const LED: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// Lines of facts; none if no control plane goes.
pub(super) async fn lines(plan: &Plan, nodes: &[PlannedNode], context: &Context) -> Vec<String> {
    let going =
        Going { plan, nodes: nodes.iter().filter(|it| it.role.is_control_plane()).collect() };
    if going.nodes.is_empty() {
        return Vec::new();
    }
    let mut lines = going.order();
    match context.clients.get(plan, Endpoint::Workload).await {
        Ok(client) => {
            let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
            let pods = list(&pods, ListParams::default(), |pod| pod.metadata.name).await;
            lines.extend(going.restarts(&pods));
            lines.extend(going.proxies(&client, &pods).await);
            for name in LED {
                lines.extend(going.leader(&client, name).await);
            }
            lines.extend(going.places(&client).await);
        }
        Err(trouble) => lines.push(format!("who asks them is not known: {trouble}")),
    }
    lines.extend(going.kubeconfigs(context).await);
    lines.push(going.others());
    lines
}

/// The control planes that go, in their order.
struct Going<'a> {
    plan: &'a Plan,
    nodes: Vec<&'a PlannedNode>,
}

impl Going<'_> {
    fn order(&self) -> Vec<String> {
        let names = self.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
        let mut lines = vec![format!("they go behind all workers, one after the other: {names}")];
        let first = self.nodes.iter().find(|node| node.role == Role::FirstControlPlane);
        let next = self.plan.control_planes.get(1);
        if let (Some(first), Some(next)) = (first, next) {
            let (first, next) = (&first.name, &next.name);
            lines.push(format!(
                "{first} hands over to {next} before it goes: by kubeconfig.yml, by the order of the \
                 inventory, and by upgrade-cluster.yml, which runs on all control planes"
            ));
        }
        lines
    }

    /// Which of those that go an address is of.
    fn at(&self, address: &str) -> Option<&ControlPlane> {
        let host = host_of(address);
        let is = |one: &&ControlPlane| one.address == host || one.name.as_str() == host;
        let one = self.plan.control_planes.iter().find(is)?;
        self.nodes.iter().any(|node| node.name == one.name).then_some(one)
    }

    /// What the order of the inventory restarts: kubespray names the members of an etcd that no kubelet
    /// runs by their places in it.
    fn restarts(&self, pods: &Result<Vec<String>, Failure>) -> Option<String> {
        let first = self.nodes.iter().find(|node| node.role == Role::FirstControlPlane)?;
        let pods = match pods {
            Ok(pods) => pods,
            Err(why) => return Some(format!("whether etcd runs in pods is not known: {why}")),
        };
        let is_member = |pod: &String| {
            let node = pod.strip_prefix("etcd-");
            self.plan.control_planes.iter().any(|one| Some(one.name.as_str()) == node)
        };
        (!pods.iter().any(is_member)).then(|| {
            format!(
                "etcd runs in no pod: before {} goes, its members restart one after the other for the \
                 order of the inventory, and then the API servers; for half a minute clients may wait \
                 or fail",
                first.name
            )
        })
    }

    /// Nodes whose kubelets and pods ask a proxy of their own.
    async fn proxies(&self, client: &Client, pods: &Result<Vec<String>, Failure>) -> Vec<String> {
        let nodes = Api::<KubeNode>::all(client.clone());
        let nodes = list(&nodes, ListParams::default(), |node| node.metadata.name).await;
        let (pods, nodes) = match (pods, &nodes) {
            (Ok(pods), Ok(nodes)) => (pods, nodes.iter().cloned()),
            (Err(why), _) | (_, Err(why)) => {
                return vec![format!("which nodes have a proxy of their own is not known: {why}")];
            }
        };
        let on = |pod: &String| {
            PROXIES.iter().find_map(|proxy| pod.strip_prefix(proxy)).map(str::to_owned)
        };
        let served: BTreeSet<String> = pods.iter().filter_map(on).collect();
        let plane =
            |name: &String| self.plan.control_planes.iter().any(|one| one.name.as_str() == *name);
        let (with, without): (Vec<String>, Vec<String>) =
            nodes.filter(|name| !plane(name)).partition(|name| served.contains(name));
        let mut lines = Vec::new();
        if !with.is_empty() {
            lines.push(format!(
                "{} nodes have a proxy of their own before the API servers: what watches through it is \
                 cut off once for each control plane that goes, {} times, and opens again within \
                 seconds: {}",
                with.len(),
                self.nodes.len(),
                few(&with)
            ));
        }
        if !without.is_empty() {
            let (count, names) = (without.len(), few(&without));
            lines.push(format!("{count} nodes have none; whom they ask cannot be seen: {names}"));
        }
        lines
    }

    /// A control plane on which the one works that leads.
    async fn leader(&self, client: &Client, name: &str) -> Option<String> {
        let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
        let spec = match get(&leases, name).await {
            Ok(lease) => lease?.spec?,
            Err(why) => return Some(format!("which {name} leads is not known: {why}")),
        };
        let holder = spec.holder_identity?;
        let host = holder.split('_').next()?;
        let node = self.nodes.iter().find(|node| node.name.as_str() == host)?;
        let (node, seconds) = (&node.name, spec.lease_duration_seconds?);
        Some(format!(
            "the {name} of {node} leads: when {node} goes, another does within {seconds} s"
        ))
    }

    /// Objects that lead whoever joins to a control plane that goes.
    async fn places(&self, client: &Client) -> Vec<String> {
        let mut lines = Vec::new();
        for place in PLACES {
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), place.namespace);
            let read = get(&maps, place.name).await.map_err(|failure| failure.to_string());
            let at = read.and_then(|map| map.map_or(Ok(None), |map| place.leads_to(&map)));
            match at {
                Err(why) => lines.push(format!("where {place} leads is not known: {why}")),
                Ok(Some(at)) => lines.extend(self.at(&at).map(|ControlPlane { name, .. }| {
                    format!(
                        "{place} leads to {name} ({at}): it is made to lead to another one before \
                         {name} goes, but what was made of it keeps that address"
                    )
                })),
                Ok(None) => (),
            }
        }
        lines
    }

    /// Kubeconfigs that rehull knows of and that lead to a control plane that goes.
    async fn kubeconfigs(&self, context: &Context) -> Vec<String> {
        let (plan, clients) = (self.plan, &context.clients);
        let mut lines = Vec::new();
        match kept_server(plan, clients).await {
            Err(trouble) => {
                lines.push(format!("where Kubean's kubeconfig leads is not known: {trouble}"))
            }
            Ok(server) => lines.extend(server.as_deref().and_then(|at| self.at(at)).map(|one| {
                let name = &one.name;
                let first = self
                    .nodes
                    .iter()
                    .any(|node| node.name == *name && node.role == Role::FirstControlPlane);
                match first {
                    true => format!("Kubean's kubeconfig leads to {name}, until the hand-over"),
                    false => format!(
                        "Kubean's kubeconfig leads to {name}, which is held until it does not"
                    ),
                }
            })),
        }
        if plan.workload.kubeconfig.is_some()
            && let Ok(server) = server_of(plan, clients).await
            && let Some(one) = self.at(&server)
        {
            let name = &one.name;
            lines.push(format!(
                "spec.workload.kubeconfig leads to {name}: rehull waits while {name} is away"
            ));
        }
        lines
    }

    /// Those that cannot be seen.
    fn others(&self) -> String {
        match &self.plan.endpoint {
            Some(host) => format!(
                "clients of {host} (spec.workload.endpoint) notice as much as it lets them when an API \
                 server behind it ends"
            ),
            None => "who has the address of one control plane in a kubeconfig reaches nothing while that \
                     one is away; rehull cannot see them, and no spec.workload.endpoint is given"
                .to_owned(),
        }
    }
}
