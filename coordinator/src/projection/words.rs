//! Words for every gate and every check: what it states, and what to do when it does not hold.

use rehull_shared::evidence::Check;

use crate::domain::gate::Gate;

mod host;
mod node;

/// One row: a statement, what helps when it is false, and its numbers in the failure catalogue.
///
/// In remedies `{node}`, `{address}`, `{cluster}` and `{namespace}` stand for those of the subject,
/// `kubectl` for the workload cluster's with its kubeconfig, `kubectl {management}` for the other.
/// A command is written as it is typed; behind it, `  # ` and why.
pub struct Words {
    /// What is true when the check passes.
    pub statement: &'static str,
    /// What a person can do, most useful first.
    pub remedy: &'static [&'static str],
    /// Failures of the domain reference that it catches.
    pub failures: &'static str,
}

const fn words(
    statement: &'static str,
    failures: &'static str,
    remedy: &'static [&'static str],
) -> Words {
    Words { statement, remedy, failures }
}

/// What passing a gate means.
pub const fn of_gate(gate: Gate) -> &'static str {
    match gate {
        Gate::ClusterPreflight => "the cluster may be touched at all",
        Gate::Backup => "what a recovery needs is exported",
        Gate::Unprotect => "the site lets nodes of the cluster be removed",
        Gate::Protect => "the site protects the cluster again",
        Gate::Preflight => "this node may be touched",
        Gate::Snapshot => "what the node was is recorded, off the node",
        Gate::Cordon => "the node takes no new pods",
        Gate::Drain => "the node's pods are elsewhere",
        Gate::RemoveAdmission => "the remove operation may be submitted: the point of no return",
        Gate::Removal => "the node is gone from the cluster, and dead on its host",
        Gate::Reinstall => "the disk may be wiped",
        Gate::Os => "the host is the same machine with the target OS, fit to join",
        Gate::JoinAdmission => "the join operation may be submitted",
        Gate::Join => "the node is back, and works",
        Gate::JoinCanary => "pods on the node reach the others, and are reached",
        Gate::Metadata => "the node carries what it carried before",
        Gate::Soak => "nothing got worse",
        Gate::Finalize => "the cluster is finished",
        Gate::Abort => "a node that was given up is as it was",
        Gate::ClusterAbort => "nothing is left behind of what was given up",
        Gate::RejoinAdmission => "a removed node may join again with the system that it still has",
        Gate::Rejoin => "it is back with that system, and works",
        Gate::KubeconfigAdmission => {
            "Kubean may be told to ask another control plane than the first"
        }
        Gate::Kubeconfig => "Kubean asks another control plane than the first",
        Gate::Reorder => "the first control plane comes last in the inventory of the Cluster",
        Gate::ReorderAdmission => "the new order of the inventory may be applied",
        Gate::Reordered => "the new order is applied, and nothing but the order has changed",
        Gate::Quorum => "etcd, the clients of the API and a backup let this control plane go",
        Gate::Withdraw => "its API server is out of service, and no client was cut off",
    }
}

