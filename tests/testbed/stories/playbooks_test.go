package stories

import (
	"strings"
	"testing"
	"time"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
)

// TestAWorkerGoesAndComesByPlaybooksAlone is the way that rehull will order, walked by hand.
func TestAWorkerGoesAndComesByPlaybooksAlone(t *testing.T) {
	t.Parallel() // it mostly waits
	testbed := up(t, cluster.Usual)
	for _, part := range []struct {
		name string
		part func(*testing.T, *hosts.Testbed)
	}{
		{"without service facts the containers survive", survivors},
		{"a reinstalled worker comes back as another system", comeBack},
		{"with service facts nothing survives", clean},
		{"an unlisted node stays and the play succeeds", unlisted},
		{"a stop that is ignored leaves the kubelet", ignoredStop},
	} {
		t.Run(part.name, func(t *testing.T) { part.part(t, testbed) })
	}
}

const removeFirst = "remove-node.yml -e node=worker1 -e skip_confirmation=true"

func survivors(t *testing.T, testbed *hosts.Testbed) {
	log := play(t, testbed, removeFirst)
	after := programs(t, testbed, "worker1")
	for _, gone := range []string{"kubelet", "containerd"} {
		if strings.Contains(after, "\n"+gone+"\n") {
			t.Error(gone, "still runs")
		}
	}
	for _, left := range []string{"containerd-shim", "kube-proxy", "nginx", "calico-node"} {
		if !strings.Contains(after, "\n"+left+"\n") {
			t.Error(left, "should have survived (kubespray#11627); there are:", after)
		}
	}
	nodes := kubectl(t, testbed, "get", "nodes", "-o", "name")
	if strings.Contains(nodes, "worker1") {
		t.Errorf("the node is left: %s\n%s", nodes, log)
	}
	run(t, testbed, "worker1", "sh", "-c",
		"! ls -d /etc/kubernetes /var/lib/kubelet /var/lib/containerd /etc/cni")
}

func comeBack(t *testing.T, testbed *hosts.Testbed) {
	if err := testbed.Reinstall("worker1", "ubuntu2204", nil); err != nil {
		t.Fatal(err)
	}
	log := play(t, testbed, "ping.yml", "scale.yml --limit=worker1 -e kube_version=v1.34.4")
	if strings.Contains(log, "rescued=1") {
		t.Error("the first join failed:", log)
	}
	awaitReadyNode(t, testbed, "worker1")
	image := kubectl(t, testbed, "get", "node", "worker1", "-o", "jsonpath="+
		"{.status.nodeInfo.osImage} {.status.nodeInfo.kubeletVersion} "+
		"{.status.addresses[0].address}")
	if image != "Ubuntu 22.04.4 LTS v1.34.4 10.77.0.21" {
		t.Error("worker1 came back as", image)
	}
	reported := kubectl(t, testbed, "get", "node", "worker1", "-o",
		"jsonpath={.status.nodeInfo.machineID} {.status.nodeInfo.bootID}")
	own := run(t, testbed, "worker1", "cat", "/etc/machine-id", "/proc/sys/kernel/random/boot_id")
	if strings.Fields(own)[0]+" "+strings.Fields(own)[1] != reported {
		t.Errorf("the node reports %s, the host has %s", reported, own)
	}
}

func clean(t *testing.T, testbed *hosts.Testbed) {
	play(t, testbed, "disable-firewalld.yml --limit=worker1", removeFirst)
	after := programs(t, testbed, "worker1")
	gone := []string{"kubelet", "containerd", "containerd-shim", "kube-proxy", "nginx"}
	for _, gone := range gone {
		if strings.Contains(after, "\n"+gone+"\n") {
			t.Error(gone, "still runs:", after)
		}
	}
	left := run(t, testbed, "worker1", "sh", "-c",
		"ip netns list; ip -brief link | grep ^cali; ip route show proto bird; nft list ruleset")
	if left != "" {
		t.Error("the pods' network is left:", left)
	}
	play(t, testbed, "scale.yml --limit=worker1")
	awaitReadyNode(t, testbed, "worker1")
}

func unlisted(t *testing.T, testbed *hosts.Testbed) {
	kubectl(t, testbed, "run", "survivor", "--image=busybox", "--overrides",
		`{"spec":{"nodeName":"worker2"}}`, "--command", "--", "busybox", "httpd", "-f", "-p", "8080",
		"-h", "/etc")
	kubectl(t, testbed, "wait", "--for=condition=Ready", "pod/survivor", "--timeout=60s")
	address := kubectl(t, testbed, "get", "pod", "survivor", "-o", "jsonpath={.status.podIP}")
	if err := cluster.HideNode(t.Context(), testbed, "worker2"); err != nil {
		t.Fatal(err)
	}
	play(t, testbed, strings.Replace(removeFirst, "worker1", "worker2", 1))
	if err := cluster.ShowNodes(t.Context(), testbed); err != nil {
		t.Fatal(err)
	}
	kubectl(t, testbed, "get", "node", "worker2")
	name := run(t, testbed, "master1", "timeout", "3", "busybox", "wget", "-q", "-O", "-",
		"http://"+address+":8080/hostname")
	if name != "worker2" {
		t.Errorf("the pod that survived answers %q", name)
	}
}

func ignoredStop(t *testing.T, testbed *hosts.Testbed) {
	if err := cluster.IgnoreStop(t.Context(), testbed, "worker1", "kubelet.service"); err != nil {
		t.Fatal(err)
	}
	play(t, testbed, removeFirst)
	if after := programs(t, testbed, "worker1"); !strings.Contains(after, "\nkubelet\n") {
		t.Error("no kubelet is left:", after)
	}
	if err := cluster.HonourStop(t.Context(), testbed, "worker1", "kubelet.service"); err != nil {
		t.Fatal(err)
	}
	run(t, testbed, "worker1", "systemctl", "stop", "kubelet")
	if after := programs(t, testbed, "worker1"); strings.Contains(after, "\nkubelet\n") {
		t.Error("the kubelet outlived the operator's own stop:", after)
	}
}

func awaitReadyNode(t *testing.T, testbed *hosts.Testbed, node string) {
	t.Helper()
	eventually(t, time.Minute, node+" Ready", func() (string, bool) {
		seen, err := cluster.Kubectl(t.Context(), testbed, "get", "node", node, "-o",
			`jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err != nil {
			seen = err.Error()
		}
		return seen, seen == "True"
	})
}
