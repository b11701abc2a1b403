package stories

import (
	_ "embed"
	"fmt"
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

// TestWorker is the main story: a worker gets another operating system, and the coordinator is
// killed at every point on its way. Nothing is lost and nothing is done twice.
func TestWorker(t *testing.T) {
	t.Parallel() // it mostly waits
	testbed := begun(t, cluster.Usual.Workers, migration)
	before := identityOf(t, testbed, "worker1")
	budgets, operations := watchBudgets(t, testbed), watchOperations(t, testbed)
	rehull(t, testbed, "migrate", "start", "-f", "/root/migration.yaml")
	killAtEveryPoint(t, testbed)
	await(t, testbed, "worker1", "Done")
	migrated(t, testbed, "worker1", before, ubuntu)
	budgets.verify(t)
	operations.verify(t, "worker1", "remove-node.yml", "scale.yml")
}

// begun is a testbed in use, with rehull on it and a migration ready to start.
func begun(t *testing.T, workers int, migration []byte) *hosts.Testbed {
	t.Helper()
	testbed := up(t, cluster.Size{ControlPlanes: 1, Workers: workers})
	tellOnFailure(t, testbed)
	if err := cluster.InstallRehull(t.Context(), testbed, programs4rehull(t)); err != nil {
		t.Fatal(err)
	}
	rights := filepath.Join(cache(t), "..", "..", "..", "deploy", "coordinator", "rbac-workload.yaml")
	text, err := os.ReadFile(rights)
	if err != nil {
		t.Fatal(err)
	}
	write(t, testbed, "/root/rbac-workload.yaml", text)
	run(t, testbed, "mgmt", "kubectl", "--kubeconfig", "/root/workload.conf", "apply", "-f",
		"/root/rbac-workload.yaml")
	use(t, testbed, workers)
	write(t, testbed, "/root/migration.yaml", migration)
	return testbed
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
func use(t *testing.T, testbed *hosts.Testbed, workers int) {
	t.Helper()
	for number := 1; number <= workers; number++ {
		node := fmt.Sprint("worker", number)
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

// killAtEveryPoint kills the coordinator with -9 when the world, not rehull, shows that it has come
// to a certain point, and starts it again.
func killAtEveryPoint(t *testing.T, testbed *hosts.Testbed) {
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
		{"the reinstall has begun", func() (string, bool) {
			host, err := testbed.Host("worker1")
			return fmt.Sprint(host.Order, err), host.Order.ID != ""
		}},
		{"worker1 is reinstalled", func() (string, bool) {
			host, err := testbed.Host("worker1")
			return fmt.Sprint(host.Order, err), host.Profile == "ubuntu2204"
		}},
		{"the join is ordered", operation("scale.yml", "")},
	} {
		eventually(t, migrationLimit, point.name, point.look)
		run(t, testbed, "mgmt", "pkill", "-9", "-x", "rehull")
		run(t, testbed, "mgmt", "systemctl", "restart", "rehull")
		t.Log(time.Now().Format(time.TimeOnly), "killed and started:", point.name)
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

// await waits until rehull calls a node so, or with "" the cluster; when it does not, rehull's own
// explanation is shown.
func await(t *testing.T, testbed *hosts.Testbed, node, phase string) {
	t.Helper()
	awaitWithin(t, testbed, migrationLimit, node, phase)
}

func awaitWithin(t *testing.T, testbed *hosts.Testbed, limit time.Duration, node, phase string) {
	t.Helper()
	eventually(t, limit, node+" "+phase, func() (string, bool) {
		line := strings.Fields("rehull --dir " + cluster.RehullDir + " explain prod " + node)
		out, err := testbed.Run(t.Context(), "mgmt", line...)
		if err != nil {
			return err.Error(), false
		}
		return out, strings.Contains(out, " is "+phase)
	})
}
