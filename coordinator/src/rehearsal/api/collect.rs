//! The garbage collector: what lost its owner goes, what waits in the foreground goes when it owns
//! nothing any more, pods go when their grace is over.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    kinds::{KINDS, Kind},
    store::{FOREGROUND, Name, Store, owners_of},
};

impl Store {
    /// Collects until nothing more can be collected now.
    pub(super) fn collect(&mut self) {
        while self.unsettled {
            let gone = self.gone();
            let lost = self.without_owner();
            if gone.is_empty() && lost.is_empty() {
                break;
            }
            for (plural, key) in gone {
                self.objects.entry(plural).or_default().remove(&key);
            }
            for (kind, key) in lost {
                self.begin_deletion(kind, &key, true);
            }
        }
        let waiting = self.everything().any(|(_, _, object)| is_deleted(object));
        self.unsettled = waiting;
    }

    fn everything(&self) -> impl Iterator<Item = (&'static str, &Name, &Value)> {
        let all = self.objects.iter();
        all.flat_map(|(plural, all)| all.iter().map(|(key, object)| (*plural, key, object)))
    }

    /// What is deleted and held by nothing any more.
    fn gone(&self) -> Vec<(&'static str, Name)> {
        let now = self.time();
        let owning: BTreeSet<&str> = self.everything().flat_map(|(_, _, o)| owners_of(o)).collect();
        let is_gone = |object: &Value| {
            let metadata = &object["metadata"];
            let finalizers = metadata["finalizers"].as_array();
            let mut finalizers = finalizers.into_iter().flatten();
            let uid = metadata["uid"].as_str().unwrap_or_default();
            let held = finalizers.any(|f| f != FOREGROUND || owning.contains(uid));
            metadata["deletionTimestamp"].as_str().is_some_and(|until| until <= now.as_str())
                && !held
        };
        let gone = self.everything().filter(|(_, _, object)| is_gone(object));
        gone.map(|(plural, key, _)| (plural, key.clone())).collect()
    }

    /// What is not deleted yet, but has no owner left, or only one that waits for it to go.
    fn without_owner(&self) -> Vec<(&'static Kind, Name)> {
        let waiting = |object: &Value| {
            let finalizers = object["metadata"]["finalizers"].as_array();
            is_deleted(object) && finalizers.is_some_and(|f| f.contains(&json!(FOREGROUND)))
        };
        let owners: BTreeMap<&str, bool> = self
            .everything()
            .filter_map(|(_, _, o)| Some((o["metadata"]["uid"].as_str()?, !waiting(o))))
            .collect();
        let lost = self.everything().filter(|(_, _, object)| {
            let mut of = owners_of(object).into_iter().peekable();
            let owned = of.peek().is_some();
            let lives = |uid| owners.get(uid) == Some(&true) || self.strangers.contains(uid);
            owned && !is_deleted(object) && !of.any(lives)
        });
        lost.filter_map(|(plural, key, _)| {
            let kind = KINDS.iter().find(|kind| kind.plural == plural)?;
            Some((kind, key.clone()))
        })
        .collect()
    }
}

fn is_deleted(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}
