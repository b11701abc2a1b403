//! Words for every gate and every check: what it states, and what to do when it does not hold.

use rehull_shared::evidence::Check;

use crate::domain::gate::Gate;

/// One row: a statement, what helps when it is false, and its numbers in the failure catalogue.
///
/// In remedies `{node}`, `{address}` and `{cluster}` stand for those of the subject.
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
        Gate::Metadata => "the node carries what it carried before",
        Gate::Soak => "nothing got worse",
        Gate::Finalize => "the cluster is finished",
    }
}

/// What a check states, and what helps.
pub const fn of_check(check: Check) -> Words {
    match check {
        Check::ManagementSeparate
        | Check::KubeconfigUsable
        | Check::VersionsPinned
        | Check::InventoryUnderstood
        | Check::NoForeignOperation
        | Check::InputsStored
        | Check::ObjectsExported
        | Check::InputsRemoved => of_management(check),
        Check::NodesReady
        | Check::KubeletVersionsEqual
        | Check::SystemPodsReady
        | Check::NoNewPending
        | Check::CapacityElsewhere
        | Check::DisruptionsAllowed
        | Check::NodesOnTarget => of_cluster(check),
        Check::HostIsNode
        | Check::OsIsSource
        | Check::HostRecorded
        | Check::CertificatesValid
        | Check::ClockInSync
        | Check::PackagesUsable
        | Check::KubeletStopped
        | Check::NoLeftovers
        | Check::PortsFree
        | Check::NodeFilesGone
        | Check::FarewellSaid
        | Check::OsIsTarget
        | Check::InstallationNew
        | Check::AddressesKept
        | Check::HardwareKept
        | Check::SwapOff
        | Check::FirewallOff
        | Check::DiskFree
        | Check::ResolverUsable => of_host(check),
        _ => of_node(check),
    }
}

const fn of_management(check: Check) -> Words {
    match check {
        Check::ManagementSeparate => words(
            "the management cluster is another cluster than this one",
            "F79",
            &["migrate this cluster by hand: rehull must not remove the nodes that Kubean runs on"],
        ),
        Check::KubeconfigUsable => words(
            "the kubeconfig works and does not point at a node that will be removed",
            "F61",
            &[
                "kubectl --kubeconfig <the one named in the document> get --raw=/readyz",
                "point its server at a load balancer or another API server",
            ],
        ),
        Check::VersionsPinned => words(
            "image and Kubernetes version are pinned and equal the running ones",
            "F75",
            &[
                "kubectl get nodes -o wide, and compare with spec.operations of the document",
                "kubectl get clusteroperations -l clusterName={cluster} \
                 -o custom-columns=NAME:.metadata.name,IMAGE:.spec.image",
            ],
        ),
        Check::InventoryUnderstood => words(
            "the inventory is understood, names its hosts literally and holds no passwords",
            "F15, F67",
            &[
                "kubectl get clusters.kubean.io {cluster} -o jsonpath='{.spec.hostsConfRef}'",
                "move passwords out of hosts.yml (ssh key through spec.sshAuthRef)",
            ],
        ),
        Check::NoForeignOperation => words(
            "no other operation of this cluster is running or waiting",
            "F68",
            &[
                "kubectl get clusteroperations -l clusterName={cluster}",
                "wait for it to end, or delete it if nobody needs it",
            ],
        ),
        Check::InputsStored => words(
            "the operation's own inventory and vars are stored as planned",
            "F66, F74",
            &[
                "kubectl -n kubean-system get configmaps -l rehull.dev/migration",
                "rehull retry {cluster} {node}: they are made anew from today's inventory",
            ],
        ),
        Check::ObjectsExported => words(
            "the objects that a recovery needs are exported",
            "",
            &["check the free space and the rights of the coordinator's directory"],
        ),
        _ => words(
            "no object that was made for operations is left behind",
            "",
            &["kubectl -n kubean-system get configmaps -l rehull.dev/migration"],
        ),
    }
}