/// What a check states, and what helps.
pub const fn of_check(check: Check) -> Words {
    match check {
        Check::ManagementSeparate
        | Check::KubeconfigUsable
        | Check::VersionsPinned
        | Check::ImageManagesSystems
        | Check::InventoryUnderstood
        | Check::NoForeignOperation
        | Check::InputsStored
        | Check::ObjectsExported
        | Check::InputsRemoved
        | Check::ProtectionOff
        | Check::ProtectionOn => of_management(check),
        Check::EtcdHealthy
        | Check::QuorumKept
        | Check::LeaderElsewhere
        | Check::LeaderSteady
        | Check::EndpointNotHere
        | Check::MemberAbsent
        | Check::MembersDistinct
        | Check::IdentityKept
        | Check::EtcdServersRight
        | Check::EtcdJoinsOnly
        | Check::ControlPlaneCertificatesValid
        | Check::ProxiesLeadToAll
        | Check::ApiServerVersionKept
        | Check::OthersSchedulable
        | Check::EndpointsElsewhere
        | Check::InfoSigned
        | Check::ApiServerServes
        | Check::ApiServersListed
        | Check::ControlPlanePodsReady
        | Check::ApiServerStopped
        | Check::ApiServerLeaseStopped
        | Check::ApiServersSteady
        | Check::KubeconfigElsewhere
        | Check::InventoryReordered
        | Check::BackupFresh
        | Check::IdentityRecorded
        | Check::OtherControlPlanesDone
        | Check::BackupProved
        | Check::FirstControlPlaneApproved => of_control_plane(check),
        Check::NodesReady
        | Check::AnswersFresh
        | Check::KubeletVersionsEqual
        | Check::SystemPodsReady
        | Check::NoNewPending
        | Check::CapacityElsewhere
        | Check::DisruptionsAllowed
        | Check::DataElsewhere
        | Check::JoinCanaryPossible
        | Check::NodesOnTarget => of_cluster(check),
        Check::HostIsNode
        | Check::OsIsSource
        | Check::HostRecorded
        | Check::CertificatesValid
        | Check::ClockInSync
        | Check::PackagesUsable
        | Check::RepositoriesServe
        | Check::OldRepositoriesServe
        | Check::KubeletStopped
        | Check::NoLeftovers
        | Check::PortsFree
        | Check::NodeFilesGone
        | Check::FarewellSaid
        | Check::ApprovalsHold
        | Check::OsIsTarget
        | Check::InstallationNew
        | Check::AddressesKept
        | Check::HardwareKept
        | Check::SwapOff
        | Check::FirewallOff
        | Check::DiskFree
        | Check::ResolverUsable => host::words_of(check),
        _ => node::words_of(check),
    }
}

