package stories

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	policy "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
	"rehull.dev/testbed/kubean"
)

// budgetWatch sees every state of every PodDisruptionBudget, apart from rehull.
type budgetWatch struct {
	lock   sync.Mutex
	broken []string
	seen   int
}

// watchBudgets watches until the test ends.
func watchBudgets(t *testing.T, testbed *hosts.Testbed) *budgetWatch {
	t.Helper()
	client, err := cluster.Workload(testbed)
	if err != nil {
		t.Fatal(err)
	}
	w := &budgetWatch{}
	budgets := client.PolicyV1().PodDisruptionBudgets("")
	go func() {
		for t.Context().Err() == nil {
			events, err := budgets.Watch(t.Context(), metav1.ListOptions{})
			if err != nil {
				continue
			}
			for event := range events.ResultChan() {
				if budget, ok := event.Object.(*policy.PodDisruptionBudget); ok {
					w.look(budget)
				}
			}
		}
	}()
	return w
}

func (w *budgetWatch) look(budget *policy.PodDisruptionBudget) {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.seen++
	status := budget.Status
	if status.CurrentHealthy < status.DesiredHealthy {
		w.broken = append(w.broken, fmt.Sprintf("%s: %d healthy, %d wanted", budget.Name,
			status.CurrentHealthy, status.DesiredHealthy))
	}
}

// verify fails the test when a budget was ever violated, or when nothing was watched.
func (w *budgetWatch) verify(t *testing.T) {
	t.Helper()
	w.lock.Lock()
	defer w.lock.Unlock()
	if w.seen == 0 {
		t.Error("the watch of budgets saw nothing")
	}
	if len(w.broken) > 0 {
		t.Error("budgets were violated:", strings.Join(w.broken, "; "))
	}
}

// identity is what must or must not change of a node, read from the API and from the host itself.
type identity struct {
	uid, machineID, bootID, osImage string
	kept                            string
}

func identityOf(t *testing.T, testbed *hosts.Testbed, node string) identity {
	t.Helper()
	client, err := cluster.Workload(testbed)
	if err != nil {
		t.Fatal(err)
	}
	object, err := client.CoreV1().Nodes().Get(context.Background(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	info := object.Status.NodeInfo
	kept := fmt.Sprint(object.Name, object.Status.Addresses, info.KubeletVersion, info.SystemUUID,
		object.Labels, object.Spec.Taints, object.Spec.Unschedulable,
		run(t, testbed, node, "cat", "/sys/class/net/eth0/address"))
	return identity{uid: string(object.UID), kept: kept, osImage: info.OSImage,
		machineID: run(t, testbed, node, "cat", "/etc/machine-id"),
		bootID:    run(t, testbed, node, "cat", "/proc/sys/kernel/random/boot_id")}
}

// ubuntu is what a Node shows of the target that the stories migrate to.
const ubuntu = "Ubuntu 22.04.4 LTS"

// migrated compares a node with what it was, and its system with what was wanted.
func migrated(t *testing.T, testbed *hosts.Testbed, node string, before identity, system string) {
	t.Helper()
	after := identityOf(t, testbed, node)
	if after.kept != before.kept {
		t.Errorf("%s changed:\n%s\nwas\n%s", node, after.kept, before.kept)
	}
	if after.uid == before.uid || after.machineID == before.machineID ||
		after.bootID == before.bootID {
		t.Errorf("%s was not reinstalled: %+v, was %+v", node, after, before)
	}
	if after.osImage != system {
		t.Errorf("%s runs %s", node, after.osImage)
	}
}

// operationWatch sees every ClusterOperation that was ever created, apart from rehull: a list would
// not show one that was deleted again.
type operationWatch struct {
	lock sync.Mutex
	seen map[string]kubean.Operation
}

// watchOperations watches until the test ends.
func watchOperations(t *testing.T, testbed *hosts.Testbed) *operationWatch {
	t.Helper()
	config, err := cluster.API(testbed, cluster.ManagementConfig(testbed.Dir))
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubean.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	w := &operationWatch{seen: map[string]kubean.Operation{}}
	go func() {
		for t.Context().Err() == nil {
			options := &metav1.ListOptions{Watch: true}
			events, err := client.Get().Resource("clusteroperations").
				VersionedParams(options, metav1.ParameterCodec).Watch(t.Context())
			if err != nil {
				continue
			}
			for event := range events.ResultChan() {
				if operation, ok := event.Object.(*kubean.Operation); ok {
					w.lock.Lock()
					w.seen[string(operation.UID)] = *operation
					w.lock.Unlock()
				}
			}
		}
	}()
	return w
}

// of lists what was ever created with this action for a node, with what it said last.
func (w *operationWatch) of(node, action string) []string {
	w.lock.Lock()
	defer w.lock.Unlock()
	var found []string
	for _, operation := range w.seen {
		if operation.Spec.Action.Action == action && strings.Contains(operation.Name, node) {
			found = append(found, operation.Name+" "+string(operation.Status.Status))
		}
	}
	return found
}

// verify fails the test unless each of these was ordered exactly once for the node and says that
// it succeeded, and nothing else was ordered for it.
func (w *operationWatch) verify(t *testing.T, node string, actions ...string) {
	t.Helper()
	for _, action := range []string{"remove-node.yml", "scale.yml"} {
		got := w.of(node, action)
		switch {
		case !slices.Contains(actions, action):
			if len(got) > 0 {
				t.Errorf("%s was ordered: %q", action, got)
			}
		case len(got) != 1 || !strings.HasSuffix(got[0], " Succeeded"):
			t.Errorf("%s was not ordered once, with success: %q", action, got)
		}
	}
}