const fn of_cluster(check: Check) -> Words {
    match check {
        Check::NodesReady => words(
            "every node that is not out is Ready",
            "",
            &["kubectl get nodes", "kubectl describe node <the one that is named>"],
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
            "the other nodes have room for the pods of this one",
            "F20",
            &["kubectl describe nodes | grep -A8 'Allocated resources'", "add or free a node"],
        ),
        Check::DisruptionsAllowed => words(
            "every disruption budget allows one more disruption for the pods of this node",
            "F10",
            &["kubectl get pdb -A", "scale the workload up, or make its pods Ready"],
        ),
        _ => words(
            "every planned node runs the target OS",
            "F32",
            &["kubectl get nodes -o wide", "rehull status {cluster}"],
        ),
    }
}

const fn of_node(check: Check) -> Words {
    const NODE: &[&str] = &["kubectl describe node {node}"];
    const DRAIN: &[&str] = &[
        "kubectl get pods -A --field-selector=spec.nodeName={node} -o wide",
        "kubectl get pdb -A, and scale up what allows no disruption",
        "delete pods without a controller yourself, if they may be lost",
    ];
    match check {
        Check::NodeRecorded => {
            words("the Node object is recorded with its identity and metadata", "F24", NODE)
        }
        Check::NodeCordoned => {
            words("the node is cordoned", "", &["kubectl cordon {node}", "kubectl get node {node}"])
        }
        Check::NodeDrained => {
            words("only pods of DaemonSets and static pods are left on the node", "F10-F12", DRAIN)
        }
        Check::VolumesDetached => words(
            "no VolumeAttachment names the node",
            "F9",
            &["kubectl get volumeattachments | grep {node}", "look at the CSI driver's controller"],
        ),
        Check::NodeAbsent => words(
            "the Node object is absent, and stays absent",
            "F1, F2, F50",
            &[
                "ssh {address} systemctl stop kubelet, if it runs: it registers the node again",
                "kubectl delete node {node}",
                "rehull retry {cluster} {node} --resubmit: run the operation again",
            ],
        ),
        Check::LeaseStopped => words(
            "the lease of the kubelet is absent or no longer renewed",
            "F2, F3",
            &[
                "ssh {address} systemctl stop kubelet",
                "kubectl -n kube-node-lease get lease {node} -o yaml",
            ],
        ),
        Check::NoPodsBound => words(
            "no pod is bound to the node",
            "",
            &["kubectl get pods -A --field-selector=spec.nodeName={node}"],
        ),
        Check::NodeNew => words(
            "the Node object is a new one, made after the operation began",
            "F50",
            &["kubectl get node {node} -o yaml", "rehull retry {cluster} {node} --resubmit"],
        ),
        Check::NodeReady => words("the node is Ready, and stays Ready", "F49", NODE),
        Check::NodeOsIsTarget => words(
            "the Node object shows the target OS",
            "F32",
            &["kubectl get node {node} -o wide", "ssh {address} cat /etc/os-release"],
        ),
        Check::KubeletVersionKept => words(
            "the Node object shows the recorded kubelet version",
            "F42",
            &["kubectl get node {node} -o wide", "check kube_version in the group vars"],
        ),
        Check::NodeAddressKept => words(
            "the Node object shows the inventory's address",
            "F45",
            &["kubectl get node {node} -o wide", "ssh {address} ip -br address"],
        ),
        Check::NodeIsHost => {
            words("the Node object and the agent name the same boot and machine", "F78", NODE)
        }
        Check::DaemonPodsReady => words(
            "the pods of DaemonSets on the node are Ready",
            "F49",
            &["kubectl get pods -A --field-selector=spec.nodeName={node} -o wide"],
        ),
        Check::NoPendingRequests => words(
            "no certificate request of the node is pending",
            "F60",
            &["kubectl get csr", "kubectl certificate approve <the request of {node}>"],
        ),
        Check::MetadataRestored => words(
            "labels, annotations and taints are as recorded",
            "F24",
            &["kubectl get node {node} -o yaml, and compare with what is named"],
        ),
        _ => words(
            "the node is schedulable exactly if it was so before",
            "F24",
            &["kubectl uncordon {node}, if it was schedulable before"],
        ),
    }
}

