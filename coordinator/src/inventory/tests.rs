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
        (format!("{PLAIN}extra: {{}}\n"), 0),
        (String::new(), 0),
    ];
    for (number, (text, line)) in cases.into_iter().enumerate() {
        let fault = Inventory::parse(&text).expect_err(&format!("case {number} was understood"));
        assert_eq!(fault.line, line, "case {number}: {fault}");
    }
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
fn hosts_merged_from_an_anchor_are_not_taken_out_by_accident() {
    let merged = PLAIN
        .replace("    kube_node:\n      hosts:\n", "    kube_node:\n      hosts: &nodes\n")
        .replace(
            "    gpu:\n      hosts:\n        worker1: {}\n",
            "    gpu:\n      hosts:\n        <<: *nodes\n",
        );
    let fault = without(&merged, &[node("worker1")]).unwrap_err();
    assert!(fault.line > 0, "{fault}");
}

#[test]
fn words_are_as_far_apart_as_they_look() {
    for (a, b, far) in [("etcd", "etcd", 0), ("kube_nodes", "kube_node", 1), ("abc", "", 3)] {
        assert_eq!(distance(a, b), far, "{a} {b}");
    }
}
