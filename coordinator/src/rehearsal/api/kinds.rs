//! The kinds of object that a server knows, as data.

/// One kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Group and version, as in `apiVersion`.
    pub version: &'static str,
    /// Plural, as in paths.
    pub plural: &'static str,
    /// Kind, as in objects.
    pub kind: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

const fn kind(
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> Kind {
    Kind { version, plural, kind, namespaced }
}

/// Every kind that can be asked for; the rest is answered with 404, as by a server without its CRD.
pub const KINDS: &[Kind] = &[
    kind("v1", "namespaces", "Namespace", false),
    kind("v1", "nodes", "Node", false),
    kind("v1", "persistentvolumes", "PersistentVolume", false),
    kind("v1", "pods", "Pod", true),
    kind("v1", "configmaps", "ConfigMap", true),
    kind("v1", "secrets", "Secret", true),
    kind("v1", "serviceaccounts", "ServiceAccount", true),
    kind("v1", "services", "Service", true),
    kind("v1", "endpoints", "Endpoints", true),
    kind("v1", "events", "Event", true),
    kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim", true),
    kind("apps/v1", "daemonsets", "DaemonSet", true),
    kind("apps/v1", "deployments", "Deployment", true),
    kind("apps/v1", "replicasets", "ReplicaSet", true),
    kind("apps/v1", "statefulsets", "StatefulSet", true),
    kind("batch/v1", "jobs", "Job", true),
    kind("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", true),
    kind("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", false),
    kind("coordination.k8s.io/v1", "leases", "Lease", true),
    kind("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", true),
    kind("storage.k8s.io/v1", "volumeattachments", "VolumeAttachment", false),
    kind("storage.k8s.io/v1", "csinodes", "CSINode", false),
    kind("storage.k8s.io/v1", "storageclasses", "StorageClass", false),
    kind(
        "certificates.k8s.io/v1",
        "certificatesigningrequests",
        "CertificateSigningRequest",
        false,
    ),
    kind("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", false),
    kind("kubean.io/v1alpha1", "clusters", "Cluster", false),
    kind("kubean.io/v1alpha1", "clusteroperations", "ClusterOperation", false),
    kind("kubean.io/v1alpha1", "manifests", "Manifest", false),
];

impl Kind {
    /// By its place in a path.
    pub fn by_plural(version: &str, plural: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.version == version && kind.plural == plural)
    }

    /// By what an object says of itself.
    pub fn by_name(version: &str, name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.version == version && kind.kind == name)
    }

    /// The API group; empty for the core.
    pub fn group(&self) -> &'static str {
        self.version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Whether it comes from a CRD: only then do items of a list name their kind.
    pub fn is_custom(&self) -> bool {
        self.group().contains('.') && !self.group().ends_with(".k8s.io")
    }
}
