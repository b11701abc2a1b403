package stories

import (
	_ "embed"
	"fmt"
	"strings"
	"testing"
	"time"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
)

//go:embed network.yaml
var twoPods []byte

// TestNetwork shows that two pods reach one another by all that a cluster's network is made of, and
// that they do not once any part of it is broken: a canary that is Ready proves something.
func TestNetwork(t *testing.T) {
	t.Parallel() // it mostly waits
	testbed := up(t, cluster.Usual)
	err := testbed.Write(t.Context(), "master1", "/root/network.yaml", 0, twoPods)
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, testbed, "apply", "-f", "/root/network.yaml")
	for _, part := range []struct {
		name string
		part func(*testing.T, network)
	}{
		{"each pod reaches the other by name, by Service and by address", reached},
		{"without kube-proxy no Service answers", withoutProxy},
		{"without routes no pod of another node answers", withoutRoutes},
		{"without CoreDNS no name is known", withoutNames},
		{"a pod without containerd keeps its network", withoutContainerd},
		{"an exec probe is stopped in time", slowProbe},
		{"a pod that goes leaves nothing", podGone},
		{"a node that goes takes its route along", nodeGone},
	} {
		t.Run(part.name, func(t *testing.T) { part.part(t, network{t, testbed}) })
	}
}

// network asks and breaks a cluster's network.
type network struct {
	t       *testing.T
	testbed *hosts.Testbed
}

func (n network) on(host, script string) string {
	n.t.Helper()
	return run(n.t, n.testbed, host, "sh", "-c", script)
}

// of asks the cluster for a field of an object.
func (n network) of(object, field string) string {
	n.t.Helper()
	return kubectl(n.t, n.testbed, "get", object, "-o", "jsonpath={"+field+"}")
}

// fetch is what a pod on a host gets from a server, or "".
func (n network) fetch(host, server string) string {
	n.t.Helper()
	return n.on(host, "nsenter -t $(pgrep -xo busybox) -m -n -- timeout 3 busybox wget -q -O - http://"+
		server+"/ || true")
}

// awaitReady waits until a pod is Ready, or is not.
func (n network) awaitReady(pod, status string) {
	n.t.Helper()
	eventually(n.t, time.Minute, "pod "+pod+" Ready="+status, func() (string, bool) {
		seen := n.of("pod/"+pod, `.status.conditions[?(@.type=="Ready")].status`)
		return seen, seen == status
	})
}

func (n network) bothReady() {
	n.t.Helper()
	n.awaitReady("left", "True")
	n.awaitReady("right", "True")
}

func reached(t *testing.T, n network) {
	n.bothReady() // by name, through exec probes
	left, right := n.of("pod/left", ".status.podIP"), n.of("pod/right", ".status.podIP")
	if !strings.HasPrefix(left, "10.233.85.") || !strings.HasPrefix(right, "10.233.86.") {
		t.Errorf("addresses are %s and %s, outside their nodes' ranges", left, right)
	}
	for _, one := range []struct{ from, server, want string }{
		{"worker1", right + ":8080", "worker2"},
		{"worker2", left + ":8080", "worker1"},
		{"worker1", n.of("service/right", ".spec.clusterIP"), "worker2"},
		{"worker2", n.of("service/left", ".spec.clusterIP"), "worker1"},
		{"worker1", left + ":8080", "worker1"},
	} {
		if got := n.fetch(one.from, one.server); got != one.want {
			t.Errorf("the pod on %s gets %q from %s, not %s", one.from, got, one.server, one.want)
		}
	}
	for pod, want := range map[string]string{"left": "worker1", "right": "worker2"} {
		path := "/api/v1/namespaces/default/pods/" + pod + ":8080/proxy/"
		if got := kubectl(t, n.testbed, "get", "--raw", path); got != want {
			t.Errorf("the API server gets %q from pod %s", got, pod)
		}
	}
	seen := n.on("worker1", "nsenter -t $(pgrep -xo busybox) -m -n -- ip -brief addr; cat /etc/resolv.conf")
	if strings.Contains(seen, "10.77.0.21") || strings.Contains(seen, "10.233.0.3") {
		t.Error("pod and host share a network or a resolver:", seen)
	}
}

