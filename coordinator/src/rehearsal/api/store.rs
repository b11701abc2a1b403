//! The objects of a server: versions, owners, deletions.

use std::collections::{BTreeMap, BTreeSet};

use rehull_shared::time::{Span, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{answer::Refused, kinds::Kind};

/// Namespace (empty for none) and name.
pub type Name = (String, String);

/// The finalizer of a foreground deletion.
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// Every object of a server.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) objects: BTreeMap<&'static str, BTreeMap<Name, Value>>,
    logs: BTreeMap<Name, String>,
    seed: String,
    version: u64,
    made: u64,
    now: Timestamp,
    pod_grace: Span,
    /// Owners that are of kinds that no server here knows: they live, as far as anybody can tell.
    pub(super) strangers: BTreeSet<String>,
    /// Something is deleted or may have lost its owner: the collector has work.
    pub(super) unsettled: bool,
}

/// What a deletion must find, and what becomes of what the object owns.
#[derive(Clone, Debug, Default)]
pub struct Deletion {
    /// UID that the object must have.
    pub uid: Option<String>,
    /// Version that the object must have.
    pub version: Option<String>,
    /// The object stays until all it owns is gone.
    pub foreground: bool,
    /// What it owns stays, without an owner.
    pub orphan: bool,
}

impl Store {
    pub(super) fn new(seed: &str) -> Self {
        Self {
            objects: BTreeMap::new(),
            logs: BTreeMap::new(),
            seed: seed.to_owned(),
            version: 1,
            made: 0,
            now: Timestamp::default(),
            pod_grace: Span::default(),
            strangers: BTreeSet::new(),
            unsettled: false,
        }
    }

    /// Lets time pass: pods whose grace is over disappear.
    pub(super) fn set_now(&mut self, now: Timestamp) {
        self.now = now;
        self.collect();
    }

    /// Running pods stay this long after their deletion; at first they go at once.
    pub fn set_pod_grace(&mut self, grace: Span) {
        self.pod_grace = grace;
    }

    /// The time now as Kubernetes writes it.
    pub fn time(&self) -> String {
        kubernetes_time(self.now)
    }

    /// What a pod has printed.
    pub fn log_of(&mut self, namespace: &str, pod: &str) -> &mut String {
        self.logs.entry((namespace.to_owned(), pod.to_owned())).or_default()
    }

    pub(super) fn all(&self, kind: &Kind) -> impl Iterator<Item = (&Name, &Value)> {
        self.objects.get(kind.plural).into_iter().flatten()
    }

    /// Every object of a kind, by its plural, in the order of namespace and name.
    pub fn list(&self, plural: &str) -> impl Iterator<Item = &Value> {
        self.objects.get(plural).into_iter().flat_map(BTreeMap::values)
    }

    /// One object, by its plural; `namespace` is empty for kinds without namespaces.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(plural)?.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Puts an object as it is, status included, made new or in the place of the old one: for the
    /// simulation. Its kind must be one of the known.
    ///
    /// # Panics
    /// If the object has no known kind or no name: the simulation is wrong then.
    pub fn put(&mut self, object: Value) {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let kind = Kind::by_name(text("apiVersion"), text("kind"));
        let kind = kind.unwrap_or_else(|| panic!("a simulation puts only known kinds: {object}"));
        let key = name_of(&object);
        assert!(!key.1.is_empty(), "a simulation names what it puts: {object}");
        if let Some(old) = self.objects.get(kind.plural).and_then(|all| all.get(&key)).cloned() {
            self.write(kind, &old, object);
        } else {
            self.insert(kind, object);
        }
    }

