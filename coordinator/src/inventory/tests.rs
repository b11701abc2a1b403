//! Inventories that are understood, refused and edited.

use super::*;

const PLAIN: &str = "\
all:
  hosts:
    # the only master
    master1:
      ip: 10.0.0.1
      access_ip: 10.0.0.1
      ansible_host: 10.0.0.1
    worker2: {ip: 10.0.0.12, ansible_host: 192.168.0.12}
    worker1:   # rack 7
      ip: 10.0.0.11

      # a note about its address
      ansible_host: 192.168.0.11
  children:
    kube_control_plane:
      hosts:
        master1: null
    kube_node:
      hosts:
        master1: null
        worker2: null
        worker1: null
    etcd:
      hosts:
        master1:
    gpu:
      hosts:
        worker1: {}
    k8s_cluster:
      children:
        kube_control_plane: null
        kube_node: null
        calico_rr: {hosts: {}}
  vars:
    note: \"worker1: is old\"
";

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

#[test]
fn order_groups_and_addresses_are_understood() {
    let inventory = Inventory::parse(PLAIN).unwrap();
    let workers: Vec<&NodeName> = inventory.workers().collect();
    assert_eq!(workers, [&node("worker2"), &node("worker1")], "in the order of kube_node");
    assert_eq!(inventory.control_planes, [node("master1")]);
    let address = |name: &str| inventory.host(&node(name)).unwrap().address().unwrap().to_owned();
    assert_eq!(address("worker1"), "10.0.0.11");
    assert_eq!(address("worker2"), "10.0.0.12");
}

#[test]
fn whatever_could_mean_something_else_is_refused_with_its_place() {
    let edit = |from: &str, to: &str| PLAIN.replacen(from, to, 1);
    let cases = [
        // E4: the seed's own misspelling, twice in its text
        (
            edit("    kube_control_plane:\n      hosts", "    chakube_control_plane:\n      hosts"),
            15,
        ),
        (edit("    kube_node:\n", "    kube-node:\n"), 18),
        (edit("    gpu:\n", "    kube_nodes:\n"), 26),
        (edit("    gpu:\n", "    kube-master:\n"), 26),
        (edit("    worker1:   #", "    worker[1:3]:   #"), 9),
        (edit("    worker1:   #", "    Worker1:   #"), 9),
        (edit("        worker1: null", "        worker9: null"), 22),
        (edit("        worker1: null", "        worker1: {ip: 10.0.0.99}"), 22),
        (edit("        worker1: null", "        worker2: null"), 22),
        (edit("    gpu:\n      hosts", "    gpu:\n      host"), 27),
        (edit("        kube_node: null", "        kube_node: {hosts: {worker1: null}}"), 32),
        (
            edit(
                "      hosts:\n        master1: null\n    kube_node",
                "      hosts:\n    kube_node",
            ),
            0,
        ),
        (edit("    kube_node:\n", "    kube_node:\n      children: {gpu: null}\n"), 19),
        (edit("  hosts:", "\thosts:"), 2),
        // host ranges and patterns, as keys and in place of a mapping
        (edit("    worker1:   #", "    worker[01:20]:   #"), 9),
        (edit("    worker1:   #", "    worker1:worker2:   #"), 9),
        (edit("    worker1:   #", "    \"*\":   #"), 9),
        (edit("    worker1:   #", "    \"!worker2\":   #"), 9),
        (edit("      hosts:\n        worker1: {}", "      hosts: worker[01:20]"), 27),
        (edit("      hosts:\n        worker1: {}", "      hosts: [worker1]"), 27),
        (edit("    gpu:\n      hosts:\n        worker1: {}", "    gpu: worker1"), 26),
        (edit("    worker2: {ip: 10.0.0.12, ansible_host: 192.168.0.12}", "    worker2: x"), 8),
        // names that Ansible takes for a group
        (PLAIN.replace("    gpu:\n", "    worker1:\n"), 26),
        (PLAIN.replace("worker2:", "etcd:"), 23),
        (edit("    worker2:", "    ungrouped:"), 8),
        (format!("{PLAIN}extra: {{}}\n"), 0),
        (String::new(), 0),
    ];
    for (number, (text, line)) in cases.into_iter().enumerate() {
        let fault = Inventory::parse(&text).expect_err(&format!("case {number} was understood"));
        assert_eq!(fault.line, line, "case {number}: {fault}");
    }
}