const fn of_host(check: Check) -> Words {
    match check {
        Check::HostIsNode => words(
            "the host is the one of the inventory: name and address",
            "F30, F31",
            &["ssh {address} 'hostname; ip -br address'", "hostnamectl set-hostname {node}"],
        ),
        Check::OsIsSource => words(
            "the host runs the source OS",
            "",
            &[
                "ssh {address} cat /etc/os-release",
                "leave the node out of spec.nodes if it is done",
            ],
        ),
        Check::HostRecorded => {
            words("facts of the host are recorded", "", &["systemctl status rehull-agent"])
        }
        Check::CertificatesValid => words(
            "no certificate of the node expires soon",
            "F59",
            &["renew them first: a ClusterOperation with action renew-certs.yml"],
        ),
        Check::ClockInSync => words(
            "the clock of the host is right",
            "F39",
            &["ssh {address} 'timedatectl; chronyc tracking'"],
        ),
        Check::PackagesUsable => words(
            "the package manager answers and nobody holds its lock",
            "F40, F80",
            &[
                "ssh {address} 'ps -ef | grep -E \"apt|dpkg|yum\"'",
                "ssh {address} systemctl stop unattended-upgrades",
            ],
        ),
        Check::KubeletStopped => words(
            "no kubelet is running",
            "F2, F3",
            &["ssh {address} systemctl stop kubelet", "ssh {address} systemctl disable kubelet"],
        ),
        Check::NoLeftovers => words(
            "no container, runtime or control-plane process is left",
            "F4",
            &[
                "ssh {address} systemctl stop kubelet, then rehull retry {cluster} {node}: \
                 rehull kills what is left",
                "ssh {address} 'ps -eo pid,lstart,args | grep -E \"kube|containerd|etcd\"'",
            ],
        ),
        Check::PortsFree => words(
            "the ports of Kubernetes are free",
            "F4, F51",
            &["ssh {address} ss -ltnp", "stop what listens on the ports that are named"],
        ),
        Check::NodeFilesGone => words(
            "the directories of Kubernetes are gone",
            "F17, F53",
            &["ssh {address} ls /etc/kubernetes /var/lib/kubelet /var/lib/etcd /etc/cni"],
        ),
        Check::FarewellSaid => words(
            "the agent of the old installation has said farewell",
            "",
            &["ssh {address} systemctl status rehull-agent", "rehull agent list"],
        ),
        Check::OsIsTarget => words(
            "the host runs the target OS",
            "F32",
            &["reinstall it, then rehull retry {cluster} {node} --resubmit"],
        ),
        Check::InstallationNew => words(
            "the installation is new: other boot id and machine id than before",
            "F33, F34",
            &[
                "reinstall it, then rehull retry {cluster} {node} --resubmit",
                "an image must not bring its own /etc/machine-id",
            ],
        ),
        Check::AddressesKept => words(
            "the host has the recorded addresses and network cards",
            "F30",
            &["ssh {address} ip address", "give the host its address back: it must not change"],
        ),
        Check::HardwareKept => words(
            "the host has the recorded hardware identity",
            "F34",
            &["reinstall the machine that was {node}, not another one"],
        ),
        Check::SwapOff => words(
            "swap is off",
            "F38",
            &["ssh {address} swapoff -a, and take it out of /etc/fstab"],
        ),
        Check::FirewallOff => words(
            "no firewall of the distribution is active",
            "F37",
            &["ssh {address} systemctl disable --now ufw firewalld"],
        ),
        Check::DiskFree => {
            words("enough disk space and inodes are free", "F43", &["ssh {address} 'df -h; df -i'"])
        }
        _ => words(
            "the resolver is usable by pods",
            "F44",
            &["ssh {address} cat /etc/resolv.conf: name servers other than a local stub"],
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

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
                let rest = ["{node}", "{address}", "{cluster}"]
                    .iter()
                    .fold(remedy.to_string(), |rest, name| rest.replace(name, ""));
                let jsonpath = rest.contains("{.spec");
                assert!(jsonpath || !rest.contains('{'), "{check}: {remedy}");
            }
        }
        assert!(checks.len() > 40, "{} checks", checks.len());
    }
}
