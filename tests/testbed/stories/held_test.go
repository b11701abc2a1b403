package stories

import (
	"encoding/json"
	"strings"
	"testing"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
)

// TestHeld is the story of a removal that says Succeeded while the Node stays and a kubelet goes
// on: it is held at its gate with the right words, nothing that cannot be undone is done, and the
// person who does what the words say releases it.
func TestHeld(t *testing.T) {
	t.Parallel() // it mostly waits
	testbed := begun(t, cluster.Usual.Workers, migration)
	before, disk := identityOf(t, testbed, "worker1"), diskOf(t, testbed, "worker1")
	operations := watchOperations(t, testbed)
	lie(t, testbed, "worker1")
	rehull(t, testbed, "migrate", "start", "-f", "/root/migration.yaml")
	await(t, testbed, "worker1", "Held")
	operations.verify(t, "worker1", "remove-node.yml")
	told := explain(t, testbed, "worker1")
	if !strings.HasPrefix(told.Gate, "G5 Removal:") {
		t.Error("held at gate", told.Gate)
	}
	told.contradicted(t, "NodeAbsent", "Node worker1 exists")
	told.contradicted(t, "KubeletStopped", "kubelet")
	told.advises(t, "ssh 10.77.0.21 systemctl stop kubelet")
	told.advises(t, "rehull migrate resolve prod worker1 --delete-node")
	held(t, testbed)
	now := identityOf(t, testbed, "worker1")
	if now.uid != before.uid || now.machineID != before.machineID || now.bootID != before.bootID {
		t.Errorf("worker1 is held, and yet it is another one: %+v, was %+v", now, before)
	}
	if now := diskOf(t, testbed, "worker1"); now != disk {
		t.Errorf("worker1 is held, and yet its disk is another one: %+v, was %+v", now, disk)
	}

	honest(t, testbed, "worker1")
	run(t, testbed, "worker1", "systemctl", "stop", "kubelet")
	rehull(t, testbed, "migrate", "resolve", "prod", "worker1", "--delete-node")
	await(t, testbed, "worker1", "Done")
	migrated(t, testbed, "worker1", before, ubuntu)
	operations.verify(t, "worker1", "remove-node.yml", "scale.yml")
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

// held checks that scripts see it, too, and that nobody else has begun.
func held(t *testing.T, testbed *hosts.Testbed) {
	t.Helper()
	out := run(t, testbed, "mgmt", "sh", "-c", "rehull --dir "+cluster.RehullDir+
		" status --exit-code; echo exit $?")
	if !strings.HasSuffix(out, "exit 5") {
		t.Error("status --exit-code does not say that something is held:", out)
	}
	if !strings.Contains(out, "etcd is: healthy: 1 voter, 0 could be lost, master1 leads") {
		t.Error("status does not say how etcd is:", out)
	}
	if other := explain(t, testbed, "worker2"); other.State != "Planned" {
		t.Error("worker2 has passed a node that is held: it is", other.State)
	}
}

// disk is which installation a host has, as the machine below knows it.
type disk struct {
	generation int
	profile    string
	order      string
}

func diskOf(t *testing.T, testbed *hosts.Testbed, host string) disk {
	t.Helper()
	status, err := testbed.Host(host)
	if err != nil {
		t.Fatal(err)
	}
	return disk{status.Generation, status.Profile, status.Order.ID}
}

// explained is what `rehull explain` says of a node, or of the cluster.
type explained struct {
	State, Gate string
	WaitsFor    string `json:"waits_for"`
	Needs       []need
	Unblock     []string
}

// need is what one witness says of one statement.
type need struct{ Check, Source, Verdict, Seen string }

func explain(t *testing.T, testbed *hosts.Testbed, node string) explained {
	t.Helper()
	line := strings.Fields("--output json explain prod " + node)
	out := rehull(t, testbed, line...)
	var told explained
	if err := json.Unmarshal([]byte(out), &told); err != nil {
		t.Fatalf("rehull explain: %v: %s", err, out)
	}
	return told
}

// contradicted fails the test unless every witness of a check is said to have seen this.
func (e explained) contradicted(t *testing.T, check, seen string) {
	t.Helper()
	found := false
	for _, need := range e.Needs {
		if need.Check != check {
			continue
		}
		found = true
		if need.Verdict != "fail" || !strings.Contains(need.Seen, seen) {
			t.Errorf("%s says %s to %s: %s", need.Source, need.Verdict, check, need.Seen)
		}
	}
	if !found {
		t.Errorf("%s is not asked: %+v", check, e.Needs)
	}
}

func (e explained) isHeld() bool { return strings.HasPrefix(e.State, "Held") }

func (e explained) advises(t *testing.T, line string) {
	t.Helper()
	for _, advice := range e.Unblock {
		if strings.HasPrefix(advice, line) {
			return
		}
	}
	t.Errorf("nobody is told to %s: %q", line, e.Unblock)
}
