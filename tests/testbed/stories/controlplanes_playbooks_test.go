package stories

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
	"rehull.dev/testbed/load"
)

const (
	controlPlaneLimit = " --limit=etcd,kube_control_plane -e ignore_assert_errors=yes" +
		` -e kube_version=v1.34.4 -e "{drain_nodes: false}" --skip-tags=multus`
	joinControlPlane = "cluster.yml" + controlPlaneLimit
	upgradeCluster   = "upgrade-cluster.yml" + controlPlaneLimit
)

// TestControlPlanePlaybooks is the way of every control plane that rehull will order, walked by hand
// with clients at work. What they notice is logged, not judged: nobody takes care of them here.
func TestControlPlanePlaybooks(t *testing.T) {
	t.Parallel() // it mostly waits
	testbed := up(t, cluster.Size{ControlPlanes: 3, Workers: 1})
	clients, err := load.Start(testbed, load.Options{Rate: 50, Workers: []string{"worker1"},
		Servers: []string{"master1", "master2", "master3"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { clients.Stop() })
	step := func(name string, work func()) {
		t.Helper()
		begun := time.Now()
		work()
		t.Logf("%s: %.0f s\n%s", name, time.Since(begun).Seconds(), clients.Lap())
	}
	w := &walk{T: t, testbed: testbed, first: "master1"}
	w.authorities = w.sums()
	w.endpoint("10.77.0.11")
	step("nothing happens", func() { time.Sleep(10 * time.Second) })

	step("master2 is removed without service facts", func() {
		w.play(removal("master2"))
		w.removed("master2", "10.77.0.12")
		w.survive("master2", "containerd-shim", "kube-apiserver", "kube-controller", "kube-scheduler")
	})
	step("what is left is ended by the operation for people", func() { w.clean("master2") })
	step("master2 is reinstalled", func() { w.reinstall("master2") })
	step("master2 joins", func() { w.play("ping.yml", joinControlPlane) })
	w.whole()
	w.endpoint("10.77.0.11")
	pods := w.staticPods()
	step("the cluster is upgraded", func() { w.play(upgradeCluster, "cluster-info.yml") })
	w.whole()
	// Each master writes its own address, so the last one's stays.
	w.endpoint("10.77.0.13")
	if after := w.staticPods(); after != pods {
		t.Errorf("an upgrade to the same version restarted something: %s\n%s", pods, after)
	}

	step("master2 becomes the first", func() {
		w.reorder()
		w.moveEndpoints("10.77.0.11", "10.77.0.13", "10.77.0.12")
		w.first = "master2"
		w.play("kubeconfig.yml", upgradeCluster+" --forks=1")
	})
	w.endpoint("10.77.0.11") // the last one, which is about to go
	w.edit("kube-system", "kubeadm-config", "controlPlaneEndpoint: ", "10.77.0.11", "10.77.0.12")
	config := run(t, testbed, "mgmt", "kubectl", "-n", "kubean-system", "get", "configmap",
		"prod-kubeconf", "-o", "jsonpath={.data.config}")
	if !strings.Contains(config, "server: https://10.77.0.12:6443") {
		t.Error("the management cluster has this kubeconfig:", config)
	}
	step("master1 is removed with service facts", func() {
		w.play("disable-firewalld.yml --limit=master1", removal("master1"))
		w.removed("master1", "10.77.0.11")
		w.survive("master1")
	})
	step("master1 is reinstalled", func() { w.reinstall("master1") })
	step("master1 joins", func() { w.play("ping.yml", joinControlPlane, "cluster-info.yml") })
	w.whole()
	w.endpoint("10.77.0.12")
	step("all has been done", func() { time.Sleep(10 * time.Second) })
}

func removal(node string) string {
	return "remove-node.yml -e skip_confirmation=true -e node=" + node
}

// walk is how far the story has come.
type walk struct {
	*testing.T
	testbed     *hosts.Testbed
	first       string // of the inventory, and asked
	authorities string
}

func (w *walk) play(lines ...string) {
	w.Helper()
	log := play(w.T, w.testbed, lines...)
	if strings.Contains(log, "rescued=1") {
		w.Error("something was tried twice:", log)
	}
}

func (w *walk) kubectl(args ...string) string {
	w.Helper()
	return run(w.T, w.testbed, w.first, append([]string{"kubectl"}, args...)...)
}

func (w *walk) reinstall(master string) {
	w.Helper()
	if err := w.testbed.Reinstall(master, "ubuntu2204", nil); err != nil {
		w.Fatal(err)
	}
}

// sums are of what a second `kubeadm init` would make anew.
func (w *walk) sums() string {
	w.Helper()
	return run(w.T, w.testbed, w.first, "sh", "-c",
		"cd /etc/kubernetes/ssl && sha256sum ca.crt etcd/ca.crt front-proxy-ca.crt sa.pub")
}

// members of etcd, by the first control plane.
func (w *walk) members() string {
	w.Helper()
	return run(w.T, w.testbed, w.first, "sh", "-c", etcdctlLine+"member list")
}

// removed checks what remove-node.yml promises of a control plane.
func (w *walk) removed(master, address string) {
	w.Helper()
	members := w.members()
	if strings.Contains(members, address+":") || strings.Count(members, ", started, ") != 2 {
		w.Errorf("etcd after the removal of %s:\n%s", master, members)
	}
	if nodes := w.kubectl("get", "nodes", "-o", "name"); strings.Contains(nodes, master) {
		w.Errorf("the node is left: %s", nodes)
	}
	run(w.T, w.testbed, master, "sh", "-c", "! ls -d /etc/kubernetes /var/lib/etcd /var/lib/kubelet"+
		" /var/lib/containerd /usr/local/bin/kubectl /usr/local/bin/etcdctl")
}

// survive checks that of Kubernetes these programs run on a host, and no others.
func (w *walk) survive(master string, names ...string) {
	w.Helper()
	// A member that is removed ends its etcd, at its own time.
	all := []string{"kubelet", "containerd", "containerd-shim", "kube-apiserver", "kube-controller",
		"kube-scheduler", "kube-proxy", "calico-node"}
	after := programs(w.T, w.testbed, master)
	for _, name := range all {
		runs := strings.Contains(after, "\n"+name+"\n")
		wanted := strings.Contains(" "+strings.Join(names, " ")+" ", " "+name+" ")
		if wanted && !runs {
			w.Errorf("%s should have survived on %s: %s", name, master, after)
		}
		if runs && len(names) == 0 {
			w.Errorf("%s survived on %s: %s", name, master, after)
		}
	}
}

// clean ends what a removal has left, by the playbook of deploy: on a host that is named, or not at all.
func (w *walk) clean(master string) {
	w.Helper()
	text, err := os.ReadFile("../../../deploy/coordinator/clean-control-plane.yaml")
	if err != nil {
		w.Fatal(err)
	}
	const name = "clean-control-plane.yml"
	var config struct {
		Data map[string]string `json:"data"`
	}
	first, _, _ := strings.Cut(string(text), "\n---\n")
	if err := yaml.Unmarshal([]byte(first), &config); err != nil || config.Data[name] == "" {
		w.Fatal("no playbook:", err)
	}
	if err := w.testbed.Write(w.Context(), "mgmt", "/kubespray/"+name, 0o644, []byte(config.Data[name])); err != nil {
		w.Fatal(err)
	}
	for _, refused := range []struct{ args, words string }{
		{"", "'node' is undefined"},
		{" -e node=kube_node", "Assertion failed"},
		{" -e node=" + master + ",master3", "Assertion failed"},
		{" -e node=master3", "pgrep"}, // its kubelet lives
	} {
		log, err := cluster.Playbook(w.Context(), w.testbed, name+refused.args)
		if err == nil || !strings.Contains(log+err.Error(), refused.words) {
			w.Errorf("%q was not refused: %v", refused.args, err)
		}
	}
	w.survive(master, "kube-apiserver", "kube-controller", "kube-scheduler")
	w.survive("master3", "kubelet", "kube-apiserver")
	w.play(name + " -e node=" + master)
	after := programs(w.T, w.testbed, master)
	for _, gone := range []string{"kube-apiserver", "kube-controller", "kube-scheduler"} {
		if strings.Contains(after, "\n"+gone+"\n") {
			w.Errorf("%s is left on %s: %s", gone, master, after)
		}
	}
	w.survive("master1", "kube-apiserver")
	w.survive("master3", "kube-apiserver")
}

// whole waits for three healthy voters and Ready nodes, of one and the same cluster as ever.
func (w *walk) whole() {
	w.Helper()
	w.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")
	nodes := w.kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}|{.items[*].spec.unschedulable}")
	if nodes != "master1 master2 master3 worker1|" {
		w.Error("nodes:", nodes)
	}
	eventually(w.T, time.Minute, "three healthy voters", func() (string, bool) {
		health, err := w.testbed.Run(w.Context(), w.first, "sh", "-c",
			etcdctlLine+"endpoint health --cluster -w json")
		if err != nil {
			return err.Error(), false
		}
		var members []struct{ Health bool }
		err = json.Unmarshal([]byte(health), &members)
		known := w.members()
		return health + known, err == nil && len(members) == 3 && members[0].Health &&
			members[1].Health && members[2].Health && strings.Count(known, ", started, ") == 3 &&
			!strings.Contains(known, ", true")
	})
	for _, master := range []string{"master1", "master2", "master3"} {
		w.kubectl("--server=https://"+master+":6443", "--tls-server-name=localhost", "get",
			"--raw=/readyz")
	}
	if now := w.sums(); now != w.authorities {
		w.Errorf("authorities were\n%s\nand are\n%s", w.authorities, now)
	}
}

// endpoint checks where kubeadm looks for the API server.
func (w *walk) endpoint(address string) {
	w.Helper()
	config := w.kubectl("-n", "kube-system", "get", "configmap", "kubeadm-config", "-o",
		"jsonpath={.data.ClusterConfiguration}")
	if !strings.Contains(config, "controlPlaneEndpoint: "+address+":6443") {
		w.Errorf("controlPlaneEndpoint is not %s:\n%s", address, config)
	}
}

// staticPods are the containers of the control planes.
func (w *walk) staticPods() string {
	w.Helper()
	return w.kubectl("-n", "kube-system", "get", "pods", "-l", "tier=control-plane", "-o",
		"jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].containerID}\n{end}")
}

// reorder puts master2 first into every group of the inventory, and master1 last.
func (w *walk) reorder() {
	w.Helper()
	run(w.T, w.testbed, "mgmt", "python3", "-c", `
path = "/etc/testbed/hosts.yml"
text = open(path).read()
old = "        master1:\n        master2:\n        master3:\n"
new = "        master2:\n        master3:\n        master1:\n"
assert text.count(old) == 2, text
open(path, "w").write(text.replace(old, new))`)
}

// moveEndpoints edits what leads joining nodes to a control plane, and waits for the signature of
// cluster-info.
func (w *walk) moveEndpoints(info, config, to string) {
	w.Helper()
	token, _, _ := strings.Cut(run(w.T, w.testbed, w.first, "kubeadm", "token", "create"), ".")
	signature := func() string {
		return w.kubectl("-n", "kube-public", "get", "configmap", "cluster-info", "-o",
			"jsonpath={.data.jws-kubeconfig-"+token+"}")
	}
	var before string
	eventually(w.T, time.Minute, "a signed cluster-info", func() (string, bool) {
		before = signature()
		return before, before != ""
	})
	w.edit("kube-public", "cluster-info", "server: https://", info, to)
	w.edit("kube-system", "kubeadm-config", "controlPlaneEndpoint: ", config, to)
	eventually(w.T, time.Minute, "another signature of cluster-info", func() (string, bool) {
		now := signature()
		return now, now != "" && now != before
	})
}

// edit changes an address in a ConfigMap.
func (w *walk) edit(namespace, name, field, from, to string) {
	w.Helper()
	run(w.T, w.testbed, w.first, "bash", "-euo", "pipefail", "-c", "kubectl -n "+namespace+
		" get configmap "+name+" -o yaml | sed 's#"+field+from+":#"+field+to+
		":#' | kubectl replace -f -")
}
