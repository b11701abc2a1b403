//! Somebody's clusters, read by `rehull rehearse` with kubeconfigs of this machine: nothing is
//! changed, and nothing secret is kept or told.

use serde_json::{Value, json};

use crate::{
    files, scan,
    served::{House, SECRETS},
};

fn node(name: &str, address: &str) -> Value {
    let room = json!({ "cpu": "8", "memory": "32Gi", "pods": "110" });
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name, "tier": "gold" } },
        "spec": {},
        "status": {
            "capacity": room, "allocatable": room,
            "nodeInfo": { "osImage": "CentOS Linux 7 (Core)", "kubeletVersion": "v1.27.5",
                "kernelVersion": "", "kubeProxyVersion": "", "containerRuntimeVersion": "",
                "operatingSystem": "linux", "architecture": "amd64", "machineID": "m",
                "bootID": "b", "systemUUID": "s" },
            "addresses": [{ "type": "InternalIP", "address": address }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_copied_is_not_changed_and_its_secrets_are_not_told() {
    let house = House::new().await;
    for (name, address) in [("master1", "10.0.0.1"), ("worker1", "10.0.0.11")] {
        house.workload.store().put(node(name, address));
    }
    let document = house.document();
    let (document, _) = document.split_once("  policy:").unwrap();
    house.write("production.yaml", document);
    let (file, kept) = (house.path("production.yaml"), house.path("kept"));
    let (file, kept_dir) = (file.to_str().unwrap(), kept.to_str().unwrap());
    let faults = ["--fault", "operator-down", "--fault", "wrong-os@worker1"];
    let rehearse = [&["rehearse", "-f", file][..], &faults].concat();
    let typed = [&rehearse[..], &["-o", "json", "--keep", kept_dir]].concat();
    let output = house.rehull(&typed).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}{told}");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["finished"], true, "{said}");
    assert_eq!(report["nodes"][0]["state"], "done", "{said}");
    assert_eq!(report["faults"][1]["caught"]["gate"], "G7 Os", "{said}");
    // Jobs are in the management cluster, whose kubeconfig is named.
    let resolved = report["faults"][0]["caught"]["resolved"].as_str().unwrap();
    let typed =
        format!("kubectl --kubeconfig {} -n kubean", house.path("management.yaml").display());
    assert!(resolved.contains(&typed), "{resolved}");
    // The passwords that the inventory has in plain text hold the cluster, until they are accepted.
    let first = &report["held"][0];
    assert_eq!(
        (&first["gate"], &first["node"]),
        (&json!("ClusterPreflight"), &json!("")),
        "{said}"
    );
    assert!(first["resolved"].as_str().unwrap().starts_with("rehull migrate approve prod --item"));

    for api in [&house.management, &house.workload] {
        let calls = api.calls();
        assert!(calls.iter().all(|call| call.starts_with("GET ")), "{calls:?}");
        assert!(!calls.iter().any(|call| call.contains("secrets")), "{calls:?}");
    }
    scan("what is printed", &[&output.stdout[..], &output.stderr].concat(), &SECRETS);
    let kept = files(&kept, &[]);
    assert!(kept.iter().any(|(name, _)| name.contains("/blobs/")), "nodes were recorded");
    for (name, content) in kept {
        scan(&name, &content, &SECRETS);
    }

    // A node that the plan does not have, and a document that says nonsense.
    let wrong = ["rehearse", "-f", file, "--fault", "wrong-os@worker9"];
    let output = house.rehull(&wrong).output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("wrong-os@worker9: the plan has no such node; it has worker1"), "{told}");
    house.write("production.yaml", &document.replace("cluster: prod", "cluster: test"));
    let output = house.rehull(&rehearse).output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("production.yaml: line 5"), "{told}");
    assert!(told.contains("Cluster test of the management cluster: there is none"), "{told}");
}
