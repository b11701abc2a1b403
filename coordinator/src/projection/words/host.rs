//! Words for what an agent says of its host.

use rehull_shared::evidence::Check;

use super::{Words, words};

/// What a check of a host states, and what helps.
pub(super) const fn words_of(check: Check) -> Words {
    match check {
        Check::HostIsNode => words(
            "the host is the one of the inventory: name and address",
            "F30, F31",
            &[
                "ssh {address} 'hostname; ip -br address'",
                "ssh {address} hostnamectl set-hostname {node}",
            ],
        ),
        Check::OsIsSource => words(
            "the host runs the source OS",
            "",
            &[
                "ssh {address} cat /etc/os-release",
                "leave the node out of spec.nodes if it is done",
            ],
        ),
        Check::HostRecorded => words(
            "facts of the host are recorded",
            "",
            &["ssh {address} systemctl status rehull-agent"],
        ),
        Check::CertificatesValid => words(
            "no certificate of the node expires soon",
            "F59",
            &[
                "ssh {address} kubeadm certs check-expiration  # on a control plane",
                "renew them first: a ClusterOperation with action renew-certs.yml",
            ],
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
        Check::RepositoriesServe => words(
            "the package repositories that the host will use answer with an index",
            "F40",
            &[
                "ssh {address} curl -sSI URL  # of what is named: name, route, proxy, certificate",
                "rehull plan -f migration.yaml  # after another spec.operations.repos",
            ],
        ),
        Check::OldRepositoriesServe => words(
            "the package repositories of all hosts with the source OS answer with an index",
            "F80",
            &[
                "ssh {address} yum -q makecache  # on the host that is named",
                "let them use a repository of the site, or disable the one that is dead",
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
                "ssh {address} systemctl stop kubelet",
                "rehull migrate retry {cluster} {node}  # rehull kills what is left",
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
            &["ssh {address} ls -d /etc/kubernetes /var/lib/kubelet /var/lib/etcd /etc/ssl/etcd"],
        ),
        Check::FarewellSaid => words(
            "the agent of the old installation has said farewell",
            "",
            &["ssh {address} systemctl status rehull-agent", "rehull agent list {cluster}"],
        ),
        Check::ApprovalsHold => words(
            "whoever accepted the loss of data on the node still does",
            "F19",
            &["rehull explain {cluster} {node}  # who accepted what, and until when"],
        ),
        Check::OsIsTarget => words(
            "the host runs the target OS",
            "F32",
            &["rehull migrate retry {cluster} {node} --resubmit  # reinstalls it again"],
        ),
        Check::InstallationNew => words(
            "the installation is new: another boot id than before, and a machine id of its own",
            "F33, F34",
            &[
                "rehull migrate retry {cluster} {node} --resubmit  # reinstalls it again",
                "an image must not bring its own /etc/machine-id",
            ],
        ),
        Check::AddressesKept => words(
            "the host has the recorded addresses and network cards",
            "F30",
            &["ssh {address} ip -br address", "give the host its address back: it must not change"],
        ),
        Check::HardwareKept => words(
            "the host has the recorded hardware identity",
            "F34",
            &[
                "ssh {address} cat /sys/class/dmi/id/product_uuid",
                "rehull migrate retry {cluster} {node} --resubmit  # of the machine that was {node}",
            ],
        ),
        Check::SwapOff => words(
            "swap is off",
            "F38",
            &["ssh {address} swapoff -a  # and take it out of /etc/fstab"],
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
            &["ssh {address} cat /etc/resolv.conf  # it needs name servers beside a local stub"],
        ),
    }
}
