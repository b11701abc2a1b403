//! From a document to a plan: checked against itself, then against the cluster.

use std::net::IpAddr;

use rehull_shared::ids::NodeName;

use super::{
    ControlPlanes, DeletionProtection, Fault, Installer, JoinCanary, Migration, MigrationSpec,
    Operations, nodes, parse,
};
use crate::{
    clients::{Clients, Endpoint, Trouble},
    domain::{
        calendar::{Calendar, Freeze, Window},
        plan::{self, Access, ControlPlane, Plan, PlannedNode, Role},
        profile::ProfileId,
    },
    inventory::{self, Inventory},
    kubean::{INVENTORY_KEY, KubeVersion, RepoLine, stored},
};

/// Port of an API server, where the document does not give another one.
const API_PORT: u16 = 6443;

/// The plan that the text of a document asks for.
///
/// # Errors
/// A [`Fault`] with the place in the text, and the path of the field, that cannot be carried out.
pub async fn planned(text: &str, clients: &Clients) -> Result<(Plan, Vec<PlannedNode>), Fault> {
    let placed = |fault: Fault| fault.placed(text);
    let migration = parse(text).map_err(placed)?;
    understand(&migration, clients).await.map_err(placed)
}

/// Understands a document: reads the Cluster and its inventory once, and plans the nodes.
///
/// # Errors
/// A [`Fault`] with the path of the field that cannot be carried out.
pub async fn understand(
    migration: &Migration,
    clients: &Clients,
) -> Result<(Plan, Vec<PlannedNode>), Fault> {
    let spec = &migration.spec;
    let mut plan = draft(spec)?;
    let trouble_of = |path: &'static str| move |why: Trouble| Fault::of(path, why.to_string());
    let client = clients.get(&plan, Endpoint::Management).await;
    let client = client.map_err(trouble_of("spec.management"))?;
    let found = stored(&client, &plan.namespace, &plan.cluster).await;
    let found = found.map_err(trouble_of("spec.cluster"))?;
    let in_inventory = |path: &'static str| {
        let at = &found.cluster.spec.hosts_conf_ref;
        let of = format!("{INVENTORY_KEY} of ConfigMap {}/{}", at.namespace, at.name);
        move |why: Fault| Fault::of(path, format!("{of}: {why}"))
    };
    let inventory = Inventory::parse(&found.inventory).map_err(in_inventory("spec.cluster"))?;
    let nodes = nodes::selected(&spec.nodes, spec.control_planes, &inventory)?;
    plan.api_servers = api_servers(&spec.workload.api_servers, &inventory)?;
    if spec.control_planes == ControlPlanes::Include {
        plan.control_planes = control_planes(&plan.api_servers, &inventory)?;
    }
    // Hours later, when only it is left, is no time to learn that it cannot come last.
    if let Some(first) = nodes.iter().find(|node| node.role == Role::FirstControlPlane) {
        let edited = inventory::with_last(&found.inventory, &first.name);
        edited.map_err(in_inventory("spec.controlPlanes"))?;
    }
    Ok((plan, nodes))
}

