//! What stands behind pods: how many are wanted, and where their template pins them.

use std::collections::HashMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::symbols::{Symbol, Symbols};
use crate::pods;

/// Kind, namespace and name.
pub(super) type Key = (Symbol, Symbol, Symbol);

/// A workload.
#[derive(Debug)]
pub(super) struct Workload {
    /// How many pods it wants.
    pub(super) replicas: i32,
    /// The node that its template names.
    pub(super) node: Option<Symbol>,
    /// The workload that made it.
    pub(super) owner: Option<Key>,
    /// UID.
    pub(super) uid: Box<str>,
}

/// The workloads of a snapshot whose number of pods is known.
#[derive(Debug, Default)]
pub(super) struct Workloads(HashMap<Key, Workload>);

impl Workloads {
    /// Takes a ReplicaSet in.
    pub(super) fn replica_set(&mut self, object: &ReplicaSet, symbols: &mut Symbols) {
        let spec = &object.spec;
        let template = spec.template.as_ref();
        self.add("ReplicaSet", &object.metadata, spec.replicas, template, symbols);
    }

    /// Takes a StatefulSet in.
    pub(super) fn stateful_set(&mut self, object: &StatefulSet, symbols: &mut Symbols) {
        let spec = &object.spec;
        let template = Some(&spec.template);
        self.add("StatefulSet", &object.metadata, spec.replicas, template, symbols);
    }

    /// Takes a Deployment in.
    pub(super) fn deployment(&mut self, object: &Deployment, symbols: &mut Symbols) {
        let spec = &object.spec;
        let template = Some(&spec.template);
        self.add("Deployment", &object.metadata, spec.replicas, template, symbols);
    }

    /// What is known of one.
    pub(super) fn get(&self, key: Key) -> Option<&Workload> {
        self.0.get(&key)
    }

    /// The workload behind all others that made one: a Deployment behind its ReplicaSet.
    pub(super) fn root(&self, key: Key) -> Key {
        match self.get(key).and_then(|workload| workload.owner) {
            Some(owner) if owner != key => owner,
            _ => key,
        }
    }

    fn add(
        &mut self,
        kind: &str,
        metadata: &ObjectMeta,
        replicas: Option<i32>,
        template: Option<&PodTemplateSpec>,
        symbols: &mut Symbols,
    ) {
        let namespace = symbols.of(metadata.namespace.as_deref().unwrap_or_default());
        let name = symbols.of(metadata.name.as_deref().unwrap_or_default());
        let node = template.and_then(|template| template.spec.as_ref()?.node_name.as_deref());
        let node = node.filter(|node| !node.is_empty());
        let workload = Workload {
            replicas: replicas.unwrap_or(1),
            node: node.map(|node| symbols.of(node)),
            owner: controller(metadata, namespace, symbols),
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
        };
        self.0.insert((symbols.of(kind), namespace, name), workload);
    }
}

/// The controller of an object in a namespace.
pub(super) fn controller(
    metadata: &ObjectMeta,
    namespace: Symbol,
    symbols: &mut Symbols,
) -> Option<Key> {
    let (kind, name) = pods::controller(metadata)?;
    Some((symbols.of(kind), namespace, symbols.of(name)))
}