    /// Takes objects over as they are in another cluster: identities and times stay. What they
    /// lack of that, they are given; objects of unknown kinds are left out.
    pub fn adopt(&mut self, objects: Vec<Value>) {
        for mut object in objects {
            let text = |field: &str| object[field].as_str().unwrap_or_default();
            let Some(kind) = Kind::by_name(text("apiVersion"), text("kind")) else { continue };
            let (version, time) = (self.next_version(), self.time());
            let uid = Uuid::from_u64_pair(self.draw(), self.draw()).to_string();
            let metadata = &mut object["metadata"];
            metadata["resourceVersion"] = json!(version);
            for (field, value) in [("uid", uid), ("creationTimestamp", time)] {
                if metadata[field].is_null() {
                    metadata[field] = json!(value);
                }
            }
            self.objects.entry(kind.plural).or_default().insert(name_of(&object), object);
        }
        let all = || self.objects.values().flat_map(BTreeMap::values);
        let known: BTreeSet<&str> =
            all().filter_map(|object| object["metadata"]["uid"].as_str()).collect();
        let owners = all().flat_map(owners_of).filter(|uid| !known.contains(uid));
        let owners: BTreeSet<String> = owners.map(str::to_owned).collect();
        self.strangers.extend(owners);
    }

    /// Changes an object in place, status included: for the simulation. False if it is not there.
    pub fn edit(
        &mut self,
        plural: &'static str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> bool {
        let Some(old) = self.get(plural, namespace, name).cloned() else { return false };
        let text = |field: &str| old[field].as_str().unwrap_or_default();
        let Some(kind) = Kind::by_name(text("apiVersion"), text("kind")) else { return false };
        let mut new = old.clone();
        change(&mut new);
        if new != old {
            self.write(kind, &old, new);
        }
        true
    }

    /// Removes an object and what it owns, at once and without finalizers: for the simulation.
    pub fn remove(&mut self, plural: &str, namespace: &str, name: &str) {
        if let Some(all) = self.objects.get_mut(plural) {
            all.remove(&(namespace.to_owned(), name.to_owned()));
        }
        self.unsettled = true;
        self.collect();
    }

    /// Makes an object: uid, version, generation and time are the server's.
    pub(super) fn insert(&mut self, kind: &Kind, mut object: Value) -> Value {
        self.made += 1;
        let uid =
            Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{}/{}", self.seed, self.made).as_bytes());
        object["apiVersion"] = json!(kind.version);
        object["kind"] = json!(kind.kind);
        let time = self.time();
        let version = self.next_version();
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(uid.to_string());
        metadata["resourceVersion"] = json!(version);
        metadata["generation"] = json!(1);
        metadata["creationTimestamp"] = json!(time);
        self.unsettled |= !owners_of(&object).is_empty();
        self.objects.entry(kind.plural).or_default().insert(name_of(&object), object.clone());
        object
    }

    /// Writes an object over an older version of itself: its identity stays.
    pub(super) fn write(&mut self, kind: &Kind, old: &Value, mut new: Value) -> Value {
        for field in ["uid", "creationTimestamp", "deletionTimestamp", "namespace", "name"] {
            match old["metadata"].get(field) {
                Some(value) => new["metadata"][field] = value.clone(),
                None => _ = new["metadata"].as_object_mut().and_then(|m| m.remove(field)),
            }
        }
        let generation = old["metadata"]["generation"].as_u64().unwrap_or(1);
        let changed = content(old) != content(&new);
        new["metadata"]["generation"] = json!(generation + u64::from(changed));
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if new == *old {
            return new;
        }
        new["metadata"]["resourceVersion"] = json!(self.next_version());
        self.objects.entry(kind.plural).or_default().insert(name_of(&new), new.clone());
        self.collect();
        new
    }