/// The plan as far as the document alone says it.
pub(super) fn draft(spec: &MigrationSpec) -> Result<Plan, Fault> {
    let MigrationSpec {
        cluster,
        management,
        workload,
        namespace,
        source,
        target,
        operations,
        nodes: _,
        control_planes,
        installer,
        deletion_protection,
        join_canary,
        policy,
        unsafe_because,
        windows,
        freezes,
    } = spec;
    if source == target {
        return Err(Fault::of("spec.target", format!("is the same as spec.source, {source}")));
    }
    if namespace.is_empty() {
        return Err(Fault::of("spec.namespace", "is empty"));
    }
    if unsafe_because.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        return Err(Fault::of("spec.unsafe", "must say why"));
    }
    for (path, file) in [
        ("spec.management.kubeconfig", &management.kubeconfig),
        ("spec.workload.kubeconfig", &workload.kubeconfig),
    ] {
        file.as_deref().map_or(Ok(()), |file| absolute(path, file))?;
    }
    pinned("spec.operations.image", &operations.image)?;
    if let Some(canary) = join_canary {
        pinned("spec.joinCanary.image", &canary.image)?;
    }
    if workload.endpoint.as_ref().is_some_and(|host| host.is_empty() || host.contains(['/', ' '])) {
        let why = "is the host or address of a load balancer, without port or scheme";
        return Err(Fault::of("spec.workload.endpoint", why));
    }
    let calendar = calendar(windows, freezes)?;
    Ok(Plan {
        cluster: cluster.clone(),
        management: access(&management.kubeconfig, &management.context),
        workload: access(&workload.kubeconfig, &workload.context),
        namespace: namespace.clone(),
        api_servers: Vec::new(),
        source: source.clone(),
        target: target.clone(),
        image: operations.image.clone(),
        kubernetes_version: kubernetes_version(operations)?,
        kube_version_arg: kube_version_arg(operations)?,
        facts_hook: operations.facts_hook,
        repos: repos(operations, target)?,
        installer: plan_installer(installer)?,
        policy: policy.clone(),
        unsafe_because: unsafe_because.clone(),
        control_planes_excluded: *control_planes == ControlPlanes::Exclude,
        calendar,
        protection: deletion_protection.as_ref().map(protection),
        join_canary: join_canary.as_ref().map(planned_canary),
        control_planes: Vec::new(),
        endpoint: workload.endpoint.clone(),
    })
}

/// Every control plane with the API server on it: by its address, so that it is known which one goes.
pub(super) fn control_planes(
    api_servers: &[String],
    inventory: &Inventory,
) -> Result<Vec<ControlPlane>, Fault> {
    let plane = |name: &NodeName| {
        let address = inventory.host(name).and_then(|host| host.address()).unwrap_or_default();
        let own = api_servers.iter().find(|at| {
            at.rsplit_once(':').is_some_and(|(host, _)| host.trim_matches(['[', ']']) == address)
        });
        let own = own.ok_or_else(|| {
            let why = format!("{name} must be in it by its address, {address}, or leave it out");
            Fault::of("spec.workload.apiServers", why)
        })?;
        let (name, address) = (name.clone(), address.to_owned());
        Ok(ControlPlane { name, address, api_server: own.clone() })
    };
    if api_servers.len() != inventory.control_planes.len() {
        let why = "must name the API server of each control plane, and no other";
        return Err(Fault::of("spec.workload.apiServers", why));
    }
    inventory.control_planes.iter().map(plane).collect()
}

fn access(kubeconfig: &Option<String>, context: &Option<String>) -> Access {
    Access { kubeconfig: kubeconfig.clone(), context: context.clone() }
}

/// The server reads files and runs programs, from wherever it was started.
fn absolute(path: &str, file: &str) -> Result<(), Fault> {
    match file.starts_with('/') {
        true => Ok(()),
        false => Err(Fault::of(path, format!("{file:?} must be an absolute path"))),
    }
}

/// An image whose tag can move could bring another kubespray, and with it another Kubernetes (E10).
fn pinned(path: &str, image: &str) -> Result<(), Fault> {
    let refuse = |why: &str| Err(Fault::of(path, format!("{image:?} {why}")));
    // The operator itself refuses images that do not begin and end so.
    let alnum = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = |c: char| c.is_ascii_alphanumeric() || "._/:@-".contains(c);
    if !image.chars().all(fits) || !alnum(image.chars().next()) || !alnum(image.chars().last()) {
        return refuse("is not the name of an image");
    }
    if let Some((_, digest)) = image.split_once('@') {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        let is_digest = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        return if is_digest { Ok(()) } else { refuse("has no digest of the form sha256:...") };
    }
    // A colon before the last slash belongs to the port of the registry.
    match image.rsplit('/').next().and_then(|name| name.split_once(':')) {
        Some((_, "latest")) => refuse("is not pinned: latest is another image tomorrow"),
        Some((_, tag)) if !tag.is_empty() && !tag.contains(':') => Ok(()),
        _ => refuse("has no tag: take the one of the last deployment"),
    }
}

