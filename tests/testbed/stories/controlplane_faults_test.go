package stories

import (
	"strings"
	"testing"
	"time"

	"rehull.dev/testbed/cluster"
)

// TestControlPlaneFaults is a night like that of TestWorkers, of three control planes: each fault is
// stopped at its gate, with its words, before anything that cannot be undone, or rehull mends it by an
// order that the log names. The first control plane to go meets most of them, the coordinator is killed
// all along the way of the second, and the first of the inventory meets those of its hand-over.
func TestControlPlaneFaults(t *testing.T) {
	testbed := up(t, cluster.Size{ControlPlanes: 3, Workers: 1})
	tellOnFailure(t, testbed)
	if err := cluster.InstallRehull(t.Context(), testbed, programs4rehull(t)); err != nil {
		t.Fatal(err)
	}
	keepBackups(t, testbed)
	healthy(t, testbed)
	write(t, testbed, "/root/migration.yaml", controlPlanesAlone())
	order := []string{"master2", "master3", "master1"}
	n := &night{T: t, testbed: testbed, operations: watchOperations(t, testbed),
		disks: map[string]disk{}, nodes: order, join: "cluster.yml"}
	before := map[string]identity{}
	for _, node := range order {
		before[node], n.disks[node] = identityOf(t, testbed, node), diskOf(t, testbed, node)
	}
	authority, etcd := authorities(t, testbed, kubeadmEtcd), etcdCluster(t, testbed)

	n.prefixes()
	n.suffer(controlPlaneFaults, func() {
		rehull(t, testbed, "migrate", "start", "-f", "/root/migration.yaml")
	})
	awaitWithin(t, testbed, controlPlaneTime, "master2", "Done")
	n.killAlongTheWay("master3", controlPlanePoints)
	awaitWithin(t, testbed, controlPlaneTime, "master3", "Done")
	n.on("mgmt", hostsConf+"-o yaml >/root/before.yaml")
	n.suffer(handOverFaults, func() {})
	awaitWithin(t, testbed, controlPlaneTime, "master1", "Done")
	await(t, testbed, "", "Completed")
	n.report()

	for _, node := range order {
		migrated(t, testbed, node, before[node], ubuntu)
		for _, action := range []string{"remove-node.yml", "cluster.yml"} {
			if got := n.operations.succeeded(node, action); got != 1 && node != "master1" {
				t.Errorf("%s of %s has succeeded %d times: %q", action, node, got,
					n.operations.of(node, action))
			}
		}
	}
	healthy(t, testbed)
	if now := authorities(t, testbed, kubeadmEtcd); now != authority {
		t.Errorf("authorities were\n%s\nand are\n%s", authority, now)
	}
	if now := etcdCluster(t, testbed); now != etcd {
		t.Errorf("etcd was %s, and is %s", etcd, now)
	}
	handedOver(t, testbed)
}

