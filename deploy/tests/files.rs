//! What is installed parses, and asks for no right that the coordinator does not use.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn documents(name: &str) -> Vec<Value> {
    read(name).split("\n---\n").map(|text| serde_saphyr::from_str(text).unwrap()).collect()
}

fn texts(rule: &Value, field: &str) -> Vec<String> {
    let list = rule[field].as_array().into_iter().flatten();
    list.map(|value| value.as_str().unwrap().to_owned()).collect()
}

/// `group/resource verb` of every rule of a file.
fn rights(name: &str) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for document in documents(name) {
        for rule in document["rules"].as_array().into_iter().flatten() {
            for group in texts(rule, "apiGroups") {
                for resource in texts(rule, "resources") {
                    for verb in texts(rule, "verbs") {
                        rights.insert(format!("{group}/{resource} {verb}"));
                    }
                }
            }
        }
    }
    rights
}

#[test]
fn every_binding_names_a_role_and_an_account_of_its_file() {
    for file in ["coordinator/rbac-management.yaml", "coordinator/rbac-workload.yaml"] {
        let documents = documents(file);
        let named = |kind: &str, name: &Value, namespace: &Value| {
            documents.iter().any(|document| {
                let metadata = &document["metadata"];
                document["kind"] == kind
                    && metadata["name"] == *name
                    && metadata["namespace"] == *namespace
            })
        };
        let is_binding =
            |document: &&Value| document["kind"].as_str().unwrap().ends_with("Binding");
        let bindings: Vec<_> = documents.iter().filter(is_binding).collect();
        assert!(!bindings.is_empty());
        for binding in bindings {
            let role = &binding["roleRef"];
            let namespace = &binding["metadata"]["namespace"];
            assert!(named(role["kind"].as_str().unwrap(), &role["name"], namespace), "{role}");
            let account = &binding["subjects"][0];
            assert!(named("ServiceAccount", &account["name"], &account["namespace"]), "{account}");
        }
    }
}

#[test]
fn no_right_is_wide_and_none_touches_secrets() {
    for file in ["coordinator/rbac-management.yaml", "coordinator/rbac-workload.yaml"] {
        for right in rights(file) {
            assert!(!right.contains('*'), "{file}: {right}");
            assert!(!right.contains("secrets"), "{file}: {right}");
            assert!(!right.contains("watch"), "{file}: rehull asks, it does not watch: {right}");
        }
    }
    let changes: Vec<_> = rights("coordinator/rbac-workload.yaml")
        .into_iter()
        .filter(|right| !right.ends_with(" get") && !right.ends_with(" list"))
        .collect();
    // Pods and Services are made and removed where join canaries live, and nowhere else.
    let of_canaries = ["pods", "services"]
        .map(|kind| ["create", "delete"].map(|verb| format!("/{kind} {verb}")))
        .concat();
    let (canaries, others): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|right| of_canaries.contains(right));
    assert_eq!(canaries, of_canaries);
    // A Node is deleted by its UID only, when a removal has left it behind.
    assert_eq!(others, ["/nodes delete", "/nodes patch", "/pods/eviction create"]);
    for role in documents("coordinator/rbac-workload.yaml") {
        let rights = role["rules"].to_string();
        let makes = rights.contains("create") && !rights.contains("pods/eviction");
        assert!(!makes || role["metadata"]["namespace"] == "rehull-canary", "{rights}");
    }
}

#[test]
fn the_unit_starts_serve_and_nothing_else() {
    let unit = read("coordinator/rehull.service");
    for section in ["[Unit]", "[Service]", "[Install]"] {
        assert!(unit.contains(section), "{section}");
    }
    let starts: Vec<_> = unit.lines().filter(|line| line.starts_with("ExecStart=")).collect();
    assert_eq!(starts, ["ExecStart=/usr/local/bin/rehull serve --dir /var/lib/rehull"]);
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '['])) {
        assert!(line.contains('='), "{line:?} is no setting");
    }
}
