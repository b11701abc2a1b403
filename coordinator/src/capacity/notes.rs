//! What a pod's object says that no filter looks at: data on the host, other schedulers.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{HostPathVolumeSource, Pod, PodSpec};

/// The scheduler whose default profile is simulated.
const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Labels of pods that hold the data of a storage system on their host, and of which system: those
/// that are met in clusters of Kubean, by their projects' own charts and operators.
const STORAGE: [(&str, &str, &str); 14] = [
    ("app", "rook-ceph-osd", "Ceph"),
    ("app", "rook-ceph-mon", "Ceph"),
    ("longhorn.io/component", "instance-manager", "Longhorn"),
    ("app", "longhorn-manager", "Longhorn"),
    ("app", "hwameistor-local-storage", "HwameiStor"),
    ("app", "hwameistor-local-disk-manager", "HwameiStor"),
    ("app.kubernetes.io/component", "linstor-satellite", "LINSTOR"),
    ("app.kubernetes.io/component", "linstor-node", "LINSTOR"),
    ("app", "cstor-pool", "OpenEBS"),
    ("app", "io-engine", "OpenEBS"),
    ("openebs.io/component-name", "openebs-zfs-node", "OpenEBS"),
    ("role", "openebs-lvm", "OpenEBS"),
    ("app.kubernetes.io/name", "topolvm", "TopoLVM"),
    ("glusterfs", "pod", "GlusterFS"),
];

/// Names of the pods that kubeadm and kubespray make from files on a host.
const STATIC: [&str; 8] = [
    "etcd",
    "haproxy",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kube-vip",
    "nginx-proxy",
];

/// One of these things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// Volumes that end with it.
    EmptyDir(Vec<String>),
    /// A directory or file of the host.
    HostPath {
        /// Which.
        path: String,
        /// Whether it keeps no data there.
        only_reads: bool,
    },
    /// A part of a storage system.
    Storage(&'static str),
    /// Something that decides where it goes, and is not simulated.
    Unforeseeable(String),
    /// A static pod that no part of Kubernetes is known by.
    Static,
}

/// Everything worth a note. Pods of DaemonSets are made anew on each node, so their directories
/// are the host's, not theirs.
pub(super) fn read(pod: &Pod, is_daemon: bool, is_mirror: bool) -> Vec<Note> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut notes = Vec::new();
    let labels = pod.metadata.labels.as_ref();
    let has = |key: &str, value: &str| {
        labels.and_then(|labels| labels.get(key)).is_some_and(|found| found == value)
    };
    if let Some((_, _, of)) = STORAGE.iter().find(|(key, value, _)| has(key, value)) {
        notes.push(Note::Storage(of));
    }
    if is_mirror {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let node = spec.node_name.as_deref().unwrap_or_default();
        let file = name.strip_suffix(node).and_then(|name| name.strip_suffix('-'));
        if !STATIC.contains(&file.unwrap_or(name)) {
            notes.push(Note::Static);
        }
    }
    if is_daemon || is_mirror {
        return notes;
    }
    let scheduler = spec.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER);
    if scheduler != DEFAULT_SCHEDULER {
        notes.push(Note::Unforeseeable(format!("scheduler {scheduler:?} places it")));
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        notes.push(Note::Unforeseeable("its resource claims are not simulated".to_owned()));
    }
    notes.extend(host_paths(spec));
    let volumes = spec.volumes.iter().flatten().filter(|volume| volume.empty_dir.is_some());
    let names: Vec<String> = volumes.map(|volume| volume.name.clone()).collect();
    if !names.is_empty() {
        notes.push(Note::EmptyDir(names));
    }
    notes
}

fn host_paths(spec: &PodSpec) -> impl Iterator<Item = Note> {
    let written = written(spec);
    spec.volumes.iter().flatten().filter_map(move |volume| {
        let source = volume.host_path.as_ref()?;
        let only_reads = !written.contains(volume.name.as_str()) || is_no_data(source);
        Some(Note::HostPath { path: source.path.clone(), only_reads })
    })
}

/// Names of the volumes that a container may write to.
fn written(spec: &PodSpec) -> BTreeSet<&str> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mounts = containers.flat_map(|container| container.volume_mounts.iter().flatten());
    let written = mounts.filter(|mount| mount.read_only != Some(true));
    written.map(|mount| mount.name.as_str()).collect()
}

/// Sockets and devices hold no data that a reinstall could take.
fn is_no_data(source: &HostPathVolumeSource) -> bool {
    matches!(source.type_.as_deref(), Some("Socket" | "CharDevice" | "BlockDevice"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn notes(spec: Value, labels: Value) -> Vec<Note> {
        let pod = json!({"metadata": {"name": "a", "labels": labels}, "spec": spec});
        read(&serde_json::from_value(pod).unwrap(), false, false)
    }

    #[test]
    fn a_directory_of_the_host_is_data_if_somebody_may_write_to_it() {
        let spec = |mount: Value, source: Value| {
            json!({"containers": [{"name": "c", "volumeMounts": [mount]}],
                "volumes": [{"name": "v", "hostPath": source}]})
        };
        let (writes, reads) = (
            json!({"name": "v", "mountPath": "/d"}),
            json!({"name": "v", "mountPath": "/d", "readOnly": true}),
        );
        let at = |only_reads| vec![Note::HostPath { path: "/data".to_owned(), only_reads }];
        let data = json!({"path": "/data"});
        assert_eq!(notes(spec(writes.clone(), data.clone()), json!({})), at(false));
        assert_eq!(notes(spec(reads, data), json!({})), at(true));
        let socket = json!({"path": "/data", "type": "Socket"});
        assert_eq!(notes(spec(writes, socket), json!({})), at(true));
    }

    #[test]
    fn empty_dirs_storage_and_other_schedulers_are_noted() {
        let spec = json!({"containers": [], "volumes": [{"name": "tmp", "emptyDir": {}}],
            "schedulerName": "volcano", "resourceClaims": [{"name": "gpu"}]});
        let found = notes(spec, json!({"app": "rook-ceph-osd"}));
        assert!(found.contains(&Note::Storage("Ceph")), "{found:?}");
        assert!(found.contains(&Note::EmptyDir(vec!["tmp".to_owned()])), "{found:?}");
        assert_eq!(found.len(), 4, "{found:?}");
        let plain = json!({"containers": [], "schedulerName": "default-scheduler"});
        assert_eq!(notes(plain, json!({"app": "web"})), []);
    }

    #[test]
    fn static_pods_that_kubernetes_does_not_bring_are_noted() {
        let named = |name: &str| {
            let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": "n-1",
                "containers": [], "volumes": [{"name": "d", "hostPath": {"path": "/d"}}]}});
            read(&serde_json::from_value(pod).unwrap(), false, true)
        };
        assert_eq!(named("nginx-proxy-n-1"), []);
        assert_eq!(named("keepalived-n-1"), [Note::Static]);
    }
}
