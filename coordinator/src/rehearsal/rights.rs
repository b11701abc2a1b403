//! The roles that are handed out grant what a whole migration calls, and nothing that it never does.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::{
    clock::BEGIN,
    driver::{Driver, Script, Turn},
    faults::Fault,
    prepared::Layout,
};

/// One granted right: where, what, and on which name (any, if there is none).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    namespace: Option<String>,
    group: String,
    resource: String,
    verb: String,
    name: Option<String>,
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

/// Granted, although a migration without an accident does not need it.
const FOR_ACCIDENTS: [&str; 4] = [
    // A plan says whose parts lead.
    "coordination.k8s.io/leases kube-controller-manager get",
    "coordination.k8s.io/leases kube-scheduler get",
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
            let names: Vec<Option<String>> = match texts("resourceNames") {
                none if none.is_empty() => vec![None],
                names => names.into_iter().map(Some).collect(),
            };
            for group in texts("apiGroups") {
                for resource in texts("resources") {
                    for verb in texts("verbs") {
                        rights.extend(names.iter().map(|name| Right {
                            namespace: namespace.clone(),
                            group: group.clone(),
                            resource: resource.clone(),
                            verb: verb.clone(),
                            name: name.clone(),
                        }));
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
        let named = right.name.is_none() || right.name == self.name;
        let what = (&right.group, &right.resource, right.verb.as_str());
        here && named && what == (&self.group, &self.resource, self.verb)
    }
}

/// All that is granted by some files together.
fn all_granted(files: &[&str]) -> BTreeSet<Right> {
    files.iter().flat_map(|file| granted(file)).collect()
}

/// Every call must be granted by one of the files. Gives what was asked for.
#[track_caller]
fn must_grant(files: &[&str], calls: &[String]) -> BTreeSet<Asked> {
    let rights = all_granted(files);
    let asked: BTreeSet<Asked> = calls.iter().filter_map(|call| Asked::read(call)).collect();
    assert!(asked.len() > 4, "{files:?}: almost nothing was called: {asked:?}");
    let refused: Vec<&Asked> =
        asked.iter().filter(|call| !rights.iter().any(|right| call.is_granted_by(right))).collect();
    assert!(refused.is_empty(), "{files:?} do not grant {refused:#?}");
    asked
}

/// Fails if a copy needs a right that the roles do not give.
#[track_caller]
pub(super) fn suffice(files: &[&str], calls: &[String]) {
    must_grant(files, calls);
}

/// Every right must be used; those to read, only of the files that are `exact`.
#[track_caller]
fn all_used(file: &str, asked: &BTreeSet<Asked>, exact: bool) {
    let unused: Vec<String> = granted(file)
        .iter()
        .filter(|right| exact || !["get", "list"].contains(&right.verb.as_str()))
        .filter(|right| !asked.iter().any(|call| call.is_granted_by(right)))
        .map(|right| {
            let name = right.name.iter().map(|name| format!(" {name}")).collect::<String>();
            format!("{}/{}{name} {}", right.group, right.resource, right.verb)
        })
        .filter(|right| !FOR_ACCIDENTS.contains(&right.as_str()))
        .collect();
    assert!(unused.is_empty(), "{file} grants what is never used: {unused:?}");
}

/// What a whole migration asks of the management cluster, and of its own.
async fn calls(layout: Layout) -> [Vec<String>; 2] {
    let faults = [(format!("{}-worker1", layout.name), Fault::SucceededDidNothing)].into();
    let (seed, originals) = ("rights".to_owned(), vec![layout.original()]);
    let script = Script { seed, begin: BEGIN, originals, faults };
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::begin(dir.path(), script).await.unwrap();
    loop {
        match driver.turn(&mut |_, _, _| None).await.unwrap() {
            Turn::Finished => break,
            Turn::Goes => (),
            other => panic!("{other:?}"),
        }
    }
    let calls = {
        let world = driver.world().lock();
        [world.management.calls(), world.sites[0].api.calls()]
    };
    driver.end().await.unwrap();
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_migration_needs_no_right_that_the_roles_do_not_give() {
    let west = Layout { name: "west", control_planes: 2, include: false, workers: 2, network: 9 };
    let [management, workload] = calls(west).await;
    for (file, calls) in [("rbac-management.yaml", management), ("rbac-workload.yaml", workload)] {
        all_used(file, &must_grant(&[file], &calls), false);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_planes_need_some_more_and_nothing_of_that_is_too_much() {
    let west = Layout { name: "west", control_planes: 3, include: true, workers: 2, network: 9 };
    let [management, workload] = calls(west).await;
    for (files, calls) in [
        (["rbac-management.yaml", "rbac-management-control-planes.yaml"], management),
        (["rbac-workload.yaml", "rbac-workload-control-planes.yaml"], workload),
    ] {
        all_used(files[1], &must_grant(&files, &calls), true);
    }
}
