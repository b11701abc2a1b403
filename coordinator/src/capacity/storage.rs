//! Where the volumes of a pod let it run: filters VolumeBinding, VolumeZone and NodeVolumeLimits.
//!
//! A claim that is not bound yet is taken to be provisioned wherever its storage class may; how
//! much a storage backend has left (`CSIStorageCapacity`) is not looked at.

use std::collections::HashMap;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass as ClassObject,
};

use super::{
    class::{Class, NodeTerm},
    labels::{Requirement, Test},
    symbols::{Symbol, Symbols},
};

/// Labels of volumes that name zones and regions, with the newer name of each.
const ZONES: [(&str, &str); 4] = [
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// A class of local volumes that people make; nothing provisions them.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// A place in the list of volumes.
pub(super) type VolumeId = usize;

/// A PersistentVolume.
#[derive(Debug)]
pub(super) struct Volume {
    /// Name.
    pub(super) name: Symbol,
    /// UID.
    pub(super) uid: Box<str>,
    /// Terms of which a node must match one, by its labels.
    pub(super) terms: Option<Box<[NodeTerm]>>,
    /// Zones and regions that it names.
    pub(super) zones: Box<[Zone]>,
    /// Driver and handle.
    pub(super) csi: Option<(Symbol, Symbol)>,
    /// Whether its data lies on the disk of one host.
    pub(super) is_local: bool,
    /// Claim that it is bound to: namespace and name.
    pub(super) claim: Option<(Symbol, Symbol)>,
}

/// Where a volume is.
#[derive(Debug)]
pub(super) struct Zone {
    /// Key of the label.
    pub(super) key: Symbol,
    /// The newer name of that key.
    pub(super) newer: Symbol,
    /// Values that will do.
    pub(super) values: Box<[Symbol]>,
}

#[derive(Debug)]
struct Claim {
    volume: Option<Symbol>,
    class: Option<Symbol>,
    is_bound: bool,
    is_lost: bool,
    is_going: bool,
}

#[derive(Debug)]
struct StorageClass {
    /// Bound when a pod needs it, and not before.
    waits: bool,
    provisioner: Option<Symbol>,
    topologies: Box<[Box<[Requirement]>]>,
}

/// The storage of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Storage {
    /// Every PersistentVolume.
    pub(super) volumes: Vec<Volume>,
    by_name: HashMap<Symbol, VolumeId>,
    claims: HashMap<(Symbol, Symbol), Claim>,
    classes: HashMap<Symbol, StorageClass>,
    default_class: Option<Symbol>,
    /// Keys of labels that name zones and regions of nodes, if a volume has a zone.
    pub(super) zone_keys: Vec<Symbol>,
}

/// What the volumes of a class of pods ask of a node.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// Why no node will do whatever it is.
    pub(super) refused: Option<String>,
    /// Volumes that are bound.
    pub(super) volumes: Vec<VolumeId>,
    /// Whether a claim is bound to a volume that does not exist.
    pub(super) is_gone: bool,
    /// For each volume that will be made, the terms of which a node must match one.
    pub(super) provisioned: Vec<Box<[Box<[Requirement]>]>>,
    /// Drivers of all of them, one for each volume.
    pub(super) drivers: Vec<Symbol>,
    /// What nobody can foresee.
    pub(super) uncertain: Option<String>,
}

impl Storage {
    /// Takes a PersistentVolume in.
    pub(super) fn volume(&mut self, object: &PersistentVolume, symbols: &mut Symbols) {
        let Some(spec) = &object.spec else { return };
        let name = symbols.of(object.metadata.name.as_deref().unwrap_or_default());
        let required = spec.node_affinity.as_ref().and_then(|one| one.required.as_ref());
        let labels = object.metadata.labels.iter().flatten();
        let mut zones = Vec::new();
        for (key, value) in labels {
            if let Some((key, newer)) = ZONES.iter().find(|(zone, _)| zone == key) {
                let values = value.split("__").map(|zone| symbols.of(zone)).collect();
                zones.push(Zone { key: symbols.of(key), newer: symbols.of(newer), values });
            }
        }
        let csi = spec.csi.as_ref();
        let claim = spec.claim_ref.as_ref();
        let volume = Volume {
            name,
            uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
            terms: required.map(|selector| NodeTerm::read(selector, symbols)),
            zones: zones.into(),
            csi: csi.map(|csi| (symbols.of(&csi.driver), symbols.of(&csi.volume_handle))),
            is_local: spec.local.is_some() || spec.host_path.is_some(),
            claim: claim.map(|claim| {
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                (symbols.of(&text(&claim.namespace)), symbols.of(&text(&claim.name)))
            }),
        };
        if !volume.zones.is_empty() {
            self.zone_keys = ZONES.map(|(key, _)| symbols.of(key)).into();
        }
        self.by_name.insert(name, self.volumes.len());
        self.volumes.push(volume);
    }

