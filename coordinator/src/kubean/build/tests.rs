//! Snapshots against the corrected templates of the runbook.

use rehull_shared::ids::Attempt;

use super::*;
use crate::{
    domain::{
        operation,
        plan::{Access, Installer},
        policy::Policy,
        state::Inputs,
    },
    kubean::annotation,
};

fn plan() -> Plan {
    let access = Access { kubeconfig: None, context: None };
    Plan {
        cluster: "centos".parse().unwrap(),
        management: access.clone(),
        workload: access,
        namespace: "kubean-system".into(),
        api_servers: vec!["10.0.0.1:6443".into()],
        source: "centos-7.9".to_owned().try_into().unwrap(),
        target: "ubuntu-22.04".to_owned().try_into().unwrap(),
        image: "ghcr.io/kubean-io/spray-job:v0.12.2".into(),
        kubernetes_version: "v1.27.5".into(),
        kube_version_arg: "v1.27.5".into(),
        facts_hook: false,
        repos: vec![
            "deb [trusted=yes] http://MINIO_ADDR:9000/kubean/ubuntu jammy main".into(),
            "deb [trusted=yes] http://MINIO_ADDR:9000/kubean/ubuntu-iso jammy main restricted"
                .into(),
        ],
        installer: Installer::Manual,
        policy: Policy::default(),
        unsafe_because: None,
        control_planes_excluded: true,
        calendar: Default::default(),
        protection: None,
        join_canary: None,
        control_planes: Vec::new(),
        endpoint: None,
    }
}

fn made(plan: &Plan, kind: Kind, node: &str) -> ClusterOperation {
    made_for(plan, kind, (node, Role::Worker))
}

fn made_for(plan: &Plan, kind: Kind, (node, role): (&str, Role)) -> ClusterOperation {
    let node: NodeName = node.parse().unwrap();
    let attempt = Attempt(1);
    let name = operation::name(&plan.cluster, kind, &node, attempt);
    let inputs = Inputs {
        inventory: format!("{name}-hosts"),
        inventory_sha256: String::new(),
        vars: format!("{name}-vars"),
        vars_sha256: String::new(),
        ssh_secret: None,
        left_out: Vec::new(),
    };
    let intent = OperationIntent { name, kind, attempt, inputs };
    let whose =
        Identity { migration: uuid::Uuid::from_u128(7), epoch: Epoch(3), node: &node, role };
    expected(plan, &intent, whose).unwrap()
}

/// Compares spec and labels with the runbook's corrected template.
#[track_caller]
fn assert_is(operation: &ClusterOperation, template: &str) {
    let template: serde_json::Value = serde_saphyr::from_str(template).unwrap();
    let found = serde_json::to_value(operation).unwrap();
    for part in ["/apiVersion", "/kind", "/metadata/name", "/metadata/labels", "/spec"] {
        assert_eq!(found.pointer(part), template.pointer(part), "{part}");
    }
}

#[test]
fn a_removal_is_the_corrected_runbooks() {
    let operation = made(&plan(), Kind::Remove, "worker1");
    assert_is(
        &operation,
        r"
apiVersion: kubean.io/v1alpha1
kind: ClusterOperation
metadata: {name: centos-rm-worker1-a1, labels: {clusterName: centos}}
spec:
  cluster: centos
  image: ghcr.io/kubean-io/spray-job:v0.12.2
  actionType: playbook
  action: remove-node.yml
  extraArgs: -e node=worker1
  hostsConfRef: {namespace: kubean-system, name: centos-rm-worker1-a1-hosts}
  varsConfRef: {namespace: kubean-system, name: centos-rm-worker1-a1-vars}
  activeDeadlineSeconds: 7200
  preHook:
    - actionType: playbook
      action: disable-firewalld.yml
      extraArgs: --limit=worker1
  postHook:
    - actionType: playbook
      action: cluster-info.yml
",
    );
    let marks = operation.metadata.annotations.unwrap();
    let hash = spec_hash(&operation.spec);
    let expected = [
        (annotation::ATTEMPT, "1"),
        (annotation::EPOCH, "3"),
        (annotation::MIGRATION, "00000000-0000-0000-0000-000000000007"),
        (annotation::NODE, "worker1"),
        (annotation::SPEC_HASH, &hash),
        ("kubean.io/eliminate-score", "-1000"),
        (annotation::TRACEPARENT, "00-00000000000000000000000000000007-0a202d52e0c8f545-01"),
    ];
    let marks: BTreeMap<&str, &str> =
        marks.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(marks, BTreeMap::from(expected), "and above all no {}", crate::kubean::ACTOR);
}

#[test]
fn a_join_is_the_corrected_runbooks() {
    assert_is(
        &made(&plan(), Kind::Join, "worker1"),
        r#"
apiVersion: kubean.io/v1alpha1
kind: ClusterOperation
metadata: {name: centos-add-worker1-a1, labels: {clusterName: centos}}
spec:
  cluster: centos
  image: ghcr.io/kubean-io/spray-job:v0.12.2
  actionType: playbook
  action: scale.yml
  extraArgs: --limit=worker1 -e kube_version=v1.27.5
  hostsConfRef: {namespace: kubean-system, name: centos-add-worker1-a1-hosts}
  varsConfRef: {namespace: kubean-system, name: centos-add-worker1-a1-vars}
  activeDeadlineSeconds: 7200
  preHook:
    - actionType: playbook
      action: ping.yml
    - actionType: playbook
      action: enable-repo.yml
      extraArgs: >-
        --limit=worker1
        -e "{repo_list: ['deb [trusted=yes] http://MINIO_ADDR:9000/kubean/ubuntu jammy
        main','deb [trusted=yes] http://MINIO_ADDR:9000/kubean/ubuntu-iso jammy main
        restricted']}"
    - actionType: playbook
      action: disable-firewalld.yml
      extraArgs: --limit=worker1
"#,
    );
}

