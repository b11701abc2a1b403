//! Words for what API servers say of one node.

use rehull_shared::evidence::Check;

use super::{Words, words};

/// What a check of a node states, and what helps.
pub(super) const fn words_of(check: Check) -> Words {
    const NODE: &[&str] = &["kubectl describe node {node}"];
    const DRAIN: &[&str] = &[
        "kubectl get pods -A --field-selector=spec.nodeName={node} -o wide",
        "kubectl get pdb -A  # scale up what allows no disruption",
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
                "ssh {address} systemctl stop kubelet  # if it runs, it registers the node again",
                "kubectl delete node {node}",
                "rehull migrate retry {cluster} {node} --resubmit  # run the operation again",
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
            &[
                "kubectl get node {node} -o yaml",
                "rehull migrate retry {cluster} {node} --resubmit",
            ],
        ),
        Check::NodeHeldBack => words(
            "the new Node is cordoned until it carries what the old one did",
            "F24",
            &["kubectl cordon {node}  # gate Metadata makes it as schedulable as it was"],
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
            &[
                "kubectl get node {node} -o wide",
                "kubectl {management} get clusters.kubean.io {cluster} \
                 -o jsonpath='{.spec.varsConfRef}'  # see kube_version there",
            ],
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
        Check::NoNewFailures => words(
            "no pod on the node fails again and again whose like did not before",
            "F49",
            &[
                "kubectl get pods -A --field-selector=spec.nodeName={node}",
                "kubectl describe pod and kubectl logs --previous of what is named",
            ],
        ),
        Check::NoPendingRequests => words(
            "no certificate request of the node is pending",
            "F60",
            &[
                "kubectl get csr",
                "kubectl get csr -o wide | grep system:node:{node}  # kubectl certificate approve NAME",
            ],
        ),
        Check::JoinCanaryServes => words(
            "a pod on the node and one elsewhere fetch from one another, by DNS name and Service",
            "F49",
            &[
                "kubectl -n rehull-canary get pods -o wide",
                "kubectl -n rehull-canary describe pods  # images, probes",
                "kubectl -n kube-system get pods --field-selector=spec.nodeName={node}  # CNI, kube-proxy, DNS",
            ],
        ),
        Check::JoinCanaryRemoved => words(
            "the pods of the join canary are gone, if one was planned",
            "",
            &["kubectl -n rehull-canary get pods,services"],
        ),
        Check::MetadataRestored => words(
            "labels, annotations and taints are as recorded",
            "F24",
            &["kubectl get node {node} -o yaml  # and compare with what is named"],
        ),
        _ => words(
            "the node is schedulable exactly if it was so before",
            "F24",
            &["kubectl uncordon {node}  # if it was schedulable before"],
        ),
    }
}
