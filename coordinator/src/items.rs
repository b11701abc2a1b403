//! What a person could accept now: items, as the checks find them in the world.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Api;
use rehull_shared::{evidence::Check, ids::NodeName};

use crate::{
    capacity::{Finding, Object, What},
    clients::{Endpoint, Trouble, calls::get, objects},
    domain::{
        approval::Item,
        gate::Gate,
        plan::{ControlPlane, Plan, Role},
        state::{Migration, Step, Subject},
    },
    effects::Context,
    inventory::passwords,
    kubean::{Stored, manages, mistakes, stored},
    pods,
};

/// Where a node waits for its join canary.
const AT_CANARY: Option<Step> = Some(Step::Ask(Gate::JoinCanary));

/// What speaks against a subject's checks now and could be accepted.
///
/// # Errors
/// A [`Trouble`] if one of the clusters cannot be read.
pub(crate) async fn of(
    migration: &Migration,
    subject: &Subject,
    context: &Context,
) -> Result<Vec<Item>, Trouble> {
    let plan = &migration.plan;
    let management = context.clients.get(plan, Endpoint::Management).await?;
    let mut items = of_inventory(&stored(&management, &plan.namespace, &plan.cluster).await?)?;
    items.extend(of_image(plan).into_iter().chain(of_members(plan)));
    let role = migration.bench(subject).role;
    items.extend(role.is_control_plane().then(|| of_unproved(plan)));
    if let Subject::Node(node) = subject {
        items.extend((role == Role::FirstControlPlane).then(|| of_first(node)));
        let workload = context.clients.get(plan, Endpoint::Workload).await?;
        let model = objects::model(&workload).await;
        let model = model.map_err(|failure| failure.with("what runs in the cluster"))?;
        let report = model.examine(&[node.as_str()]);
        let findings = report.map(|report| report.findings).unwrap_or_default();
        items.extend(findings.iter().filter_map(of_finding));
        if migration.track(subject).and_then(|track| track.phase.step()) == AT_CANARY {
            let object = get(&Api::all(workload), node.as_str()).await;
            let object = object.map_err(|failure| failure.with(format!("Node {node}")))?;
            items.extend(object.as_ref().map(of_join_canary));
        }
    }
    Ok(items)
}

/// Systems of the plan that its image does not manage, or of which nobody can tell.
pub(crate) fn of_image(plan: &Plan) -> Vec<Item> {
    let unmanaged = [&plan.source, &plan.target].into_iter().filter_map(|system| {
        let what = manages(&plan.image, system.profile()).err()?;
        let identity = format!("image {} for {system}", plan.image);
        Some(Item { check: Check::ImageManagesSystems, identity, what })
    });
    unmanaged.collect()
}

/// Members of etcd that the image takes for that of another control plane (F7).
pub(crate) fn of_members(plan: &Plan) -> Vec<Item> {
    let pairs = plan.control_planes.iter().flat_map(|target| {
        let others = plan.control_planes.iter().filter(|other| other.name != target.name);
        others.map(move |other| (target, other))
    });
    let mistaken =
        pairs.filter(|(target, other)| mistakes(&plan.image, &target.address, &other.address));
    let item = |(target, other): (&ControlPlane, &ControlPlane)| Item {
        check: Check::MembersDistinct,
        identity: format!("image {} for {} and {}", plan.image, target.address, other.address),
        what: format!(
            "the image looks for the member of {} ({}) in a way that finds that of {} ({}), too",
            target.name, target.address, other.name, other.address
        ),
    };
    mistaken.map(item).collect()
}

/// That control planes of a cluster go although nobody knows whether a backup can be restored.
pub(crate) fn of_unproved(plan: &Plan) -> Item {
    let cluster = &plan.cluster;
    Item {
        check: Check::BackupProved,
        identity: format!("backups of {cluster}"),
        what: format!("control planes of {cluster} go although no backup was proved"),
    }
}