func withoutProxy(t *testing.T, n network) {
	address, service := n.of("pod/right", ".status.podIP"), n.of("service/right", ".spec.clusterIP")
	n.on("worker1", "pkill -STOP -x kube-proxy; nft flush ruleset")
	if got := n.fetch("worker1", service); got != "" {
		t.Errorf("the Service still answers %q", got)
	}
	if got := n.fetch("worker1", address+":8080"); got != "worker2" {
		t.Errorf("the pod itself answers %q", got)
	}
	n.awaitReady("left", "False")
	n.awaitReady("right", "True")
	n.on("worker1", "pkill -KILL -x kube-proxy") // the next one writes all rules anew
	n.bothReady()
}

func withoutRoutes(t *testing.T, n network) {
	address := n.of("pod/right", ".status.podIP")
	n.on("worker1", "pkill -STOP -x calico-node; ip route flush proto bird")
	if got := n.fetch("worker1", address+":8080"); got != "" {
		t.Errorf("the pod of another node still answers %q", got)
	}
	n.awaitReady("left", "False")
	n.awaitReady("right", "False")
	n.on("worker1", "pkill -CONT -x calico-node")
	n.bothReady()
}

func withoutNames(t *testing.T, n network) {
	const deployment = "deployment/coredns"
	kubectl(t, n.testbed, "-n", "kube-system", "scale", deployment, "--replicas=0")
	n.awaitReady("left", "False")
	n.awaitReady("right", "False")
	if got := n.fetch("worker1", n.of("service/right", ".spec.clusterIP")); got != "worker2" {
		t.Errorf("the Service itself answers %q", got)
	}
	kubectl(t, n.testbed, "-n", "kube-system", "scale", deployment, "--replicas=2")
	n.bothReady()
}

func withoutContainerd(t *testing.T, n network) {
	address := n.of("pod/left", ".status.podIP")
	n.on("worker1", "systemctl stop containerd")
	if got := n.fetch("worker2", address+":8080"); got != "worker1" {
		t.Errorf("a pod without containerd answers %q", got)
	}
	n.on("worker1", "systemctl start containerd")
	n.bothReady()
	if now := n.of("pod/left", ".status.podIP"); now != address {
		t.Errorf("the pod has %s, and had %s", now, address)
	}
}

func slowProbe(t *testing.T, n network) {
	manifest := `
apiVersion: v1
kind: Pod
metadata: {name: slow, namespace: default}
spec:
  nodeName: worker1
  terminationGracePeriodSeconds: 0
  containers:
    - name: slow
      image: docker.io/library/busybox:1.36
      command: [sleep, "600"]
      readinessProbe: {exec: {command: [sh, -c, "sleep 77; true"]}, timeoutSeconds: 1, periodSeconds: 1}
`
	err := n.testbed.Write(t.Context(), "master1", "/root/slow.yaml", 0, []byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, n.testbed, "apply", "-f", "/root/slow.yaml")
	eventually(t, time.Minute, "three probes that took too long", func() (string, bool) {
		seen := kubectl(t, n.testbed, "get", "events", "--field-selector",
			"involvedObject.name=slow,reason=Unhealthy", "-o", "jsonpath={.items[*].count}")
		var count int
		_, err := fmt.Sscan(seen, &count)
		return seen, err == nil && count >= 3
	})
	if left := n.on("worker1", "pgrep -xf 'sleep 77' || true"); strings.Contains(left, "\n") {
		t.Error("the commands of probes that were given up go on:", left)
	}
	kubectl(t, n.testbed, "delete", "pod", "slow")
}

func podGone(t *testing.T, n network) {
	route := "ip route show " + n.of("pod/left", ".status.podIP")
	card := strings.Fields(n.on("worker1", route))[2]
	networks := n.on("worker1", "ip netns list | wc -l")
	kubectl(t, n.testbed, "delete", "pod", "left")
	eventually(t, time.Minute, "no card and no route", func() (string, bool) {
		seen := n.on("worker1", route+"; ip -brief link | grep '^"+card+"@' || true")
		return seen, seen == ""
	})
	if now := n.on("worker1", "ip netns list | wc -l"); now == networks {
		t.Error("there are as many networks as before:", now)
	}
}

func nodeGone(t *testing.T, n network) {
	routes := func() string { return n.on("worker1", "ip route show proto bird") }
	if seen := routes(); !strings.Contains(seen, "10.233.86.0/24 via 10.77.0.22") {
		t.Error("no route to the pods of worker2:", seen)
	}
	kubectl(t, n.testbed, "delete", "node", "worker2")
	eventually(t, time.Minute, "no route to the pods of worker2", func() (string, bool) {
		seen := routes()
		return seen, !strings.Contains(seen, "10.233.86.0/24")
	})
}