// controlPlaneFaults are those of the cluster and of the control plane that goes first.
var controlPlaneFaults = []fault{
	{
		name: "an API server that asks a member that is not there (F55)", gate: "ClusterPreflight",
		on: func(n *night) {
			n.manifest("master3", "kube-apiserver",
				"s#--etcd-servers=https://127.0.0.1:2379#&,https://10.77.0.99:2379#")
		},
		check: "EtcdServersRight", seen: "the API server of master3 asks etcd at 10.77.0.99",
		off: func(n *night) {
			n.manifest("master3", "kube-apiserver", "s#,https://10.77.0.99:2379##")
		},
	},
	{
		name: "a dead API server in the Service kubernetes (F5)", gate: "ClusterPreflight",
		on: func(n *night) {
			n.on("master1", "key=/registry/masterleases/10.77.0.; "+etcdctlLine+
				"get --print-value-only ${key}13 | head -c -1 | sed s/10.77.0.13/10.77.0.99/ | "+
				etcdctlLine+"put ${key}99")
			eventually(n.T, time.Minute, "10.77.0.99 in the Service", func() (string, bool) {
				out := n.on("master1", "kubectl get endpointslice kubernetes -o yaml")
				return out, strings.Contains(out, "10.77.0.99")
			})
		},
		check: "ApiServersListed", seen: "10.77.0.99",
		off: func(n *night) {
			n.on("master1", etcdctlLine+"del /registry/masterleases/10.77.0.99")
		},
	},
	{
		name: "a proxy of a worker that does not know all of them (F28)", gate: "ClusterPreflight",
		on: func(n *night) {
			n.on("worker1", "cd /etc/nginx; cp -p nginx.conf /root/; sed -i /10.77.0.13:6443/d nginx.conf")
		},
		check: "ProxiesLeadToAll", seen: "worker1: /etc/nginx/nginx.conf has no master3 (10.77.0.13:6443)",
		advice: "on that host: put /etc/nginx/nginx.conf right",
		off:    func(n *night) { n.on("worker1", "cp /root/nginx.conf /etc/nginx/") },
	},
	{
		name: "a proxy that has not read its configuration again (F28)", gate: "ClusterPreflight",
		check: "ProxiesLeadToAll", seen: "and was not read again",
		off: func(n *night) { n.on("worker1", "pkill -x nginx") }, // its kubelet starts it anew
	},
	{
		name: "a learner that somebody has left behind (F8)", gate: "ClusterPreflight",
		on:    func(n *night) { n.addMember("10.77.0.99", "--learner") },
		check: "EtcdHealthy", seen: "is a learner: it has no vote yet", advice: "rehull etcd prod",
		off: func(n *night) { removeStray(n.T, n.testbed) },
	},
	{
		name: "a store that is full (NOSPACE, F8)", gate: "ClusterPreflight",
		on: fillStore, check: "EtcdHealthy", seen: "alarm:NOSPACE",
		off: emptyStore,
	},
	{
		name: "names of members that follow another order (F62)", gate: "ClusterPreflight",
		on: func(n *night) {
			n.inventory(`s/^\( *\)ansible_host: 10.77.0.13$/&\n\1etcd_member_name: etcd1/`)
		},
		check: "InventoryUnderstood", seen: "etcd_member_name",
		off: func(n *night) { n.inventory("/etcd_member_name/d") },
	},
	{
		name: "an etcd that elects leaders now and then", node: "master2", gate: "G1",
		on:    func(n *night) { n.on("master1", elections()) },
		check: "LeaderSteady", seen: "a leader was elected", advice: "rehull etcd prod",
		off: func(n *night) { n.on("master1", "rm /root/elections") },
	},
	{
		name: "a backup that nobody has proved", node: "master2", gate: "Quorum",
		check: "BackupProved", seen: "no backup was proved", advice: "rehull backup ",
		off: func(n *night) { proveBackup(n.T, n.testbed) },
	},
	{
		name: "certificate authority of another cluster (F52)", node: "master2", gate: "Quorum",
		on: func(n *night) {
			n.otherAuthority("master3")
			// F54, F56, F57: it leads etcd, and everything leads to it.
			lead(n.T, n.testbed, "10.77.0.12")
			leadEtcd(n.T, n.testbed, "10.77.0.12")
		},
		check: "IdentityKept", seen: "sa.pub of master3 is not the one that was recorded",
		advice: "rehull etcd prod",
	},
	{
		name: "the leader of etcd is the one that goes (F54)", node: "master2", recorded: "LeaderMoved",
	},
	{
		name: "what joins is sent to the one that goes (F56, F57)", node: "master2",
		recorded: "EndpointMoved",
	},
	{
		name: "a port of its API server that is taken again (F4)", node: "master2", gate: "Withdraw",
		during: func(n *night) {
			n.ownAuthority("master3")
			n.on("master2", "setsid sh -c 'until python3 -m http.server 6443; do sleep 0.1; done' "+
				">/dev/null 2>&1 </dev/null &")
		},
		check: "ApiServerStopped", seen: "6443",
	},
	{
		name: "an upgrade that sends what joins to the one that goes, behind the guard (F56)",
		node: "master2", gate: "G4",
		on:     func(n *night) { lead(n.T, n.testbed, "10.77.0.12") },
		during: func(n *night) { n.on("master2", "pkill -f 'until [p]ython3'; pkill -f '[h]ttp.server 6443'") },
		check:  "EndpointsElsewhere", seen: "10.77.0.12:6443", advice: "kubectl ",
		off: func(n *night) {
			lieAboutMembers(n)
			lead(n.T, n.testbed, "10.77.0.11")
		},
	},
	{
		name: "a removal that ends before it has done anything (F66)", node: "master2",
		on: func(n *night) { n.on("worker1", "systemctl stop sshd") },
		during: func(n *night) {
			n.happens("master2", point{"OperationArchived", 1})
			n.on("worker1", "systemctl start sshd")
		},
		recorded: "OperationResubmitted", // its member is still there, and one of three
	},
	{
		name: "a member that the playbook does not find (E2, F6)", node: "master2",
		recorded: "MemberRemovalAnswered", off: honestAboutMembers,
	},
	{
		name: "a Node that comes back within the window (F2)", node: "master2", gate: "G5",
		on:    func(n *night) { n.apply("master1", lonelyNode) },
		check: "NodeAbsent", seen: "Node master2 exists",
		off: func(n *night) { n.on("master1", "kubectl delete node master2") },
	},
	{
		name: "an API server that answers what was (F76)", node: "master2", gate: "G5",
		on:    staleAnswers,
		check: "AnswersFresh", seen: "leases of Ready nodes were last renewed",
		off: freshAnswers,
	},
	{
		name: "another API server that falls silent (F14)", node: "master2", gate: "G5",
		on: func(n *night) {
			n.drops("mgmt", "silent", "output", "ip daddr 10.77.0.13 tcp dport 6443")
		},
		check: "ApiServersSteady", seen: "10.77.0.13:6443 is not ready since",
		off: func(n *night) { n.on("mgmt", "nft delete table ip silent") },
	},
	{
		name: "a second member that is lost (F54)", node: "master2", gate: "G5",
		on: func(n *night) {
			n.on("master3", "mv /etc/kubernetes/manifests/etcd.yaml /root/etcd.yaml")
		},
		check: "EtcdHealthy", seen: "master3: ", unsure: true,
		off: secondMemberBack, free: []string{"retry"},
	},
	{
		name: "a member that is left at its address (F53)", node: "master2", gate: "G7",
		during: func(n *night) {
			n.happens("master2", point{"ReinstallAuthorized", 1})
			n.addMember("10.77.0.12", "")
		},
		check: "MemberAbsent", seen: "https://10.77.0.12:2380",
		off: func(n *night) { n.removeMember("10.77.0.12") },
	},
	{
		name: "a Node that is there before the join (F50)", node: "master2", gate: "G7",
		on:    func(n *night) { n.apply("master1", lonelyNode) },
		check: "NodeAbsent", seen: "Node master2 exists",
		off: func(n *night) { n.on("master1", "kubectl delete node master2") },
	},
	{
		name: "a second member that nobody sees for a while (F54)", node: "master2", gate: "G8",
		on: func(n *night) { n.on("master3", "systemctl stop rehull-agent") },
		during: func(n *night) {
			n.happens("master2", point{"QuorumAtRisk", 2}) // it was lost before
			n.on("master3", "systemctl start rehull-agent")
		},
		seen:   "another member of etcd ailed while this one was away: master3: its agent is not connected",
		advice: "rehull etcd prod", free: []string{"retry"},
	},
	{
		name: "certificates that are gone between their upload and the join (F58)", node: "master2",
		gate: "G9",
		during: func(n *night) {
			n.happens("master2", point{"OperationStarted", 3}) // it was removed twice
			n.on("master1", expiredCertificates)
		},
		check: "NodeNew", seen: "master2",
		advice: "rehull migrate retry prod master2 --resubmit",
		free:   []string{"retry", "--resubmit"}, // which uploads them anew
	},
	{
		name: "a new certificate authority on the host that has joined (F52)", node: "master2",
		gate: "G9",
		during: func(n *night) {
			n.ended("prod-add-master2-a2")
			n.otherAuthority("master2")
		},
		check: "IdentityKept", seen: "sa.pub of master2 is not the one that was recorded",
		off: func(n *night) { n.ownAuthority("master2") },
	},
	{
		name: "another node that an upgrade leaves cordoned", node: "master2", gate: "G9",
		on:    func(n *night) { n.on("master1", "kubectl cordon worker1") },
		check: "OthersSchedulable", seen: "cordoned, and were not before: worker1", advice: "kubectl ",
		off: func(n *night) { n.on("master1", "kubectl uncordon worker1") },
	},
	{
		name: "a member that would make a new cluster when its data is lost", node: "master2", gate: "G9",
		on: func(n *night) {
			n.manifest("master2", "etcd", "s#initial-cluster-state=existing#initial-cluster-state=new#")
		},
		check: "EtcdJoinsOnly", seen: "its initial cluster state is new", advice: "ssh 10.77.0.12 grep ",
		off: func(n *night) {
			n.manifest("master2", "etcd", "s#initial-cluster-state=new#initial-cluster-state=existing#")
		},
	},
}

