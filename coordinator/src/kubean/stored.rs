//! What Kubean keeps of a cluster: its inventory and its variables.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use rehull_shared::ids::ClusterName;

use super::{Cluster, INVENTORY_KEY, Ref, VARS_KEY};
use crate::{
    backups::Beside,
    clients::{Trouble, calls},
};

/// A cluster and its texts. They may hold passwords, so this cannot be printed.
pub struct Stored {
    /// The object.
    pub cluster: Cluster,
    /// Text of the inventory.
    pub inventory: String,
    /// Text of the variables.
    pub vars: String,
}

/// Reads a cluster and its texts.
///
/// # Errors
/// A [`Trouble`] if one of them cannot be had, or lies outside the operator's namespace: the pod of
/// an operation mounts them by name there.
pub async fn stored(
    client: &Client,
    namespace: &str,
    name: &ClusterName,
) -> Result<Stored, Trouble> {
    let what = format!("Cluster {name} of the management cluster");
    let found = calls::get(&Api::<Cluster>::all(client.clone()), name.as_str()).await;
    let cluster = found.map_err(|failure| failure.with(&what))?;
    let cluster = cluster.ok_or_else(|| Trouble::new(&what, "there is none of this name"))?;
    if let Some(ssh) = &cluster.spec.ssh_auth_ref {
        must_be_in(namespace, &format!("{what}: its Secret {}", ssh.name), ssh)?;
    }
    let read = async |at: &Ref, key| text(client, namespace, at, key).await;
    let inventory = read(&cluster.spec.hosts_conf_ref, INVENTORY_KEY).await?;
    let vars = read(&cluster.spec.vars_conf_ref, VARS_KEY).await?;
    Ok(Stored { cluster, inventory, vars })
}

/// Everything that Kubean keeps of a cluster, passwords and keys with it: its object, inventory, variables
/// and kubeconfig, as files below `/kubean`. For a backup, which is encrypted for people, and for nothing
/// else.
///
/// # Errors
/// A [`Trouble`] if one of them cannot be had.
pub async fn texts(client: &Client, name: &ClusterName) -> Result<Vec<Beside>, Trouble> {
    let what = format!("Cluster {name} of the management cluster");
    let found = calls::get(&Api::<Cluster>::all(client.clone()), name.as_str()).await;
    let cluster = found.map_err(|failure| failure.with(&what))?;
    let cluster = cluster.ok_or_else(|| Trouble::new(&what, "there is none of this name"))?;
    let content = serde_json::to_vec_pretty(&cluster).map_err(|why| Trouble::new(&what, why))?;
    let mut files = vec![Beside { path: "/kubean/cluster.json".to_owned(), content }];
    let Cluster { spec, .. } = cluster;
    let maps = [Some(spec.hosts_conf_ref), Some(spec.vars_conf_ref), spec.kubeconf_ref];
    for Ref { namespace, name } in maps.into_iter().flatten() {
        let what = format!("ConfigMap {namespace}/{name}");
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
        let found = calls::get(&maps, &name).await.map_err(|failure| failure.with(&what))?;
        let map = found.ok_or_else(|| Trouble::new(&what, "it does not exist"))?;
        files.extend(map.data.into_iter().flatten().map(|(key, text)| Beside {
            path: format!("/kubean/{name}/{key}"),
            content: text.into_bytes(),
        }));
    }
    Ok(files)
}

async fn text(client: &Client, namespace: &str, at: &Ref, key: &str) -> Result<String, Trouble> {
    let what = format!("ConfigMap {}/{}", at.namespace, at.name);
    must_be_in(namespace, &what, at)?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = calls::get(&maps, &at.name).await.map_err(|failure| failure.with(&what))?;
    let map = found.ok_or_else(|| Trouble::new(&what, "it does not exist"))?;
    let mut data = map.data.unwrap_or_default();
    data.remove(key).ok_or_else(|| Trouble::new(&what, format!("it has no key {key:?}")))
}

fn must_be_in(namespace: &str, what: &str, at: &Ref) -> Result<(), Trouble> {
    if at.namespace == namespace {
        return Ok(());
    }
    let why = format!("it is not in {namespace}, where the operator looks (spec.namespace)");
    Err(Trouble::new(what, why))
}