    /// Deletes an object. `Some` if it stays for a while, as it is then.
    pub(super) fn delete(
        &mut self,
        kind: &Kind,
        key: &Name,
        how: &Deletion,
    ) -> Result<Option<Value>, Refused> {
        let all = self.objects.entry(kind.plural).or_default();
        let Some(object) = all.get(key).cloned() else {
            return Err(Refused::not_found(kind, &key.1));
        };
        for (field, wanted) in [("uid", &how.uid), ("resourceVersion", &how.version)] {
            let found = object["metadata"][field].as_str().unwrap_or_default();
            if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != found) {
                let name = if field == "uid" { "UID" } else { "ResourceVersion" };
                let why = format!(
                    "Precondition failed: {name} in precondition: {wanted}, {name} in object \
                     meta: {found}"
                );
                return Err(Refused::conflict(kind, &key.1, &why));
            }
        }
        if how.orphan {
            self.orphan(&object);
        }
        self.begin_deletion(kind, key, how.foreground);
        self.collect();
        Ok(self.objects.get(kind.plural).and_then(|all| all.get(key)).cloned())
    }

    /// Marks an object as deleted; the collector removes it when nothing holds it any more.
    pub(super) fn begin_deletion(&mut self, kind: &Kind, key: &Name, foreground: bool) {
        let grace = self.grace_of(kind, key);
        let until = kubernetes_time(self.now + grace);
        let version = self.next_version();
        self.unsettled = true;
        let all = self.objects.entry(kind.plural).or_default();
        let Some(object) = all.get_mut(key) else { return };
        let metadata = &mut object["metadata"];
        if metadata["deletionTimestamp"].is_null() {
            metadata["deletionTimestamp"] = json!(until);
            metadata["deletionGracePeriodSeconds"] = json!(grace.as_secs());
            metadata["resourceVersion"] = json!(version);
        }
        let mut finalizers = metadata["finalizers"].as_array().cloned().unwrap_or_default();
        if foreground && !finalizers.contains(&json!(FOREGROUND)) {
            finalizers.push(json!(FOREGROUND));
            metadata["finalizers"] = json!(finalizers);
        }
    }

    fn grace_of(&self, kind: &Kind, key: &Name) -> Span {
        let pod = self.objects.get(kind.plural).and_then(|all| all.get(key));
        let running = pod.is_some_and(|pod| {
            !pod["spec"]["nodeName"].is_null() && pod["status"]["phase"] == "Running"
        });
        if kind.plural == "pods" && running { self.pod_grace } else { Span::default() }
    }

    fn orphan(&mut self, owner: &Value) {
        let uid = owner["metadata"]["uid"].clone();
        for object in self.objects.values_mut().flat_map(BTreeMap::values_mut) {
            if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                owners.retain(|reference| reference["uid"] != uid);
            }
        }
    }

    /// Five characters for a name, as controllers give them to what they make.
    pub fn suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut number = self.draw();
        let mut next = || {
            let letter = ALPHABET[(number % ALPHABET.len() as u64) as usize];
            number /= ALPHABET.len() as u64;
            char::from(letter)
        };
        (0..5).map(|_| next()).collect()
    }

    /// A number that follows from the seed and the draws before.
    pub(super) fn draw(&mut self) -> u64 {
        self.made += 1;
        let name = format!("{}/{}", self.seed, self.made);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).as_u64_pair().0
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// The version of the whole, for lists.
    pub fn version(&self) -> String {
        self.version.to_string()
    }
}

/// UIDs of the owners of an object.
pub(super) fn owners_of(object: &Value) -> Vec<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.into_iter().flatten().filter_map(|owner| owner["uid"].as_str()).collect()
}

/// Namespace and name of an object.
pub(super) fn name_of(object: &Value) -> Name {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// Whole seconds, as Kubernetes writes times.
pub fn kubernetes_time(time: Timestamp) -> String {
    let whole = Timestamp::from_millis(time.as_millis() / 1000 * 1000);
    whole.to_string().replace(".000Z", "Z")
}

/// What counts for the generation: all but metadata and status.
fn content(object: &Value) -> Value {
    let mut content = object.clone();
    if let Some(fields) = content.as_object_mut() {
        fields.remove("metadata");
        fields.remove("status");
    }
    content
}