const fn of_control_plane(check: Check) -> Words {
    match check {
        Check::EtcdHealthy => words(
            "every member of etcd is well, and they are those of the control planes that are to be \
             there",
            "F5, F6, F54",
            &["rehull etcd {cluster}"],
        ),
        Check::QuorumKept => words(
            "etcd bears the loss of this member: all voters are well, and enough of them",
            "F54",
            &["rehull etcd {cluster}"],
        ),
        Check::LeaderElsewhere => {
            words("another member leads etcd", "F54", &["rehull etcd {cluster}"])
        }
        Check::LeaderSteady => words(
            "etcd has elected no leader for a while (policy.etcdQuiet)",
            "",
            &[
                "rehull etcd {cluster}  # its term: each election begins another one",
                "kubectl -n kube-system logs -l component=etcd --tail=200 | grep -i elect",
            ],
        ),
        Check::EndpointNotHere => words(
            "the address of spec.workload.endpoint is not on this host: clients would lose it",
            "",
            &[
                "ssh {address} mv /etc/kubernetes/manifests/kube-vip.yml /root/  # kube-vip: another \
                 control plane takes the address",
                "ssh {address} systemctl stop keepalived  # keepalived, which would take it back",
                "ssh {address} ip -br address  # who holds it",
            ],
        ),
        Check::MemberAbsent => words(
            "no member of etcd has the node's address",
            "F5, F7",
            &["rehull etcd {cluster}", "rehull migrate retry {cluster} {node}  # remove it again"],
        ),
        Check::MembersDistinct => words(
            "the playbooks of the image find the member of each control plane, and of no other",
            "F7",
            &[
                "rehull plan -f migration.yaml  # after another spec.operations.image: v0.20 or newer",
                "accept it only for an image that was patched: the wrong member would be removed",
            ],
        ),
        Check::IdentityKept => words(
            "certificate authorities and etcd are those that were recorded, on every control plane",
            "F52, F53",
            &[
                "rehull etcd {cluster}  # the clusters of its members",
                "on that host: openssl x509 -noout -fingerprint -sha256 -in the file that is named",
                "stop: somebody may have made a new cluster (deploy/backup.md)",
            ],
        ),
        Check::EtcdServersRight => words(
            "every API server asks a member of etcd that is there",
            "F55",
            &[
                "on that host: grep etcd-servers /etc/kubernetes/manifests/kube-apiserver.yaml",
                "rehull etcd {cluster}  # the members; upgrade-cluster.yml rewrites --etcd-servers",
            ],
        ),
        Check::ControlPlaneCertificatesValid => words(
            "no certificate of any control plane that is to be there expires soon",
            "F59",
            &[
                "kubectl get nodes -o wide  # the address of the one that is named",
                "on that host: kubeadm certs check-expiration, or openssl x509 -noout -enddate",
                "renew them first: a ClusterOperation with action renew-certs.yml",
            ],
        ),
        Check::EtcdJoinsOnly => words(
            "etcd on the node was started to join what is there: it would never make a new cluster",
            "F52",
            &[
                "ssh {address} grep ETCD_INITIAL_CLUSTER_STATE /etc/etcd.env  # etcd as a service",
                "ssh {address} grep initial-cluster-state /etc/kubernetes/manifests/etcd.yaml",
                "make it existing, and let etcd start again: `rehull etcd {cluster}` before and after",
            ],
        ),
        Check::ProxiesLeadToAll => words(
            "the proxies of workers lead to all control planes, and to nobody else",
            "F28",
            &[
                "kubectl -n kube-system get pods -o wide | grep -e nginx-proxy -e haproxy",
                "on that host: put /etc/nginx/nginx.conf right (upstream kube_apiserver)",
                "and have it read that again: crictl stop $(crictl ps -q --name nginx-proxy)",
            ],
        ),
        Check::ApiServerVersionKept => words(
            "the API server on the node has the recorded version",
            "F42",
            &["kubectl --server=https://{address}:6443 version"],
        ),
        Check::OthersSchedulable => words(
            "no other node was cordoned meanwhile",
            "",
            &[
                "kubectl get nodes",
                "uncordon those that are named, if nobody else has cordoned them",
            ],
        ),
        Check::EndpointsElsewhere => words(
            "cluster-info and kubeadm-config lead to an API server that stays",
            "F56, F57",
            &[
                "kubectl -n kube-public get configmap cluster-info -o yaml",
                "kubectl -n kube-system get configmap kubeadm-config -o yaml",
                "kubectl -n kube-public get configmap kube-root-ca.crt -o yaml  # the authorities of it",
            ],
        ),
        Check::InfoSigned => words(
            "cluster-info is signed with a fresh token, so that a host that joins believes it",
            "F57",
            &[
                "kubectl -n kube-public get configmap cluster-info -o yaml  # jws-kubeconfig-*",
                "kubectl -n kube-system get pods -l component=kube-controller-manager",
            ],
        ),
        Check::ApiServerServes => words(
            "the API server on the node is ready",
            "",
            &["ssh {address} crictl logs $(crictl ps -q --name kube-apiserver)"],
        ),
        Check::ApiServersListed => words(
            "the Service kubernetes leads to the API servers that are to be there, and to no others",
            "F4, F8",
            &["kubectl get endpointslices -l kubernetes.io/service-name=kubernetes"],
        ),
        Check::ControlPlanePodsReady => words(
            "the pods of the node's control plane are Ready",
            "",
            &["kubectl -n kube-system get pods --field-selector spec.nodeName={node}"],
        ),
        Check::ApiServerLeaseStopped => words(
            "no API server of the host renews its lease any more",
            "F5",
            &[
                "kubectl -n kube-system get leases -l apiserver.kubernetes.io/identity=kube-apiserver \
                 -o custom-columns=HOST:.metadata.labels.kubernetes\\.io/hostname,\
                 RENEWED:.spec.renewTime",
            ],
        ),
        Check::ApiServersSteady => words(
            "the API servers that are to serve have answered all the while, asked each second",
            "F14",
            &[
                "rehull status {cluster}  # which of them is silent, and since when",
                "kubectl get --raw=/readyz?verbose  # of that API server",
            ],
        ),
        Check::ApiServerStopped => words(
            "no process of an API server is left on the host, and its port is free",
            "F4",
            &["ssh {address} crictl ps --name kube-apiserver"],
        ),
        Check::KubeconfigElsewhere => words(
            "the kubeconfig that Kubean keeps leads to an API server that stays",
            "F61",
            &[
                "kubectl {management} get clusters.kubean.io {cluster} -o yaml  # kubeconfRef",
                "in the ConfigMap of kubeconfRef: let server lead to a control plane that stays",
            ],
        ),
        Check::InventoryReordered => words(
            "the node comes last of the control planes in the inventory of the Cluster",
            "F62",
            &[
                "rehull inventory check hosts.yml  # of the ConfigMap of hostsConfRef",
                "rehull inventory reorder hosts.yml --last {node}  # what it must become",
            ],
        ),
        Check::BackupFresh => words(
            "a backup of etcd and its keys was taken less than 30 minutes ago, and is stored whole",
            "",
            &[
                "rehull backup list",
                "rehull migrate retry {cluster} {node}  # take another one",
                "one that takes longer than policy.gateDeadline needs a plan with a longer one",
            ],
        ),
        Check::IdentityRecorded => words(
            "what tells this cluster from any other is recorded",
            "F52, F53",
            &["rehull etcd {cluster}"],
        ),
        Check::BackupProved => words(
            "a person has made an etcd of a backup of this cluster, and looked at what it holds",
            "",
            &[
                "rehull backup list {cluster}  # and prove one where its key may be",
                "rehull backup prove DIRECTORY --identity KEY --record  # once a migration",
            ],
        ),
        Check::FirstControlPlaneApproved => words(
            "a person has approved that the first control plane goes, and has typed its name for it",
            "",
            &["rehull etcd {cluster}  # look how it is before that"],
        ),
        _ => words("all other control planes run the target OS", "", &["rehull status {cluster}"]),
    }
}