#[test]
fn a_member_of_etcd_is_called_by_its_position_or_not_at_all() {
    let named = |host: &str, name: &str| {
        let from = format!("    {host}:\n      ip:");
        assert!(THREE.contains(&from));
        THREE.replacen(&from, &format!("    {host}:\n      etcd_member_name: {name}\n      ip:"), 1)
    };
    assert!(Inventory::parse(&named("master2", "etcd1")).is_ok(), "it stands first in etcd");
    assert!(Inventory::parse(&named("worker1", "etcd9")).is_ok(), "it is no member");
    let expression = "\"etcd{{ groups['etcd'].index(inventory_hostname) }}\"";
    for (host, name) in
        [("master1", "etcd1"), ("master2", "etcd2"), ("master3", "db"), ("master2", expression)]
    {
        let fault = Inventory::parse(&named(host, name)).unwrap_err();
        assert_eq!(fault.path, format!("all.hosts.{host}.etcd_member_name"), "{fault}");
        assert!(fault.line > 0 && fault.why.contains("after its position"), "{fault}");
    }
    // The seed's own sequence: pinned in the old order, then reordered to 2, 3, 1.
    let pinned = ["master1", "master2", "master3"].iter().zip(1..).fold(
        THREE.to_owned(),
        |text, (host, number)| {
            let own = format!("    {host}:\n      etcd_member_name: etcd{number}\n");
            text.replacen(&format!("    {host}:\n"), &own, 1)
        },
    );
    assert!(Inventory::parse(&pinned).is_err());
    let order = "        master2:\n        master3:\n        master1:\n";
    let before = pinned.replace(order, "        master1:\n        master2:\n        master3:\n");
    assert!(Inventory::parse(&before).is_ok());
    // Without the first one the others move up.
    let fault = without(&before, &[node("master1")]).unwrap_err();
    assert!(fault.why.contains("etcd_member_name"), "{fault}");
    let shared = format!("{THREE}  vars:\n    etcd_member_name: etcd1\n");
    let fault = Inventory::parse(&shared).unwrap_err();
    assert_eq!(fault.path, "all.vars.etcd_member_name");
    let fault = member_names_in("a: 1\netcd_member_name: etcd1\n").unwrap_err();
    assert_eq!((fault.line, fault.path.as_str()), (2, "etcd_member_name"));
    assert!(member_names_in("a: 1\n").is_ok());
}

/// Three members of etcd, in the order of a reordered inventory.
const THREE: &str = "\
all:
  hosts:
    master1:
      ip: 10.0.0.1
    master2:
      ip: 10.0.0.2
    master3:
      ip: 10.0.0.3
    worker1:
      ip: 10.0.0.11
  children:
    kube_control_plane:
      hosts:
        master2:
        master3:
        master1:
    kube_node:
      hosts:
        worker1:
    etcd:
      hosts:
        master2:
        master3:
        master1:
";

/// Every host takes its variables from one anchor, as generated inventories do.
#[test]
fn five_thousand_hosts_are_understood_and_any_of_them_is_left_out() {
    use std::fmt::Write;
    let mut text = String::from("all:\n  vars:\n    common: &common {ansible_user: root, a: 1}\n");
    let members = |text: &mut String, group: &str, first: usize| {
        writeln!(text, "    {group}:\n      hosts:").unwrap();
        (first..=5_000).for_each(|number| writeln!(text, "        node{number}:").unwrap());
    };
    text.push_str("  hosts:\n");
    for number in 1..=5_000 {
        let ip = format!("10.1.{}.{}", number / 256, number % 256);
        writeln!(text, "    node{number}:\n      <<: *common\n      ip: {ip}").unwrap();
    }
    text.push_str("  children:\n");
    members(&mut text, "kube_node", 1);
    members(&mut text, "kube_control_plane", 4_998);
    members(&mut text, "etcd", 4_998);
    members(&mut text, "rack", 1);
    let inventory = Inventory::parse(&text).unwrap();
    assert_eq!((inventory.hosts.len(), inventory.workers().count()), (5_000, 4_997));
    let left = without(&text, &[node("node2500"), node("node4000")]).unwrap();
    assert_eq!(Inventory::parse(&left).unwrap().workers().count(), 4_995);
    let range = text.replace("    node5000:\n      <<", "    node[5000:5100]:\n      <<");
    assert_eq!(Inventory::parse(&range).unwrap_err().line, 15_002);
}