// handOverFaults are those of the first of the inventory.
var handOverFaults = []fault{
	{
		name: "nobody has typed its name", node: "master1", gate: "KubeconfigAdmission",
		check: "FirstControlPlaneApproved", seen: "nobody has approved that master1",
		advice: "rehull migrate approve prod master1 --item",
		off:    func(n *night) { approveFirst(n.T, n.testbed) },
	},
	{
		name: "another writer who puts the order back (F62)", node: "master1", gate: "Reordered",
		during: func(n *night) {
			n.killAlongTheWay("master1", handOverPoints)
			// It applies the order. One that ends at once may never be seen to have started.
			n.happens("master1", point{"OperationSubmitted", 2})
			n.on("mgmt", hostsConf+"-o yaml >/root/after.yaml; "+
				"sed /resourceVersion:/d /root/before.yaml | kubectl replace -f -")
		},
		check: "InventoryReordered", seen: "master1 is the first of kube_control_plane",
		off: func(n *night) {
			n.on("mgmt", "sed /resourceVersion:/d /root/after.yaml | kubectl replace -f -")
		},
	},
	{
		name: "Kubean is led back to the one that goes (F61)", node: "master1", gate: "Reordered",
		on:    func(n *night) { n.kubeanAsks("10.77.0.12", "10.77.0.11") },
		check: "KubeconfigElsewhere", seen: "10.77.0.11",
		off: func(n *night) { n.kubeanAsks("10.77.0.11", "10.77.0.12") },
	},
}

