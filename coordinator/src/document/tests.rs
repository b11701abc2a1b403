//! Documents that are understood and refused.

use super::{understand::control_planes, *};
use rehull_shared::time::{Span, Timestamp};

use crate::{
    domain::plan::{self, Role},
    inventory::Inventory,
};

const DOCUMENT: &str = "\
apiVersion: rehull.dev/v1alpha1
kind: Migration
metadata: {name: prod}
spec:
  cluster: prod
  management: {kubeconfig: /etc/rehull/management.yaml, context: admin}
  workload:
    apiServers: [10.0.0.1:6443]
  source: centos-7.9
  target: ubuntu-22.04
  operations:
    image: ghcr.io/kubean-io/spray-job:v0.12.2
    kubernetesVersion: v1.27.5
    repos: [\"http://minio:9000/kubean/ubuntu jammy main\"]
  nodes: {exclude: [worker3], canary: worker2}
  controlPlanes: Exclude
  installer:
    command: {program: /opt/site/reinstall, args: [--fast]}
  policy: {soak: 15m}
";

const INVENTORY: &str = "\
all:
  hosts:
    master1: {ip: 10.0.0.1}
    worker1: {ansible_host: 10.0.0.11}
    worker2: {ip: 10.0.0.12, ansible_host: 192.168.0.12}
    worker3: {ip: 10.0.0.13}
  children:
    kube_control_plane: {hosts: {master1: }}
    kube_node: {hosts: {master1: , worker1: , worker2: , worker3: }}
    etcd: {hosts: {master1: }}
";

fn window(cron: &str, time_zone: &str) -> Window {
    let (cron, time_zone) = (cron.to_owned(), time_zone.to_owned());
    Window { cron, duration: Span::from_mins(360), time_zone }
}

fn inventory() -> Inventory {
    Inventory::parse(INVENTORY).unwrap()
}

fn planned(nodes: &str) -> Result<Vec<(String, String, bool)>, String> {
    let nodes: Nodes = serde_saphyr::from_str(nodes).unwrap();
    let planned = nodes::selected(&nodes, ControlPlanes::Exclude, &inventory())
        .map_err(|fault| fault.to_string())?;
    Ok(planned.into_iter().map(|n| (n.name.to_string(), n.address, n.canary)).collect())
}

/// An inventory of three control planes and one worker, in which etcd has these members.
fn stacked(planes: &str, etcd: &str) -> Inventory {
    let text = format!(
        "all:\n  hosts: {{m1: {{ip: 10.0.0.1}}, m2: {{ip: 10.0.0.2}}, m3: {{ip: 10.0.0.3}}, \
         m4: {{ip: 10.0.0.4}}, w1: {{ip: 10.0.0.11}}}}\n  children:\n    kube_control_plane: {{hosts: \
         {{{planes}}}}}\n    kube_node: {{hosts: {{m1: , w1: }}}}\n    etcd: {{hosts: {{{etcd}}}}}\n"
    );
    Inventory::parse(&text).unwrap()
}

#[test]
fn control_planes_come_behind_the_workers_and_the_first_of_the_inventory_last() {
    let three = "m2: , m1: , m3: ";
    let of = |planes: &str, etcd: &str| {
        nodes::selected(&Nodes::default(), ControlPlanes::Include, &stacked(planes, etcd))
            .map_err(|fault| fault.to_string())
    };
    let planned = of(three, three).unwrap();
    let planned: Vec<_> =
        planned.iter().map(|node| (node.name.as_str(), node.role, node.canary)).collect();
    let expected = [
        ("w1", Role::Worker, true),
        ("m1", Role::ControlPlane, false),
        ("m3", Role::ControlPlane, false),
        ("m2", Role::FirstControlPlane, false),
    ];
    assert_eq!(planned, expected);
    for (planes, etcd, words) in [
        (three, "m2: , m1: , m3: , w1: ", "w1 is a member of etcd and no control plane"),
        (three, "m2: , m1: ", "m3 is a control plane without a member of etcd"),
        ("m1: ", "m1: ", "there are 1: with less than three"),
        ("m1: , m2: , m3: , m4: ", "m1: , m2: , m3: , m4: ", "there are 4: "),
        (three, "m1: , m2: , m3: ", "m2 is the first of kube_control_plane, and m1 of etcd"),
    ] {
        let fault = of(planes, etcd).unwrap_err();
        assert!(fault.starts_with("spec.controlPlanes: ") && fault.contains(words), "{fault}");
    }
}

#[test]
fn each_control_plane_has_the_api_server_of_its_own_address() {
    let inventory = stacked("m1: , m2: , m3: ", "m1: , m2: , m3: ");
    let of = |servers: &[&str]| {
        let servers: Vec<String> = servers.iter().map(|&at| at.to_owned()).collect();
        control_planes(&servers, &inventory).map_err(|fault| fault.to_string())
    };
    let planes = of(&["10.0.0.3:6443", "10.0.0.1:7443", "10.0.0.2:6443"]).unwrap();
    let planes: Vec<_> = planes.iter().map(|one| one.api_server.as_str()).collect();
    assert_eq!(planes, ["10.0.0.1:7443", "10.0.0.2:6443", "10.0.0.3:6443"]);
    let other = of(&["10.0.0.1:6443", "10.0.0.2:6443", "lb.example:6443"]).unwrap_err();
    assert!(other.contains("m3 must be in it by its address, 10.0.0.3"), "{other}");
    let more = of(&["10.0.0.1:6443", "10.0.0.2:6443", "10.0.0.3:6443", "lb:6443"]).unwrap_err();
    assert!(more.contains("and no other"), "{more}");
}

#[test]
fn a_document_becomes_a_plan() {
    let migration = parse(DOCUMENT).unwrap();
    let plan = understand::draft(&migration.spec).unwrap();
    assert_eq!(plan.namespace, "kubean-system");
    assert_eq!(plan.kube_version_arg, "v1.27.5");
    let line = "deb [trusted=yes] http://minio:9000/kubean/ubuntu jammy main";
    assert_eq!(plan.repos, [line]);
    let program = "/opt/site/reinstall".to_owned();
    let args = vec!["--fast".to_owned()];
    assert_eq!(plan.installer, plan::Installer::Command { program, args });
    assert_eq!(plan.policy.soak.as_secs(), 900);
    assert_eq!(plan.policy.canary_soak, Policy::default().canary_soak);
    assert_eq!(plan.calendar, Default::default());
}

#[test]
fn windows_and_freezes_are_part_of_the_plan() {
    let text = format!(
        "{DOCUMENT}  windows: [{{cron: \"0 22 * * MON-FRI\", duration: 6h, \
         timeZone: Europe/Berlin}}]\n  freezes:\n  - {{from: \"2026-12-20T00:00:00Z\", \
         to: \"2027-01-07T00:00:00+01:00\", why: end of the year}}\n"
    );
    let calendar = understand::draft(&parse(&text).unwrap().spec).unwrap().calendar;
    assert_eq!(calendar.windows, [window("0 22 * * MON-FRI", "Europe/Berlin")]);
    assert_eq!(calendar.freezes[0].to.to_string(), "2027-01-06T23:00:00.000Z");
}

#[test]
fn a_fault_of_a_document_names_place_and_field() {
    let edit = |from: &str, to: &str| {
        assert!(DOCUMENT.contains(from), "{from}");
        DOCUMENT.replacen(from, to, 1)
    };
    let cases = [
        (edit("  source:", "  sauce: x\n  source:"), "line 9, column 3: spec.sauce: "),
        (edit("canary: worker2", "canari: x"), "line 15, column 31: spec.nodes.canari: "),
        (edit("soak: 15m", "soak: soon"), "line 19, column 18: spec.policy.soak: "),
        (edit("centos-7.9", "centos-6"), "line 9, column 11: spec.source: no OS profile"),
        (edit("Exclude", "Some"), "line 16, column 18: spec.controlPlanes: "),
        (edit("  cluster: prod\n", ""), "line 18, column 3: spec: missing field `cluster`"),
        (edit("cluster: prod", "cluster: Prod"), "line 5, column 12: spec.cluster: "),
        (edit("worker3]", "\"worker[1:3]\"]"), "line 15, column 21: spec.nodes.exclude: "),
        (edit("command: {program: /opt/site/reinstall, args: [--fast]}", "magic: {}"), "line 18"),
        (edit("kind: Migration", "kind: Immigration"), "kind: must be Migration"),
        (edit("v1alpha1", "v1"), "apiVersion: must be rehull.dev/v1alpha1"),
        (edit("metadata: {name: prod}", "metadata: {}"), "metadata.name: is missing"),
        (format!("{DOCUMENT}stat: {{}}\n"), "line 20, column 1: stat: "),
        (format!("{DOCUMENT}kind: Migration\n"), "line 20, column 1: the key \"kind\" is given"),
    ];
    let said = |text: &str| parse(text).expect_err("a fault").to_string();
    let other: Vec<(String, &str)> = (cases.iter())
        .map(|(text, words)| (said(text), *words))
        .filter(|(fault, words)| !fault.starts_with(words) || fault.lines().count() != 1)
        .collect();
    assert!(other.is_empty(), "faults, and what they should begin with: {other:#?}");
}

#[test]
fn what_cannot_be_carried_out_is_refused_by_its_path() {
    type Change = fn(&mut MigrationSpec);
    let cases: [(Change, &str); 15] = [
        (|spec| spec.windows.push(window("0 22 * *", "UTC")), "spec.windows[0].cron"),
        (|spec| spec.windows.push(window("0 22 * * *", "Mars")), "spec.windows[0].timeZone"),
        (
            |spec| {
                let (from, to) = (Timestamp::from_millis(2_000), Timestamp::from_millis(1_000));
                spec.freezes.push(Freeze { from, to, why: String::new() });
            },
            "spec.freezes[0].to",
        ),
        (|spec| spec.target = spec.source.clone(), "spec.target"),
        (|spec| spec.namespace.clear(), "spec.namespace"),
        (|spec| spec.unsafe_because = Some(" ".into()), "spec.unsafe"),
        (|spec| spec.management.kubeconfig = Some("m.yaml".into()), "spec.management.kubeconfig"),
        (|spec| spec.workload.kubeconfig = Some("~/w".into()), "spec.workload.kubeconfig"),
        (|spec| spec.operations.image = "reg:5000/spray-job".into(), "spec.operations.image"),
        (|spec| spec.operations.image = "spray-job:latest".into(), "spec.operations.image"),
        (|spec| spec.operations.image = "spray-job@sha256:12".into(), "spec.operations.image"),
        (
            |spec| spec.operations.kubernetes_version = "1.27.5".into(),
            "spec.operations.kubernetesVersion",
        ),
        (
            |spec| spec.operations.kube_version_arg = Some("v1.28.5".into()),
            "spec.operations.kubeVersionArg",
        ),
        (|spec| spec.operations.repos = vec!["deb x".into()], "spec.operations.repos[0]"),
        (
            |spec| {
                let program = "reinstall".to_owned();
                spec.installer = Installer::Command { program, args: Vec::new() };
            },
            "spec.installer.command.program",
        ),
    ];
    for (change, path) in cases {
        let mut spec = parse(DOCUMENT).unwrap().spec;
        change(&mut spec);
        assert_eq!(understand::draft(&spec).expect_err(path).path, path);
    }
    let mut spec = parse(DOCUMENT).unwrap().spec;
    spec.operations.image = format!("reg:5000/spray-job@sha256:{}", "ab".repeat(32));
    spec.operations.kube_version_arg = Some("1.27.5".into());
    assert_eq!(understand::draft(&spec).unwrap().kube_version_arg, "1.27.5");
}

#[test]
fn workers_go_in_the_order_of_the_inventory_but_for_the_canary() {
    let w = |name: &str, ip: &str, canary| (name.to_owned(), ip.to_owned(), canary);
    let w1 = |canary| w("worker1", "10.0.0.11", canary);
    let w2 = |canary| w("worker2", "10.0.0.12", canary);
    let w3 = |canary| w("worker3", "10.0.0.13", canary);
    assert_eq!(planned("{}").unwrap(), [w1(true), w2(false), w3(false)]);
    assert_eq!(planned("{canary: worker2}").unwrap(), [w2(true), w1(false), w3(false)]);
    assert_eq!(planned("{order: [worker3]}").unwrap(), [w3(true), w1(false), w2(false)]);
    assert_eq!(planned("{include: [worker3, worker1]}").unwrap(), [w1(true), w3(false)]);
    assert_eq!(planned("{exclude: [worker1]}").unwrap(), [w2(true), w3(false)]);
}

#[test]
fn nodes_that_are_no_workers_are_refused() {
    for (nodes, words) in [
        ("{include: [worker9]}", "spec.nodes.include: worker9 is not a host"),
        ("{include: [master1]}", "spec.nodes.include: master1 is a control plane"),
        ("{include: [worker1, worker1]}", "spec.nodes.include: worker1 is given twice"),
        ("{include: [worker1], exclude: [worker2]}", "spec.nodes: give include or exclude"),
        ("{include: [worker1], canary: worker2}", "spec.nodes.canary: worker2 is not selected"),
        ("{exclude: [worker1], order: [worker1]}", "spec.nodes.order: worker1 is not selected"),
        ("{exclude: [worker1, worker2, worker3]}", "spec.nodes: selects no worker"),
    ] {
        let fault = planned(nodes).expect_err(words);
        assert!(fault.starts_with(words), "{fault:?} does not begin with {words:?}");
    }
}

#[test]
fn no_api_server_is_left_out() {
    let servers = |given: &[&str]| {
        let given: Vec<String> = given.iter().map(|address| (*address).to_owned()).collect();
        understand::api_servers(&given, &inventory())
    };
    assert_eq!(servers(&[]).unwrap(), ["10.0.0.1:6443"]);
    assert_eq!(servers(&["cp.example:7443"]).unwrap(), ["cp.example:7443"]);
    for bad in ["10.0.0.1", ":6443", "https://10.0.0.1:6443", "10.0.0.1:x"] {
        assert!(servers(&[bad]).is_err(), "{bad}");
    }
    let three = INVENTORY.replace(
        "kube_control_plane: {hosts: {master1: }}",
        "kube_control_plane: {hosts: {master1: , worker3: }}",
    );
    let three = Inventory::parse(&three).unwrap();
    let fault = understand::api_servers(&["10.0.0.1:6443".into()], &three).unwrap_err();
    assert!(fault.why.starts_with("names 1 of 2 API servers"), "{fault}");
}

#[test]
fn the_definition_in_the_repository_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds/rehull.dev_migrations.yaml");
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let made = crd_yaml();
    if found != made {
        let fresh = std::env::temp_dir().join("rehull.dev_migrations.yaml");
        std::fs::write(&fresh, made).unwrap();
        panic!("{path} is not what the types say: copy {} there", fresh.display());
    }
}