fn kubernetes_version(operations: &Operations) -> Result<String, Fault> {
    let version = &operations.kubernetes_version;
    let path = "spec.operations.kubernetesVersion";
    KubeVersion::try_from(version.as_str()).map_err(|bad| Fault::of(path, bad.to_string()))?;
    match version.starts_with('v') {
        true => Ok(version.clone()),
        false => Err(Fault::of(path, "begins with v, as kubelets report it")),
    }
}

fn kube_version_arg(operations: &Operations) -> Result<String, Fault> {
    let version = &operations.kubernetes_version;
    let arg = operations.kube_version_arg.as_ref().unwrap_or(version);
    match arg.trim_start_matches('v') == version.trim_start_matches('v') {
        true => Ok(arg.clone()),
        false => {
            let why = format!("{arg:?} is another version than kubernetesVersion, {version}");
            Err(Fault::of("spec.operations.kubeVersionArg", why))
        }
    }
}

fn repos(operations: &Operations, target: &ProfileId) -> Result<Vec<String>, Fault> {
    let form = target.profile().repo_line;
    let line = |(number, repo): (usize, &String)| {
        let path = format!("spec.operations.repos[{number}]");
        if !repo.starts_with("http://") && !repo.starts_with("https://") {
            let why = format!("begins with http:// or https://; it becomes {form:?}");
            return Err(Fault::of(path, why));
        }
        let line = form.replace("{url}", repo);
        RepoLine::try_from(line.as_str()).map_err(|bad| Fault::of(path, bad.to_string()))?;
        Ok(line)
    };
    operations.repos.iter().enumerate().map(line).collect()
}

fn calendar(windows: &[Window], freezes: &[Freeze]) -> Result<Calendar, Fault> {
    let calendar = Calendar { windows: windows.to_vec(), freezes: freezes.to_vec() };
    calendar.check().map_err(|(path, why)| Fault::of(path, why))?;
    Ok(calendar)
}

fn plan_installer(installer: &Installer) -> Result<plan::Installer, Fault> {
    match installer {
        Installer::Manual {} => Ok(plan::Installer::Manual),
        Installer::Command { program, args } => {
            absolute("spec.installer.command.program", program)?;
            Ok(plan::Installer::Command { program: program.clone(), args: args.clone() })
        }
    }
}

fn protection(DeletionProtection::Hook { args }: &DeletionProtection) -> plan::Hook {
    plan::Hook { args: args.clone() }
}

fn planned_canary(JoinCanary { image }: &JoinCanary) -> plan::JoinCanary {
    plan::JoinCanary { image: image.clone() }
}

/// Every API server: an absence counts only where all of them confirm it.
pub(super) fn api_servers(given: &[String], inventory: &Inventory) -> Result<Vec<String>, Fault> {
    let path = "spec.workload.apiServers";
    if given.is_empty() {
        let own = |name| {
            let host = inventory.host(name);
            let address = host.and_then(|host| host.address()).and_then(|ip| ip.parse().ok());
            let address: IpAddr = address.ok_or_else(|| {
                Fault::of(path, format!("give them: {name} has no IP address in the inventory"))
            })?;
            Ok(std::net::SocketAddr::new(address, API_PORT).to_string())
        };
        return inventory.control_planes.iter().map(own).collect();
    }
    for (number, address) in given.iter().enumerate() {
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.and_then(|(_, port)| port.parse::<u16>().ok()).is_none() || address.contains('/') {
            return Err(Fault::of(path, format!("{address:?} is not host:port")));
        }
        if given[..number].contains(address) {
            return Err(Fault::of(path, format!("{address} is given twice")));
        }
    }
    let planes = inventory.control_planes.len();
    if given.len() < planes {
        let why = format!(
            "names {} of {planes} API servers: the ones left out could still show a node",
            given.len()
        );
        return Err(Fault::of(path, why));
    }
    Ok(given.to_vec())
}