const fn of_management(check: Check) -> Words {
    const SWITCHED: &[&str] = &[
        "rehull history {cluster} --events ProtectionAnswered  # what the site's program said",
        "look at the program that deletionProtection of the coordinator's config.yaml names",
    ];
    match check {
        Check::ManagementSeparate => words(
            "the management cluster is another cluster than this one",
            "F79",
            &[
                "kubectl {management} get nodes  # and compare",
                "kubectl get nodes",
                "move Kubean to another cluster: rehull must not remove the nodes that it runs on",
            ],
        ),
        Check::KubeconfigUsable => words(
            "the kubeconfig works and does not point at a node that will be removed",
            "F61",
            &[
                "kubectl get --raw=/readyz",
                "kubectl get nodes -o wide  # are they this cluster's?",
                "point its server at a load balancer or another API server",
            ],
        ),
        Check::VersionsPinned => words(
            "image and Kubernetes version are pinned and equal the running ones",
            "F75",
            &[
                "kubectl get nodes -o wide  # and compare with spec.operations of the document",
                "kubectl {management} get clusteroperations -l clusterName={cluster} \
                 -o custom-columns=NAME:.metadata.name,IMAGE:.spec.image",
            ],
        ),
        Check::ImageManagesSystems => words(
            "the image of the operations manages both operating systems, as far as its tag says it",
            "F75",
            &[
                "rehull plan -f migration.yaml  # after another spec.operations.image",
                "take the image of a Kubean release that still manages the old system",
            ],
        ),
        Check::InventoryUnderstood => words(
            "the inventory is understood, names its hosts literally and holds no passwords",
            "F15, F67",
            &[
                "kubectl {management} get clusters.kubean.io {cluster} \
                 -o jsonpath='{.spec.hostsConfRef}'",
                "move passwords out of hosts.yml (ssh key through spec.sshAuthRef)",
            ],
        ),
        Check::NoForeignOperation => words(
            "no other operation of this cluster is running or waiting",
            "F68",
            &[
                "kubectl {management} get clusteroperations -l clusterName={cluster}",
                "wait for it to end, or delete it if nobody needs it",
            ],
        ),
        Check::InputsStored => words(
            "the operation's own inventory and vars are stored as planned",
            "F66, F74",
            &[
                "kubectl {management} -n {namespace} get configmaps -l rehull.dev/migration",
                "rehull migrate retry {cluster} {node}  # they are made anew from today's inventory",
            ],
        ),
        Check::ObjectsExported => words(
            "the objects that a recovery needs are exported",
            "",
            &["df -h /var/lib/rehull; ls -ld /var/lib/rehull/blobs  # or your --dir"],
        ),
        Check::ProtectionOff => words(
            "the site's program says that the deletion protection of the cluster is off",
            "",
            SWITCHED,
        ),
        Check::ProtectionOn => words(
            "the site's program says that the deletion protection of the cluster is on again",
            "",
            SWITCHED,
        ),
        _ => words(
            "no object that was made for operations is left behind",
            "",
            &["kubectl {management} -n {namespace} get configmaps -l rehull.dev/migration"],
        ),
    }
}