    /// Takes a PersistentVolumeClaim in.
    pub(super) fn claim(&mut self, object: &PersistentVolumeClaim, symbols: &mut Symbols) {
        let metadata = &object.metadata;
        let mut of = |text: Option<&String>| symbols.of(text.map_or("", String::as_str));
        let key = (of(metadata.namespace.as_ref()), of(metadata.name.as_ref()));
        let spec = object.spec.clone().unwrap_or_default();
        let named = |text: Option<String>| text.filter(|text| !text.is_empty());
        let status = object.status.as_ref();
        let annotations = metadata.annotations.as_ref();
        let claim = Claim {
            volume: named(spec.volume_name).map(|name| symbols.of(&name)),
            class: named(spec.storage_class_name).map(|name| symbols.of(&name)),
            is_bound: annotations
                .is_some_and(|all| all.contains_key("pv.kubernetes.io/bind-completed")),
            is_lost: status.and_then(|status| status.phase.as_deref()) == Some("Lost"),
            is_going: metadata.deletion_timestamp.is_some(),
        };
        self.claims.insert(key, claim);
    }

    /// Takes a StorageClass in.
    pub(super) fn class(&mut self, object: &ClassObject, symbols: &mut Symbols) {
        let name = symbols.of(object.metadata.name.as_deref().unwrap_or_default());
        let annotations = object.metadata.annotations.as_ref();
        let is_default = annotations
            .and_then(|all| all.get("storageclass.kubernetes.io/is-default-class"))
            .is_some_and(|value| value == "true");
        if is_default {
            self.default_class = Some(name);
        }
        let mut topologies = Vec::new();
        for term in object.allowed_topologies.iter().flatten() {
            let expressions = term.match_label_expressions.iter().flatten();
            let all: Box<[_]> = expressions
                .map(|one| Requirement {
                    key: symbols.of(&one.key),
                    test: Test::In(one.values.iter().map(|value| symbols.of(value)).collect()),
                })
                .collect();
            topologies.push(all);
        }
        let provisions = object.provisioner != NO_PROVISIONER && !object.provisioner.is_empty();
        let class = StorageClass {
            waits: object.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            provisioner: provisions.then(|| symbols.of(&object.provisioner)),
            topologies: topologies.into(),
        };
        self.classes.insert(name, class);
    }

    /// Keys of labels that volumes and classes ask nodes for, but for the terms of volumes.
    pub(super) fn keys(&self) -> impl Iterator<Item = Symbol> {
        let terms = self.classes.values().flat_map(|class| &class.topologies);
        self.zone_keys.iter().copied().chain(terms.flatten().map(|one| one.key))
    }

    /// The volume that a claim is bound to.
    pub(super) fn bound(&self, namespace: Symbol, claim: Symbol) -> Option<VolumeId> {
        let volume = self.claims.get(&(namespace, claim))?.volume?;
        self.by_name.get(&volume).copied()
    }

    /// What the volumes of a class of pods ask of a node.
    pub(super) fn mounts(&self, class: &Class, symbols: &Symbols) -> Mounts {
        let mut mounts = Mounts::default();
        for name in &class.claims {
            self.mount(class.namespace, *name, &mut mounts, symbols);
        }
        for storage_class in &class.ephemeral {
            let storage_class = storage_class.or(self.default_class);
            self.provision(storage_class, "an ephemeral volume", &mut mounts, symbols);
        }
        mounts
    }

    fn mount(&self, namespace: Symbol, name: Symbol, mounts: &mut Mounts, symbols: &Symbols) {
        let text = |symbol| symbols.text(symbol);
        let quoted = format!("persistentvolumeclaim {:?}", text(name));
        let mut refuse = |why: String| mounts.refused = mounts.refused.take().or(Some(why));
        let Some(claim) = self.claims.get(&(namespace, name)) else {
            return refuse(format!("{quoted} not found"));
        };
        if claim.is_lost {
            let volume = claim.volume.map_or("", text);
            return refuse(format!("{quoted} bound to non-existent persistentvolume {volume:?}"));
        }
        if claim.is_going {
            return refuse(format!("{quoted} is being deleted"));
        }
        match claim.volume {
            Some(volume) if claim.is_bound => match self.by_name.get(&volume) {
                Some(volume) => {
                    mounts.volumes.push(*volume);
                    mounts.drivers.extend(self.volumes[*volume].csi.map(|csi| csi.0));
                }
                None => mounts.is_gone = true,
            },
            Some(_) => refuse("pod has unbound immediate PersistentVolumeClaims".to_owned()),
            None => {
                let storage_class = claim.class.and_then(|class| self.classes.get(&class));
                match storage_class {
                    Some(storage_class) if storage_class.waits => {
                        self.provision(claim.class, &quoted, mounts, symbols);
                    }
                    _ => refuse("pod has unbound immediate PersistentVolumeClaims".to_owned()),
                }
            }
        }
    }

    fn provision(&self, class: Option<Symbol>, what: &str, mounts: &mut Mounts, symbols: &Symbols) {
        let found = class.and_then(|class| self.classes.get(&class));
        match found.and_then(|found| found.provisioner.map(|driver| (found, driver))) {
            Some((class, driver)) => {
                mounts.provisioned.push(class.topologies.clone());
                mounts.drivers.push(driver);
            }
            None => {
                let class = class.map_or("none", |class| symbols.text(class));
                mounts.uncertain = Some(format!(
                    "{what} needs a volume that nothing provisions (storage class {class})"
                ));
            }
        }
    }
}
