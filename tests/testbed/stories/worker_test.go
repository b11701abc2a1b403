package stories

import (
	_ "embed"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
)

//go:embed workloads.yaml
var workloads []byte

//go:embed migration.yaml
var migration []byte

const migrationLimit = 10 * time.Minute

// TestWorker is the main story: two workers get another operating system, the coordinator is
// killed five times on the way, and the second worker's removal lies twice.
func TestWorker(t *testing.T) {
	testbed := up(t)
	if err := cluster.InstallRehull(t.Context(), testbed, programs4rehull(t)); err != nil {
		t.Fatal(err)
	}
	use(t, testbed)
	first, second := identityOf(t, testbed, "worker1"), identityOf(t, testbed, "worker2")
	budgets := watchBudgets(t, testbed)
	lie(t, testbed, "worker2")
	write(t, testbed, "/root/migration.yaml", migration)
	rehull(t, testbed, "migrate", "start", "-f", "/root/migration.yaml")

	t.Run("killed five times, nothing is lost and nothing done twice", func(t *testing.T) {
		killFiveTimes(t, testbed)
		await(t, testbed, "worker1", "Done")
		migrated(t, testbed, "worker1", first)
	})
	t.Run("a removal that lies is held at its gate and released by a person", func(t *testing.T) {
		await(t, testbed, "worker2", "Held")
		words := rehull(t, testbed, "explain", "prod", "worker2")
		for _, want := range []string{"Node", "kubelet"} {
			if !strings.Contains(words, want) {
				t.Errorf("explain does not name %s: %s", want, words)
			}
		}
		kubectl(t, testbed, "delete", "node", "worker2")
		honest(t, testbed, "worker2")
		run(t, testbed, "worker2", "systemctl", "stop", "kubelet")
		rehull(t, testbed, "migrate", "retry", "prod", "worker2")
		await(t, testbed, "worker2", "Done")
		migrated(t, testbed, "worker2", second)
	})
	budgets.verify(t)
	for _, action := range []string{"remove-node.yml", "scale.yml"} {
		if ops := operations(t, testbed, action); len(ops) != 2 {
			t.Errorf("%s was ordered %d times for two workers: %v", action, len(ops), ops)
		}
	}
}

// programs4rehull finds the built binaries: $REHULL_BIN, or the workspace's debug build.
func programs4rehull(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("REHULL_BIN"); dir != "" {
		return dir
	}
	return filepath.Join(cache(t), "..", "..", "..", "target", "debug")
}

// use gives the cluster something to lose: workloads with budgets, labels and a taint on workers.
func use(t *testing.T, testbed *hosts.Testbed) {
	t.Helper()
	for _, node := range []string{"worker1", "worker2"} {
		kubectl(t, testbed, "label", "node", node, "example.com/rack=r-"+node)
		kubectl(t, testbed, "annotate", "node", node, "example.com/owner=storage")
	}
	kubectl(t, testbed, "taint", "node", "worker1", "dedicated=db:PreferNoSchedule")
	err := testbed.Write(t.Context(), "master1", "/root/workloads.yaml", 0, workloads)
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, testbed, "apply", "-f", "/root/workloads.yaml")
	kubectl(t, testbed, "rollout", "status", "deployment/web", "--timeout=60s")
	kubectl(t, testbed, "rollout", "status", "statefulset/db", "--timeout=60s")
}

// lie makes a node's removal succeed while the Node stays and the kubelet goes on.
func lie(t *testing.T, testbed *hosts.Testbed, node string) {
	t.Helper()
	if err := cluster.HideNode(t.Context(), testbed, node); err != nil {
		t.Fatal(err)
	}
	if err := cluster.IgnoreStop(t.Context(), testbed, node, "kubelet.service"); err != nil {
		t.Fatal(err)
	}
}

func honest(t *testing.T, testbed *hosts.Testbed, node string) {
	t.Helper()
	if err := cluster.ShowNodes(t.Context(), testbed); err != nil {
		t.Fatal(err)
	}
	if err := cluster.HonourStop(t.Context(), testbed, node, "kubelet.service"); err != nil {
		t.Fatal(err)
	}
}

// killFiveTimes kills the coordinator with -9 when the world, not rehull, shows that it has come
// to a certain point, and starts it again.
func killFiveTimes(t *testing.T, testbed *hosts.Testbed) {
	t.Helper()
	operation := func(action, status string) func() (string, bool) {
		return func() (string, bool) {
			out := run(t, testbed, "mgmt", "kubectl", "get", "clusteroperations", "-o",
				`jsonpath={range .items[*]}{.spec.action}={.status.status} {end}`)
			return out, strings.Contains(out, action+"="+status)
		}
	}
	for _, point := range []struct {
		name string
		look func() (string, bool)
	}{
		{"worker1 is cordoned", func() (string, bool) {
			out := kubectl(t, testbed, "get", "node", "worker1", "-o",
				"jsonpath={.spec.unschedulable}")
			return out, out == "true"
		}},
		{"the removal is ordered", operation("remove-node.yml", "")},
		{"the removal has ended", operation("remove-node.yml", "Succeeded")},
		{"worker1 is reinstalled", func() (string, bool) {
			host, err := testbed.Host("worker1")
			return host.Profile, err == nil && host.Profile == "ubuntu2204"
		}},
		{"the join is ordered", operation("scale.yml", "")},
	} {
		eventually(t, migrationLimit, point.name, point.look)
		run(t, testbed, "mgmt", "pkill", "-9", "-x", "rehull")
		run(t, testbed, "mgmt", "systemctl", "restart", "rehull")
		t.Log("killed and started:", point.name)
	}
}

func rehull(t *testing.T, testbed *hosts.Testbed, args ...string) string {
	t.Helper()
	line := append([]string{"rehull", "--dir", cluster.RehullDir}, args...)
	return run(t, testbed, "mgmt", line...)
}

func write(t *testing.T, testbed *hosts.Testbed, path string, text []byte) {
	t.Helper()
	if err := testbed.Write(t.Context(), "mgmt", path, 0, text); err != nil {
		t.Fatal(err)
	}
}

// await waits until rehull calls a node so; when it does not, rehull's own explanation is shown.
func await(t *testing.T, testbed *hosts.Testbed, node, phase string) {
	t.Helper()
	eventually(t, migrationLimit, node+" "+phase, func() (string, bool) {
		out, err := testbed.Run(t.Context(), "mgmt", "rehull", "--dir", cluster.RehullDir,
			"explain", "prod", node)
		if err != nil {
			return err.Error(), false
		}
		return out, strings.Contains(out, phase)
	})
}