const fn of_cluster(check: Check) -> Words {
    match check {
        Check::NodesReady => words(
            "every node that is not out is Ready",
            "",
            &["kubectl get nodes", "kubectl describe nodes  # those that are named"],
        ),
        Check::AnswersFresh => words(
            "the API server shows that kubelets renew their leases: its answers are not stale",
            "F76",
            &[
                "kubectl -n kube-node-lease get leases -o custom-columns=NODE:.metadata.name,\
                 RENEWED:.spec.renewTime",
                "kubectl get --raw=/readyz/etcd  # of that API server: has it lost its etcd?",
                "kubectl -n kube-system get pods -l component=kube-controller-manager",
            ],
        ),
        Check::KubeletVersionsEqual => words(
            "every node runs the recorded kubelet version",
            "F42",
            &["kubectl get nodes -o wide", "finish the upgrade that is half done first"],
        ),
        Check::SystemPodsReady => words(
            "DaemonSets and Deployments of the system namespaces are complete",
            "F23, F25, F29",
            &["kubectl -n kube-system get daemonsets,deployments,pods -o wide"],
        ),
        Check::NoNewPending => words(
            "no pod is pending that was not pending before",
            "F20",
            &[
                "kubectl get pods -A --field-selector=status.phase=Pending",
                "add capacity, or delete what is not needed",
            ],
        ),
        Check::CapacityElsewhere => words(
            "the other nodes take the pods of this one, by every filter of the scheduler",
            "F20, F22",
            &[
                "rehull plan -f migration.yaml  # every pod, and why each node refuses it",
                "add or free a node, or change what the pod that is named asks for",
            ],
        ),
        Check::DisruptionsAllowed => words(
            "the pods of this node may be evicted, and others serve while they move",
            "F10, F12, F21, F25, F26",
            &[
                "kubectl get pdb -A, and scale up what allows no disruption or has one pod",
                "delete pods without a controller yourself, if they may be lost",
            ],
        ),
        Check::DataElsewhere => words(
            "nothing on the node is lost with its disk",
            "F19, F23, F27",
            &[
                "rehull plan -f migration.yaml  # every volume, directory and daemon with data here",
                "move the data to other nodes, and let its storage system take this one out",
            ],
        ),
        Check::JoinCanaryPossible => words(
            "the pods of join canaries can be made, if any are planned",
            "",
            &[
                "kubectl apply -f deploy/coordinator/rbac-workload.yaml  # the namespace and its rights",
                "kubectl -n rehull-canary get resourcequota,limitrange",
            ],
        ),
        _ => words(
            "every planned node runs the target OS",
            "F32",
            &["kubectl get nodes -o wide", "rehull status {cluster}"],
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Whether a line can be typed as it is.
    fn is_command(line: &&'static str) -> bool {
        let program = line.split(' ').next().unwrap_or_default();
        ["kubectl", "ssh", "rehull", "df"].contains(&program)
    }

    #[test]
    fn every_check_of_every_gate_has_its_own_statement_and_a_remedy() {
        let needs = Gate::ALL.iter().flat_map(|gate| gate.needs());
        let checks: BTreeSet<Check> = needs.map(|need| need.check).collect();
        let mut statements = BTreeSet::new();
        for check in &checks {
            let words = of_check(*check);
            // Two checks with one statement: one of them fell into the wrong last arm.
            assert!(statements.insert(words.statement), "{check}: {}", words.statement);
            assert!(!words.remedy.is_empty(), "{check} has no remedy");
            for remedy in words.remedy {
                let rest = ["{node}", "{address}", "{cluster}", "{namespace}", "{management}"]
                    .iter()
                    .fold(remedy.to_string(), |rest, name| rest.replace(name, ""));
                let jsonpath = rest.contains("{.spec");
                assert!(jsonpath || !rest.contains('{'), "{check}: {remedy}");
                assert!(!remedy.contains('<'), "{check}: {remedy} must be filled in by hand");
            }
            assert!(
                words.remedy.iter().any(is_command),
                "{check} has no command: {:?}",
                words.remedy
            );
        }
        assert!(checks.len() > 40, "{} checks", checks.len());
    }
}
