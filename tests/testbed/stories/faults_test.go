package stories

import (
	"strings"
	"time"

	"rehull.dev/testbed/cluster"
)

// faults are all that is done to the workers, in the order of their way. F numbers are the domain
// reference's.
var faults = []fault{
	{
		name: "somebody else's operation before ours (F68)", gate: "ClusterPreflight",
		on: foreignOperation, check: "NoForeignOperation", seen: "operation theirs",
		advice: "kubectl", off: operationsGoOn,
	},
	{
		name: "an agent that is lost before", node: "worker1", gate: "G1",
		on:    func(n *night) { n.on("worker1", "systemctl stop rehull-agent") },
		check: "HostIsNode", seen: "its agent is not connected", unsure: true,
		advice: "ssh 10.77.0.21 systemctl status rehull-agent",
		off:    func(n *night) { n.on("worker1", "systemctl start rehull-agent") },
	},
	{
		name: "an API server that answers what was (F76)", node: "worker1", gate: "G1",
		on: func(n *night) {
			n.on("master1", staleServer)
			n.on("mgmt", "nft add table ip stale; "+
				"nft 'add chain ip stale out { type nat hook output priority -100; }'; "+
				"nft add rule ip stale out ip daddr 10.77.0.11 tcp dport 6443 dnat to 10.77.0.11:6444")
			n.restart() // its connections are to the real one
		},
		check: "AnswersFresh", seen: "leases of Ready nodes were last renewed",
		advice: "kubectl",
		off: func(n *night) {
			n.on("mgmt", "nft delete table ip stale")
			n.restart()
			n.on("master1", "pkill -9 -f 'secure-port=[6]444'; pkill -9 -f 'etcd-[s]tale'")
		},
	},
	{
		name: "a repository of the old hosts that is dead (F80)", node: "worker1", gate: "G1",
		on:    func(n *night) { n.on("mgmt", "mv /srv/minio/kubean/centos /srv/minio/kubean/dead") },
		check: "OldRepositoriesServe", seen: "worker1: base (http://10.77.0.2:9000/kubean/centos",
		off: func(n *night) { n.on("mgmt", "mv /srv/minio/kubean/dead /srv/minio/kubean/centos") },
	},
	{
		name: "a budget that allows no disruption (F10)", node: "worker1", gate: "G1",
		on: func(n *night) {
			n.apply("master1", preferred("shop", 2, ""))
			n.on("master1", "kubectl rollout status deployment/shop --timeout=60s")
			n.apply("master1", budget("shop", 2)) // of pods that run: none has been evicted
			n.allowed("shop", "0")
		},
		check: "DisruptionsAllowed", seen: "default/shop", off: func(n *night) {
			n.apply("master1", budget("shop", 1))
			n.allowed("shop", "1")
		},
	},
	{
		name: "data on the host's own disk (F19)", node: "worker1", gate: "G1",
		on: func(n *night) {
			n.apply("master1", preferred("scratch", 1, "/srv/scratch"))
			n.on("master1", "kubectl rollout status deployment/scratch --timeout=60s")
		},
		check: "DataElsewhere", seen: "/srv/scratch",
		advice: "rehull migrate approve prod worker1 --item", off: acceptItems,
	},
	{
		name: "a volume that stays attached (F9)", node: "worker1", gate: "G3",
		on:    func(n *night) { n.apply("master1", attachment) },
		check: "VolumesDetached", seen: "pv-left",
		off: func(n *night) { n.on("master1", "kubectl delete volumeattachment csi-left") },
	},
	{
		name: "a pod that finds no place (F20)", node: "worker1", gate: "G3",
		on:    func(n *night) { n.apply("master1", homeless) },
		check: "NoNewPending", seen: "homeless",
		off: func(n *night) {
			n.on("master1", "kubectl delete pod homeless --now")
			n.on("master1", "kubectl delete deployment scratch") // or every node would be asked
		},
	},
	{
		name: "somebody else's operation just before the removal (F68)", node: "worker1", gate: "G4",
		on: foreignOperation, check: "NoForeignOperation", seen: "operation theirs",
	},
	{
		name: "a ConfigMap of the operation that is missing (F74)", node: "worker1", gate: "G4",
		during: func(n *night) {
			n.on("mgmt", "kubectl -n kubean-system delete configmap prod-rm-worker1-a1-hosts")
			operationsGoOn(n)
		},
		check: "InputsStored", seen: "prod-rm-worker1-a1-hosts does not exist",
		free: []string{"retry"},
	},
	{
		name: "Kubean that is down (F69)", node: "worker1", gate: "G5",
		on:     func(n *night) { n.on("mgmt", "systemctl stop kubean") },
		seen:   "operation prod-rm-worker1-a1 unknown: nothing of it has ever run",
		advice: "rehull migrate retry prod worker1 --resubmit",
		off: func(n *night) {
			n.apply("mgmt", theirs)
			operationsGoOn(n)
		},
		free: []string{"retry", "--resubmit"},
	},
	{
		name: "another host that no playbook reaches (F66)", node: "worker1", gate: "G5",
		on:     func(n *night) { n.on("worker2", "systemctl stop sshd") },
		seen:   "its log says that it ended before the reset of the host",
		advice: "rehull migrate retry prod worker1 --resubmit",
		off:    func(n *night) { n.on("worker2", "systemctl start sshd") },
		free:   []string{"retry", "--resubmit"},
	},
	{
		name: "an operation that a person deletes while it runs (F70)", node: "worker1", gate: "G5",
		on: func(n *night) { n.on("worker1", "pkill -STOP -x sshd") },
		during: func(n *night) {
			n.recordedSince("worker1", "OperationStarted", time.Minute)
			n.on("mgmt", "kubectl delete clusteroperation prod-rm-worker1-a3 --wait=false")
		},
		check: "NodeAbsent", seen: "Node worker1 exists",
		advice: "rehull migrate retry prod worker1 --resubmit",
		off:    func(n *night) { n.on("worker1", "pkill -CONT -x sshd") },
		free:   []string{"retry", "--resubmit"},
	},
	{
		name: "a Node that comes back within the window (F2)", node: "worker1", gate: "G5",
		during: func(n *night) {
			eventually(n.T, migrationLimit, "no Node worker1", func() (string, bool) {
				out := n.on("master1", "kubectl get nodes -o name")
				return out, !strings.Contains(out, "worker1")
			})
			n.apply("master1", "{apiVersion: v1, kind: Node, metadata: {name: worker1}}")
		},
		check: "NodeAbsent", seen: "Node worker1 exists",
		off: func(n *night) { n.on("master1", "kubectl delete node worker1") },
	},
	{
		name: "a port that is still taken (F4)", node: "worker1", gate: "G5",
		on: func(n *night) {
			n.on("worker1", "setsid python3 -m http.server 10256 >/dev/null 2>&1 </dev/null &")
		},
		check: "PortsFree", seen: "10256",
		off: func(n *night) { n.on("worker1", "pkill -f 'http.server 10256'") },
	},
	{
		name: "a reinstall that did not happen (F33)", node: "worker1", gate: "",
		on:     func(n *night) { n.installer("echo progress 100 done") },
		seen:   "the reinstall was announced, but the new system has not enrolled",
		advice: "rehull migrate retry prod worker1 --resubmit",
		free:   []string{"retry", "--resubmit"},
	},
	{
		name: "the wrong operating system (F32)", node: "worker1", gate: "G7",
		on: func(n *night) {
			n.installer("export REHULL_TARGET_OS=centos-7.9; " + cluster.HonestInstaller)
		},
		check: "OsIsTarget", seen: "CentOS Linux 7",
		advice: "rehull migrate retry prod worker1 --resubmit",
		off:    func(n *night) { n.installer(cluster.HonestInstaller) },
		free:   []string{"retry", "--resubmit"},
	},
	{
		name: "a cloned machine-id (F34)", node: "worker1", gate: "G7",
		on: func(n *night) {
			twin := n.on("worker2", "cat /etc/machine-id")
			err := cluster.Plant(n.Context(), n.testbed, "worker1", "/etc/machine-id", twin+"\n")
			n.must(err)
		},
		check: "InstallationNew", seen: "the machine id is also that of worker2 in prod",
		off: func(n *night) {
			n.must(cluster.Clean(n.Context(), n.testbed, "worker1"))
			n.on("worker1", "tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id")
		},
	},
	{
		name: "another host name (F31)", node: "worker1", gate: "G7",
		on:    func(n *night) { n.on("worker1", "hostname localhost") },
		check: "HostIsNode", seen: `calls itself "localhost"`,
		off: func(n *night) { n.on("worker1", "hostname worker1") },
	},
	{
		name: "another address (F30)", node: "worker1", gate: "G7",
		on: func(n *night) {
			n.on("worker1", "ip addr add 10.77.0.121/24 dev eth0; ip addr del 10.77.0.21/24 dev eth0; "+
				"ip addr add 10.77.0.121/24 dev eth0 2>/dev/null || true")
		},
		check: "AddressesKept", seen: "10.77.0.21 is not on network card",
		off: func(n *night) {
			n.on("worker1", "ip addr add 10.77.0.21/24 dev eth0; ip addr del 10.77.0.121/24 dev eth0; "+
				"ip addr add 10.77.0.21/24 dev eth0 2>/dev/null || true; ip route replace default via 10.77.0.1")
		},
	},
	{
		name: "another network card (F30)", node: "worker1", gate: "G7",
		on:    func(n *night) { n.on("worker1", "ip link set dev eth0 address 52:54:00:77:00:99") },
		check: "AddressesKept", seen: "52:54:00:77:00:99",
		off: func(n *night) { n.on("worker1", "ip link set dev eth0 address 52:54:00:77:00:15") },
	},
	{
		name: "a repository of the new system that is dead (F40)", node: "worker1", gate: "G7",
		on:    func(n *night) { n.on("mgmt", "mv /srv/minio/kubean/ubuntu /srv/minio/kubean/dead") },
		check: "RepositoriesServe", seen: "http://10.77.0.2:9000/kubean/ubuntu jammy main",
		off: func(n *night) { n.on("mgmt", "mv /srv/minio/kubean/dead /srv/minio/kubean/ubuntu") },
	},
	{
		name: "an agent that is lost after", node: "worker1", gate: "G7",
		on:    func(n *night) { n.on("worker1", "systemctl stop rehull-agent") },
		check: "AddressesKept", seen: "its agent is not connected", unsure: true,
		advice: "ssh 10.77.0.21 systemctl status rehull-agent",
		off:    func(n *night) { n.on("worker1", "systemctl start rehull-agent") },
	},
	{
		name: "somebody else's operation after ours (F68)", node: "worker1", gate: "G9",
		during: func(n *night) {
			n.ended("prod-add-worker1-a1")
			foreignOperation(n)
		},
		check: "NoForeignOperation", seen: "operation theirs", off: operationsGoOn,
	},
	{
		name: "an API server that does not answer", node: "worker1", gate: "G9",
		on:    func(n *night) { n.on("master1", "pkill -STOP -x kube-apiserver") },
		check: "NodeReady", seen: "cannot read", unsure: true,
		advice: "kubectl ",
		off:    func(n *night) { n.on("master1", "pkill -CONT -x kube-apiserver") },
	},
	{
		name: "an agent that is lost at the end", node: "worker1", gate: "G9",
		on:    func(n *night) { n.on("worker1", "systemctl stop rehull-agent") },
		check: "HostIsNode", seen: "its agent is not connected", unsure: true,
		off: func(n *night) { n.on("worker1", "systemctl start rehull-agent") },
	},
	{
		name: "another node that is not Ready (F66)", node: "worker1", gate: "G9",
		on: func(n *night) {
			n.on("master1", "systemctl stop kubelet")
			n.ready("master1", "Unknown")
		},
		check: "NodesReady", seen: "master1",
		off: func(n *night) {
			n.on("master1", "systemctl start kubelet")
			n.ready("master1", "True")
		},
	},
	{
		name: "a node whose pods reach no other (F49)", node: "worker1", gate: "JoinCanary",
		on: func(n *night) {
			n.drops("worker1", "broken", "forward", "tcp dport 8080")
		},
		check: "JoinCanaryServes", seen: "does not get what the other serves",
		advice: "rehull migrate approve prod worker1 --item",
		off:    func(n *night) { n.on("worker1", "nft delete table ip broken") },
	},
	{
		name: "an inventory that is changed under us", node: "worker2", gate: "G1",
		on:    func(n *night) { n.inventory("s/10.77.0.22/10.77.0.122/") },
		check: "InventoryUnderstood", seen: "worker2 no longer has the address 10.77.0.22",
		off: func(n *night) { n.inventory("s/10.77.0.122/10.77.0.22/") },
	},
	{
		name: "a Job that has the name of ours already (F73)", node: "worker2",
		on:    func(n *night) { n.apply("mgmt", sameJob) },
		waits: "Job kubean-prod-rm-worker2-a1-job exists already",
		off: func(n *night) {
			n.on("mgmt", "kubectl -n kubean-system delete job kubean-prod-rm-worker2-a1-job")
		},
	},
	{
		name: "an operation that failed after it had done all (F13)", node: "worker2",
		on:       func(n *night) { n.playbook("cluster-info.yml", failing) },
		recorded: "AcceptedByEvidence", off: func(n *night) { n.honestPlaybook("cluster-info.yml") },
	},
	{
		name: "a join that succeeded and did nothing", node: "worker2", gate: "G9",
		on:    func(n *night) { n.playbook("scale.yml", idle) },
		check: "NodeNew", seen: "worker2", off: func(n *night) { n.honestPlaybook("scale.yml") },
		advice: "rehull migrate retry prod worker2 --resubmit",
		free:   []string{"retry", "--resubmit"},
	},
	{
		name: "a removal that succeeded and did nothing (F1)", node: "worker3", gate: "G5",
		on:    func(n *night) { lie(n.T, n.testbed, "worker3") },
		check: "NodeAbsent", seen: "Node worker3 exists",
	},
	{
		name: "a kubelet that is left (F3)", node: "worker3", gate: "G5",
		check: "KubeletStopped", seen: "kubelet",
		advice: "ssh 10.77.0.23 systemctl stop kubelet",
		off: func(n *night) {
			honest(n.T, n.testbed, "worker3")
			n.on("worker3", "systemctl stop kubelet")
		},
	},
	{
		name: "an agent that is lost during", node: "worker3", gate: "G5",
		on:    func(n *night) { n.on("worker3", "systemctl stop rehull-agent") },
		check: "KubeletStopped", seen: "its agent is not connected", unsure: true,
		off: func(n *night) { n.on("worker3", "systemctl start rehull-agent") },
	},
	{
		name: "a Node object that is left (F1)", node: "worker3", gate: "G5",
		check: "NodeAbsent", seen: "Node worker3 exists",
		advice: "rehull migrate resolve prod worker3 --delete-node",
		free:   []string{"resolve", "--delete-node"},
	},
}
