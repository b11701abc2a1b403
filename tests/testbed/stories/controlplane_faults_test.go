package stories

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
)

// TestControlPlaneFaults: what goes wrong around one control plane holds it before the next
// irreversible step, and is named; or rehull mends it by itself, by an order that names what it is for.
func TestControlPlaneFaults(t *testing.T) {
	t.Parallel() // it mostly waits
	testbed := up(t, cluster.Size{ControlPlanes: 3})
	tellOnFailure(t, testbed)
	if err := cluster.InstallRehull(t.Context(), testbed, programs4rehull(t)); err != nil {
		t.Fatal(err)
	}
	keepBackups(t, testbed)
	healthy(t, testbed)

	// F56, F57: everything leads to the one that goes. F54: and it leads etcd.
	lead(t, testbed, "10.77.0.12")
	leadEtcd(t, testbed, "10.77.0.12")
	// F54: a learner that somebody has left behind: no member may go beside it.
	addLearner(t, testbed)
	write(t, testbed, "/root/migration.yaml", controlPlanes)
	rehull(t, testbed, "migrate", "start", "-f", "/root/migration.yaml")
	told(t, testbed, "", "EtcdHealthy", "is a learner: it has no vote yet")
	removeStray(t, testbed)

	// E2, F5: etcdctl finds no member, so the playbook removes none, and succeeds.
	run(t, testbed, "master1", "sh", "-c", "mv /usr/local/bin/etcdctl /usr/local/bin/etcdctl.real && "+
		"printf '#!/bin/sh\\ncase \" $* \" in *\" member list \"*) exit 0;; esac\\n"+
		"exec /usr/local/bin/etcdctl.real \"$@\"\\n' >/usr/local/bin/etcdctl && chmod 755 /usr/local/bin/etcdctl")
	recorded(t, testbed, "master2", "ConfigMap kube-public/cluster-info leads to 10.77.0.11:6443")
	recorded(t, testbed, "master2", "ConfigMap kube-system/kubeadm-config leads to 10.77.0.11:6443")
	recorded(t, testbed, "master2", "it leads etcd no more")
	recorded(t, testbed, "master2", "its member of etcd outlived the removal")
	run(t, testbed, "master1", "mv", "/usr/local/bin/etcdctl.real", "/usr/local/bin/etcdctl")

	// F54: a second member is lost while the first is away. Nothing goes on, and nothing is tried.
	manifest := "/etc/kubernetes/manifests/etcd.yaml"
	run(t, testbed, "master3", "mv", manifest, "/root/etcd.yaml")
	told(t, testbed, "master2", "EtcdHealthy", "master3: ")
	eventually(t, migrationLimit, "master2 is held", func() (string, bool) {
		state := explain(t, testbed, "master2")
		return state.State, state.isHeld()
	})
	run(t, testbed, "master3", "mv", "/root/etcd.yaml", manifest)
	eventually(t, time.Minute, "two members are well", func() (string, bool) {
		said := rehull(t, testbed, "status")
		return said, strings.Contains(said, "etcd is: healthy: 2 voters")
	})
	time.Sleep(20 * time.Second)
	if joins := run(t, testbed, "mgmt", "kubectl", "get", "clusteroperations", "-o", "name"); strings.Contains(joins, "add-master2") {
		t.Errorf("it went on without anybody's word:\n%s", joins)
	}
	rehull(t, testbed, "migrate", "retry", "prod", "master2")
	awaitWithin(t, testbed, controlPlaneTime, "master2", "Done")
	healthy(t, testbed)
}

// lead lets cluster-info and kubeadm-config lead to an address.
func lead(t *testing.T, testbed *hosts.Testbed, address string) {
	t.Helper()
	for _, object := range []string{"kube-public configmap cluster-info", "kube-system configmap kubeadm-config"} {
		words := strings.Fields(object)
		script := fmt.Sprintf("kubectl -n %s get %s %s -o yaml | sed -E 's#(server: https://|"+
			"controlPlaneEndpoint: )[0-9.]+:6443#\\1%s:6443#' | kubectl replace -f -", words[0], words[1], words[2], address)
		run(t, testbed, "master1", "sh", "-c", script)
	}
}

// leadEtcd moves the leadership to the member at an address.
func leadEtcd(t *testing.T, testbed *hosts.Testbed, address string) {
	t.Helper()
	var id string
	for line := range strings.Lines(etcdctl(t, testbed, "member list")) {
		if strings.Contains(line, "https://"+address+":2380") {
			id = strings.Split(line, ",")[0]
		}
	}
	all := "--endpoints=https://10.77.0.11:2379,https://10.77.0.12:2379,https://10.77.0.13:2379 "
	line := strings.Replace(etcdctlLine, "--endpoints=https://127.0.0.1:2379 ", all, 1)
	run(t, testbed, "master1", "sh", "-c", line+"move-leader "+id)
}

// addLearner adds a member that never starts. etcd adds nobody while another has just come back.
func addLearner(t *testing.T, testbed *hosts.Testbed) {
	t.Helper()
	run(t, testbed, "master1", "sh", "-c", "for i in $(seq 30); do "+etcdctlLine+
		"member add stray --peer-urls=https://10.77.0.99:2380 --learner && exit; sleep 1; done; exit 1")
}

// told waits until rehull names a check of a node, or of the cluster, with these words.
func told(t *testing.T, testbed *hosts.Testbed, node, check, words string) {
	t.Helper()
	eventually(t, controlPlaneTime, check+": "+words, func() (string, bool) {
		line := strings.Fields("rehull --dir " + cluster.RehullDir + " explain prod " + node)
		out, err := testbed.Run(t.Context(), "mgmt", line...)
		if err != nil {
			return err.Error(), false
		}
		for row := range strings.Lines(out) {
			if strings.Contains(row, check) && strings.Contains(row, words) {
				t.Logf("%s %s", node, strings.TrimSpace(row))
				return out, true
			}
		}
		return out, false
	})
}

// recorded waits until something is in the history of a node.
func recorded(t *testing.T, testbed *hosts.Testbed, node, words string) {
	t.Helper()
	eventually(t, controlPlaneTime, words, func() (string, bool) {
		out := rehull(t, testbed, "history", "prod", node)
		return out, strings.Contains(out, words)
	})
	t.Logf("%s: %s", node, words)
}