// prefixes sees that a plan names members whose addresses a playbook would mistake for each other (F7):
// it is made of what cannot be changed when a migration has begun.
func (n *night) prefixes() {
	n.Helper()
	const words = "the image looks for the member of master3 (10.77.0.1) in a way that finds that of master1 (10.77.0.11)"
	n.inventory(`s/^\( *ip: \)10.77.0.13$/\110.77.0.1/`)
	plan := n.on("mgmt", "rehull --dir "+cluster.RehullDir+" plan -f /root/migration.yaml || true")
	if !strings.Contains(plan, words) {
		n.Fatalf("the plan does not say that %s: %s", words, plan)
	}
	n.row(fault{name: "an address that is a part of another one (F7)"}, "ClusterPreflight", words)
	n.inventory(`s/^\( *ip: \)10.77.0.1$/\110.77.0.13/`)
}

// controlPlanePoints are the points of a control plane: what comes just before each step that reaches
// out to the world, and just after.
var controlPlanePoints = []point{
	{"NodeStarted", 1}, {"SnapshotRecorded", 1}, {"BackupRecorded", 1}, {"ApiServerSwitched", 1},
	{"InputsPrepared", 1}, {"OperationIntended", 1}, {"OperationSubmitted", 1},
	{"OperationStarted", 1}, {"OperationEnded", 1}, {"OperationArchived", 1}, {"FarewellSaid", 1},
	{"ReinstallAuthorized", 1}, {"InstallerProgressed", 1}, {"AgentEnrolled", 2},
	{"InputsPrepared", 2}, {"OperationIntended", 2}, {"OperationSubmitted", 2},
	{"OperationStarted", 2}, {"OperationEnded", 2}, {"OperationArchived", 2},
}

// handOverPoints are those of the first of the inventory before its inventory is edited.
var handOverPoints = []point{
	{"NodeStarted", 1}, {"InputsPrepared", 1}, {"OperationIntended", 1}, {"OperationSubmitted", 1},
	{"OperationEnded", 1},
}