/// A management cluster in memory that holds this Cluster.
fn management(inventory: &str, namespace: &str) -> crate::clients::Clients {
    use serde_json::json;
    let clock = std::sync::Arc::new(rehull_shared::time::Timestamp::default);
    let api = crate::rehearsal::api::Api::new("documents", clock);
    let reference = |name: &str| json!({"namespace": namespace, "name": name});
    api.store().put(json!({"apiVersion": "kubean.io/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "prod"},
        "spec": {"hostsConfRef": reference("hosts"), "varsConfRef": reference("vars")}}));
    for (name, key, text) in [("hosts", "hosts.yml", inventory), ("vars", "group_vars.yml", "")] {
        api.store().put(json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace}, "data": {key: text}}));
    }
    crate::clients::Clients::new(std::sync::Arc::new(move |_, _| {
        let api = api.clone();
        Box::pin(async move { Ok(api.client()) })
    }))
}

#[tokio::test]
async fn a_document_is_compared_with_its_cluster() {
    let migration = parse(DOCUMENT).unwrap();
    let clients = management(INVENTORY, "kubean-system");
    let (plan, nodes) = understand(&migration, &clients).await.unwrap();
    assert_eq!(plan.api_servers, ["10.0.0.1:6443"]);
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["worker2", "worker1"], "the canary first, worker3 excluded");

    let fault = async |migration: &Migration, clients| {
        understand(migration, &clients).await.expect_err("a fault").to_string()
    };
    let mut other = migration.clone();
    other.spec.cluster = "test".parse().unwrap();
    let words = fault(&other, management(INVENTORY, "kubean-system")).await;
    assert_eq!(
        words,
        "spec.cluster: Cluster test of the management cluster: there is none of this name"
    );
    let words = fault(&migration, management(INVENTORY, "elsewhere")).await;
    assert!(words.contains("not in kubean-system"), "{words}");
    let text = INVENTORY.replace("kube_node:", "kube-node:");
    let words = fault(&migration, management(&text, "kubean-system")).await;
    assert_eq!(
        words,
        "spec.cluster: hosts.yml of ConfigMap kubean-system/hosts: line 9, column 5: \
         all.children.kube-node: is the group kube_node meant? rename it to go on"
    );
    let text = INVENTORY.replace("{ansible_host: 10.0.0.11}", "{ansible_host: worker1.example}");
    let words = fault(&migration, management(&text, "kubean-system")).await;
    assert!(words.starts_with("spec.nodes: worker1 needs its IP address"), "{words}");
}