#[test]
fn a_join_of_a_control_plane_is_the_corrected_runbooks() {
    let plan = Plan { repos: Vec::new(), ..plan() };
    assert_is(
        &made_for(&plan, Kind::Join, ("master2", Role::ControlPlane)),
        r#"
apiVersion: kubean.io/v1alpha1
kind: ClusterOperation
metadata: {name: centos-add-master2-a1, labels: {clusterName: centos}}
spec:
  cluster: centos
  image: ghcr.io/kubean-io/spray-job:v0.12.2
  actionType: playbook
  action: cluster.yml
  extraArgs: >-
    --limit=etcd,kube_control_plane -e ignore_assert_errors=yes -e kube_version=v1.27.5
    --skip-tags=multus
  hostsConfRef: {namespace: kubean-system, name: centos-add-master2-a1-hosts}
  varsConfRef: {namespace: kubean-system, name: centos-add-master2-a1-vars}
  activeDeadlineSeconds: 7200
  preHook:
    - actionType: playbook
      action: ping.yml
    - actionType: playbook
      action: disable-firewalld.yml
      extraArgs: --limit=master2
  postHook:
    - actionType: playbook
      action: upgrade-cluster.yml
      extraArgs: >-
        --limit=etcd,kube_control_plane -e ignore_assert_errors=yes -e kube_version=v1.27.5
        -e "{drain_nodes: false}"
    - actionType: playbook
      action: cluster-info.yml
"#,
    );
    let (removal, of_worker) = (
        made_for(&plan, Kind::Remove, ("master2", Role::ControlPlane)).spec,
        made(&plan, Kind::Remove, "master2").spec,
    );
    assert_eq!(removal, of_worker, "no hook kills API servers, on whatever hosts (E6)");
}

#[test]
fn the_hand_over_asks_another_control_plane_and_applies_the_order() {
    let first = ("master1", Role::FirstControlPlane);
    let renewal = made_for(&plan(), Kind::Kubeconfig, first);
    assert_eq!(renewal.metadata.name.as_deref(), Some("centos-conf-master1-a1"));
    let ClusterOperationSpec { action, extra_args, pre_hook, post_hook, .. } = renewal.spec;
    assert_eq!((action.as_str(), extra_args), ("kubeconfig.yml", None));
    assert!(pre_hook.is_empty() && post_hook.is_empty());
    let order = made_for(&plan(), Kind::Reorder, first);
    assert_eq!(order.metadata.name.as_deref(), Some("centos-order-master1-a1"));
    let join = made_for(&plan(), Kind::Join, first).spec;
    let ClusterOperationSpec { action, extra_args, post_hook, .. } = order.spec;
    let upgrade = join.post_hook.into_iter().next().unwrap();
    let one_by_one = upgrade.extra_args.map(|args| format!("{args} --forks=1"));
    assert_eq!(
        (action, extra_args),
        (upgrade.action, one_by_one),
        "neither etcd nor API servers may restart all at once"
    );
    let hooks: Vec<&str> = post_hook.iter().map(|hook| hook.action.as_str()).collect();
    assert_eq!(hooks, ["cluster-info.yml"], "it is an upgrade itself");
}

#[test]
fn a_host_with_its_old_system_joins_without_the_repositories_of_the_target() {
    let (join, back) =
        (made(&plan(), Kind::Join, "worker1"), made(&plan(), Kind::Rejoin, "worker1"));
    assert_eq!(back.metadata.name.as_deref(), Some("centos-back-worker1-a1"));
    assert_eq!(
        (&back.spec.action, &back.spec.extra_args),
        (&join.spec.action, &join.spec.extra_args)
    );
    let hooks: Vec<&str> = back.spec.pre_hook.iter().map(|hook| hook.action.as_str()).collect();
    assert_eq!(hooks, ["ping.yml", "disable-firewalld.yml"]);
}

#[test]
fn newer_kubespray_gathers_facts_of_all_hosts_and_sites_with_own_repositories_set_none() {
    let plan = Plan { facts_hook: true, repos: Vec::new(), ..plan() };
    let operation = made(&plan, Kind::Join, "worker1");
    let hooks: Vec<(&str, Option<&str>)> = (operation.spec.pre_hook.iter())
        .map(|hook| (hook.action.as_str(), hook.extra_args.as_deref()))
        .collect();
    let limit = Some("--limit=worker1");
    let meant = [("ping.yml", None), ("facts.yml", None), ("disable-firewalld.yml", limit)];
    assert_eq!(hooks, meant);
}

#[test]
fn a_plan_with_a_version_that_is_no_version_makes_no_operation() {
    let mut plan = plan();
    plan.kube_version_arg = "v1.27.5 -e node=all".into();
    let node: NodeName = "worker1".parse().unwrap();
    let operation = made(&self::plan(), Kind::Remove, "worker1");
    let inputs = Inputs {
        inventory: "h".into(),
        inventory_sha256: String::new(),
        vars: "v".into(),
        vars_sha256: String::new(),
        ssh_secret: None,
        left_out: Vec::new(),
    };
    let name = operation.metadata.name.unwrap();
    let intent = OperationIntent { name, kind: Kind::Join, attempt: Attempt(1), inputs };
    let whose =
        Identity { migration: uuid::Uuid::nil(), epoch: Epoch(1), node: &node, role: Role::Worker };
    assert!(expected(&plan, &intent, whose).is_err());
}