/// That the first control plane of a cluster goes.
pub(crate) fn of_first(node: &NodeName) -> Item {
    Item {
        check: Check::FirstControlPlaneApproved,
        identity: format!("first control plane {node}"),
        what: format!("{node}, the first control plane, hands over, is removed and joins again"),
    }
}

/// That a node may go on although its join canary does not serve.
pub(crate) fn of_join_canary(node: &Node) -> Item {
    let ObjectMeta { name, uid, .. } = &node.metadata;
    Item {
        check: Check::JoinCanaryServes,
        identity: format!("join canary of Node {}", uid.as_deref().unwrap_or_default()),
        what: format!("{} goes on without a join canary", name.as_deref().unwrap_or_default()),
    }
}

/// A finding of the preflight, if a person could accept it.
pub(crate) fn of_finding(finding: &Finding) -> Option<Item> {
    let identity = finding.acceptable()?;
    Some(Item { check: finding.check(), identity, what: finding.to_string() })
}

/// That no controller would make this pod anew, as the preflight finds it; `None` if one would.
pub(crate) fn of_bare(pod: &Pod) -> Option<Item> {
    if pods::controller(&pod.metadata).is_some() {
        return None;
    }
    let ObjectMeta { namespace, name, uid, .. } = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (namespace, name, uid) = (text(namespace), text(name), text(uid));
    let about = Object { kind: "Pod".to_owned(), namespace, name, uid };
    of_finding(&Finding { about, what: What::Bare })
}

/// Passwords in plain text in an inventory and its variables, by the names of their variables (F67).
///
/// # Errors
/// A [`Trouble`] if one of the texts is not YAML.
pub(crate) fn of_inventory(stored: &Stored) -> Result<Vec<Item>, Trouble> {
    let mut items = Vec::new();
    for (text, content) in [("inventory", &stored.inventory), ("variables", &stored.vars)] {
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for found in passwords(content).map_err(|fault| Trouble::new(text, fault))? {
            places.entry(found.variable).or_default().push(found.place);
        }
        items.extend(places.into_iter().map(|(variable, places)| Item {
            check: Check::InventoryUnderstood,
            identity: format!("{text} {variable}"),
            what: match places.as_slice() {
                [place] => format!("{text}: a password in plain text at {place}"),
                [first, ..] => {
                    format!("{text}: {} passwords in plain text, as at {first}", places.len())
                }
                [] => unreachable!("a variable was found at a place"),
            },
        }));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(what: What) -> Finding {
        let [kind, namespace, name, uid] = ["Pod", "shop", "db-0", "u-1"].map(str::to_owned);
        Finding { about: Object { kind, namespace, name, uid }, what }
    }

    #[test]
    fn data_in_a_directory_is_known_by_its_path_and_a_pod_by_its_uid() {
        let path = || What::HostPath { path: "/data".into(), only_reads: false };
        let directory = of_finding(&found(path())).unwrap();
        assert_eq!(directory.identity, "hostPath /data of shop");
        assert_eq!(directory.check, Check::DataElsewhere);
        let mut next = found(path());
        next.about.uid = "u-2".to_owned();
        assert!(of_finding(&next).unwrap().is(&directory), "another pod keeps the same data there");

        let bare = of_finding(&found(What::Bare)).unwrap();
        assert_eq!(bare.identity, "Pod u-1 bare");
        let mut next = found(What::Bare);
        next.about.uid = "u-2".to_owned();
        assert!(!of_finding(&next).unwrap().is(&bare), "it is another pod of the same name");
    }

    #[test]
    fn what_blocks_for_good_or_is_only_shown_is_no_item() {
        let shown = What::EmptyDir { volumes: vec!["cache".into()] };
        let blocks = What::ManyBudgets { budgets: Vec::new() };
        for what in [shown, blocks] {
            assert_eq!(of_finding(&found(what)), None);
        }
    }
}
