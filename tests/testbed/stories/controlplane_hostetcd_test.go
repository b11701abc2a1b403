package stories

import (
	"strings"
	"testing"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
	"rehull.dev/testbed/load"
)

// reorderLostMax is how many requests may fail while the first control plane is replaced. kubespray names
// members by their places: after another order each of them restarts, and whoever asks while the leader
// does waits for an election, or until it gives up. All at once would cost thousands.
const reorderLostMax = 400

// TestControlPlaneHostEtcd: etcd runs as a service of the control planes' hosts, as kubespray deploys it
// unless it is told otherwise. It is seen and backed up like one of static pods, and all control planes
// get another operating system.
func TestControlPlaneHostEtcd(t *testing.T) {
	t.Parallel() // it mostly waits
	testbed := up(t, cluster.Size{ControlPlanes: 3, Workers: 1, HostEtcd: true})
	tellOnFailure(t, testbed)
	if err := cluster.InstallRehull(t.Context(), testbed, programs4rehull(t)); err != nil {
		t.Fatal(err)
	}
	healthy(t, testbed)
	run(t, testbed, "master3", "systemctl", "stop", "etcd")
	awaitEtcd(t, testbed, "master3: ", "nobody speaks for member ")
	run(t, testbed, "master3", "systemctl", "start", "etcd")
	backedUp(t, testbed, "/etc/etcd.env", "/etc/ssl/etcd/ssl/ca-key.pem")

	before := map[string]identity{}
	for _, node := range masters {
		before[node] = identityOf(t, testbed, node)
	}
	authority, etcd := authorities(t, testbed, hostEtcd), etcdCluster(t, testbed)
	operations, quorum := watchOperations(t, testbed), watchQuorum(t, testbed)
	clients, err := load.Start(testbed, load.Options{Rate: 50, Workers: []string{"worker1"},
		Servers: masters})
	if err != nil {
		t.Fatal(err)
	}
	write(t, testbed, "/root/migration.yaml", controlPlanesAlone())
	rehull(t, testbed, "migrate", "start", "-f", "/root/migration.yaml")
	if plan := approveFirst(t, testbed); !strings.Contains(plan, restarts) {
		t.Error("the plan does not say what restarts for the order:", plan)
	}
	proveBackup(t, testbed)
	recorded(t, testbed, "master2", "G5 Removal was passed")
	// Nobody tells the others that it is gone, and that is no reason to wait.
	asks(t, testbed, "master1", "10.77.0.11", "10.77.0.12", "10.77.0.13")
	for _, node := range []string{"master2", "master3"} {
		awaitWithin(t, testbed, controlPlaneTime, node, "Done")
		seen := clients.Lap()
		t.Logf("while %s was replaced: %s", node, seen)
		unnoticed(t, node, seen)
	}
	quorum.verify(t, quorumGapMax)
	awaitWithin(t, testbed, controlPlaneTime, "master1", "Done")
	seen := clients.Stop()
	t.Logf("while master1 was replaced: %s", seen)
	if len(seen.Failed) > reorderLostMax {
		t.Errorf("%d of %d requests failed while master1 was replaced", len(seen.Failed), seen.Total)
	}
	await(t, testbed, "", "Completed")

	for _, node := range masters {
		migrated(t, testbed, node, before[node], ubuntu)
		operations.verify(t, node, "remove-node.yml")
		if state := run(t, testbed, node, "systemctl", "is-active", "etcd"); state != "active" {
			t.Errorf("etcd of %s is %s", node, state)
		}
		run(t, testbed, node, "grep", "-x", "ETCD_INITIAL_CLUSTER_STATE=existing", "/etc/etcd.env")
		asks(t, testbed, node, "10.77.0.12", "10.77.0.13", "10.77.0.11")
	}
	healthy(t, testbed)
	if now := authorities(t, testbed, hostEtcd); now != authority {
		t.Errorf("authorities were\n%s\nand are\n%s", authority, now)
	}
	if now := etcdCluster(t, testbed); now != etcd {
		t.Errorf("etcd was %s, and is %s", etcd, now)
	}
	handedOver(t, testbed)
}

// asks checks which members the API server of a node is told to ask.
func asks(t *testing.T, testbed *hosts.Testbed, node string, addresses ...string) {
	t.Helper()
	want := "--etcd-servers=https://" + strings.Join(addresses, ":2379,https://") + ":2379"
	manifest := run(t, testbed, node, "cat", "/etc/kubernetes/manifests/kube-apiserver.yaml")
	if !strings.Contains(manifest, want+"\n") {
		t.Errorf("the API server of %s does not say %s:\n%s", node, want, manifest)
	}
}

// controlPlanesAlone is the document without the one worker, which is there because no inventory is
// without.
func controlPlanesAlone() []byte {
	return changed(controlPlanes, "  controlPlanes:",
		"  nodes: {exclude: [worker1]}\n  controlPlanes:")
}

// recorded waits until something is in the history of a node.
func recorded(t *testing.T, testbed *hosts.Testbed, node, words string) {
	t.Helper()
	eventually(t, controlPlaneTime, words, func() (string, bool) {
		out := rehull(t, testbed, "history", "prod", node)
		return out, strings.Contains(out, words)
	})
}
