//! The roles that are handed out grant what a whole migration calls, and nothing that it never does.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::{
    clock::BEGIN,
    driver::{Driver, Script, Turn},
    faults::Fault,
    prepared::Layout,
};

/// One granted right: where, what, and on which names (all, if there are none).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    namespace: Option<String>,
    group: String,
    resource: String,
    verb: String,
    names: Vec<String>,
}

/// One request, as the authorizer of an API server sees it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    namespace: Option<String>,
    group: String,
    resource: String,
    name: Option<String>,
    verb: &'static str,
}

/// Granted, although a rehearsal without an accident does not need it.
const FOR_ACCIDENTS: [&str; 2] = [
    // An operation that does not start is withdrawn.
    "kubean.io/clusteroperations delete",
    // A removal leaves the Node object behind.
    "/nodes delete",
];

fn granted(file: &str) -> BTreeSet<Right> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/coordinator").join(file);
    let mut rights = BTreeSet::new();
    for text in fs::read_to_string(path).unwrap().split("\n---\n") {
        let role: Value = serde_saphyr::from_str(text).unwrap();
        let namespace = role["metadata"]["namespace"].as_str().map(str::to_owned);
        for rule in role["rules"].as_array().into_iter().flatten() {
            let texts = |field: &str| -> Vec<String> {
                let list = rule[field].as_array().into_iter().flatten();
                list.map(|text| text.as_str().unwrap().to_owned()).collect()
            };
            for group in texts("apiGroups") {
                for resource in texts("resources") {
                    for verb in texts("verbs") {
                        rights.insert(Right {
                            namespace: namespace.clone(),
                            group: group.clone(),
                            resource: resource.clone(),
                            verb,
                            names: texts("resourceNames"),
                        });
                    }
                }
            }
        }
    }
    rights
}

impl Asked {
    /// From `GET /api/v1/namespaces/x/pods/y`; `None` for paths that name no resource.
    fn read(call: &str) -> Option<Self> {
        let (method, path) = call.split_once(' ')?;
        let path = path.split('?').next()?;
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = match parts[..] {
            ["api", "v1", ref rest @ ..] => ("", rest),
            ["apis", group, _, ref rest @ ..] => (group, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let (resource, name) = match rest {
            [plural] => ((*plural).to_owned(), None),
            [plural, name] => ((*plural).to_owned(), Some((*name).to_owned())),
            [plural, name, part] => (format!("{plural}/{part}"), Some((*name).to_owned())),
            _ => return None,
        };
        let verb = match (method, &name) {
            ("GET", Some(_)) => "get",
            ("GET", None) => "list",
            ("POST", _) => "create",
            ("PATCH", _) => "patch",
            ("PUT", _) => "update",
            _ => "delete",
        };
        let namespace = namespace.map(str::to_owned);
        Some(Self { namespace, group: group.to_owned(), resource, name, verb })
    }

    fn is_granted_by(&self, right: &Right) -> bool {
        let here = right.namespace.is_none() || right.namespace == self.namespace;
        let named = right.names.is_empty()
            || self.name.as_ref().is_some_and(|name| right.names.contains(name));
        let what = (&right.group, &right.resource, right.verb.as_str());
        here && named && what == (&self.group, &self.resource, self.verb)
    }
}

/// Every call must be granted. Gives what was asked for.
#[track_caller]
fn must_grant(rights: &BTreeSet<Right>, file: &str, calls: &[String]) -> BTreeSet<Asked> {
    let asked: BTreeSet<Asked> = calls.iter().filter_map(|call| Asked::read(call)).collect();
    assert!(asked.len() > 4, "{file}: almost nothing was called: {asked:?}");
    let refused: Vec<&Asked> =
        asked.iter().filter(|call| !rights.iter().any(|right| call.is_granted_by(right))).collect();
    assert!(refused.is_empty(), "{file} does not grant {refused:#?}");
    asked
}

/// Fails if a copy needs a right that the roles do not give.
#[track_caller]
pub(super) fn suffice(file: &str, calls: &[String]) {
    must_grant(&granted(file), file, calls);
}

/// Every call must be granted, and every right that changes something must be used.
#[track_caller]
fn hold_against(file: &str, calls: &[String]) {
    let rights = granted(file);
    let asked = must_grant(&rights, file, calls);
    let unused: Vec<String> = rights
        .iter()
        .filter(|right| !["get", "list"].contains(&right.verb.as_str()))
        .filter(|right| !asked.iter().any(|call| call.is_granted_by(right)))
        .map(|right| format!("{}/{} {}", right.group, right.resource, right.verb))
        .filter(|right| !FOR_ACCIDENTS.contains(&right.as_str()))
        .collect();
    assert!(unused.is_empty(), "{file} grants what is never used: {unused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_migration_needs_no_right_that_the_roles_do_not_give() {
    let west = Layout { name: "west", control_planes: 2, workers: 2, network: 9 };
    let faults = [("west-worker1".to_owned(), Fault::SucceededDidNothing)].into();
    let (seed, originals) = ("rights".to_owned(), vec![west.original()]);
    let script = Script { seed, begin: BEGIN, originals, faults };
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::begin(dir.path(), script).await.unwrap();
    while driver.turn(&mut |_, _, _| None).await.unwrap() != Turn::Finished {}
    let (management, workload) = {
        let world = driver.world().lock();
        (world.management.calls(), world.sites[0].api.calls())
    };
    driver.end().await.unwrap();
    hold_against("rbac-management.yaml", &management);
    hold_against("rbac-workload.yaml", &workload);
}