#[test]
fn hosts_that_are_out_are_left_out_and_every_other_byte_stays() {
    let cut = "        master1: null\n        worker2: null\n";
    let meant = PLAIN
        .replace(
            "    worker1:   # rack 7\n      ip: 10.0.0.11\n\n      \
             # a note about its address\n      ansible_host: 192.168.0.11\n",
            "",
        )
        .replace(&format!("{cut}        worker1: null\n"), cut)
        .replace("        worker1: {}\n", "");
    assert_eq!(without(PLAIN, &[node("worker1")]).unwrap(), meant);
    let crlf = |text: &str| text.replace('\n', "\r\n");
    assert_eq!(without(&crlf(PLAIN), &[node("worker1")]).unwrap(), crlf(&meant));
    assert_eq!(without(PLAIN, &[]).unwrap(), PLAIN);
    let both = without(PLAIN, &[node("worker1"), node("worker2")]).unwrap();
    assert_eq!(Inventory::parse(&both).unwrap().nodes, [node("master1")]);
    assert!(both.contains("# the only master") && both.contains("worker1: is old"));
}

#[test]
fn a_host_of_a_similar_name_stays() {
    let text = PLAIN.replace("worker2", "worker1.b").replace("master1", "worker1-a");
    let left = Inventory::parse(&without(&text, &[node("worker1")]).unwrap()).unwrap();
    assert_eq!(left.nodes, [node("worker1-a"), node("worker1.b")]);
}

#[test]
fn what_cannot_be_left_out_line_by_line_is_refused() {
    let flow = PLAIN.replace(
        "        master1: null\n        worker2: null\n        worker1: null\n",
        "        {master1: null, worker2: null, worker1: null}\n",
    );
    let fault = without(&flow, &[node("worker1")]).unwrap_err();
    assert_eq!(fault.line, 20, "{fault}");
    // worker1 stands first and holds an anchor that worker3 takes its variables from
    let anchored = PLAIN.replace("worker1:   # rack 7", "worker1: &rack").replace(
        "  children:\n    kube_control",
        "    worker3: *rack\n  children:\n    kube_control",
    );
    let fault = without(&anchored, &[node("worker1")]).unwrap_err();
    assert!(fault.why.contains("anchor"), "{fault}");
    // worker3 would silently take the variables of another host of the same anchor
    let twice = anchored.replace("worker2: {ip", "worker2: &rack {ip");
    let fault = without(&twice, &[node("worker1")]).unwrap_err();
    assert!(fault.why.contains("other things than the hosts would change"), "{fault}");
    // nobody is left in a group that must have hosts
    assert!(without(PLAIN, &[node("master1")]).is_err());
}

#[test]
fn hosts_merged_from_an_anchor_go_with_it() {
    let merged = PLAIN
        .replace("    kube_node:\n      hosts:\n", "    kube_node:\n      hosts: &nodes\n")
        .replace(
            "    gpu:\n      hosts:\n        worker1: {}\n",
            "    gpu:\n      hosts:\n        <<: *nodes\n",
        );
    let edited = without(&merged, &[node("worker1")]).unwrap();
    assert!(merged.matches("worker1: null").count() == 1 && !edited.contains("worker1: null"));
    assert_eq!(Inventory::parse(&edited).unwrap().nodes, [node("master1"), node("worker2")]);
}

#[test]
fn words_are_as_far_apart_as_they_look() {
    for (a, b, far) in [("etcd", "etcd", 0), ("kube_nodes", "kube_node", 1), ("abc", "", 3)] {
        assert_eq!(distance(a, b), far, "{a} {b}");
    }
}

#[test]
fn names_that_are_no_text_for_ansible_are_refused() {
    let renamed = |name: &str| Inventory::parse(&PLAIN.replace("worker2", name));
    for name in ["null", "yes", "off", "12", "007", "1.5", "0x1f", "0b1", "2026-01-31"] {
        let why = renamed(name).unwrap_err();
        assert!(why.line == 8 && why.why.contains("as a number"), "{name}: {why}");
    }
    for name in ["1.2.3", "on1", "0y", "2026-01-31-a", "1-2", "12a"] {
        assert!(renamed(name).is_ok(), "{name}");
    }
}
