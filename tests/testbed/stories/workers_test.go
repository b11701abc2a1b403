package stories

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
	"rehull.dev/testbed/kubean"
)

// TestWorkers is the story of a night in which everything goes wrong: four workers are migrated, and
// each fault of the table is stopped at its gate, with its words, before anything that cannot be
// undone, until the operator does what the words say. Coordinator and agents are killed all along
// the way of the last one. Then the first goes on to another system still.
func TestWorkers(t *testing.T) {
	testbed := begun(t, len(workers), impatient(whole(migration)))
	n := &night{T: t, testbed: testbed, operations: watchOperations(t, testbed),
		disks: map[string]disk{}, nodes: workers, join: "scale.yml"}
	budgets := watchBudgets(t, testbed)
	before := map[string]identity{}
	for _, node := range workers {
		before[node], n.disks[node] = identityOf(t, testbed, node), diskOf(t, testbed, node)
	}
	n.beNotified()
	n.rehearse()
	n.suffer(faults, func() { rehull(t, testbed, "migrate", "start", "-f", "/root/migration.yaml") })
	n.killAlongTheWay("worker4", points)
	for _, node := range workers {
		await(t, testbed, node, "Done")
		migrated(t, testbed, node, before[node], ubuntu)
	}
	await(t, testbed, "", "Completed")
	budgets.verify(t)
	for node, times := range successes {
		for action, want := range times {
			if got := n.operations.succeeded(node, action); got != want {
				t.Errorf("%s of %s has succeeded %d times, not %d: %q", action, node, got, want,
					n.operations.of(node, action))
			}
		}
	}
	n.wasNotified()
	n.report()

	again := identityOf(t, testbed, "worker1")
	write(t, testbed, "/root/again.yaml", another(migration))
	rehull(t, testbed, "migrate", "start", "-f", "/root/again.yaml")
	await(t, testbed, "worker1", "Done")
	migrated(t, testbed, "worker1", again, "Rocky Linux 9.4 (Blue Onyx)")
}

// another is the document that takes worker1 on to another system: only names change.
func another(document []byte) []byte {
	return []byte(strings.NewReplacer("centos-7.9", "ubuntu-22.04", "ubuntu-22.04", "rocky-9",
		"[worker1, worker2]", "[worker1]", "kubean/ubuntu jammy main", "kubean/rocky").
		Replace(string(document)))
}

// rehearse has the whole migration rehearsed on a copy of the cluster, with one fault for certain.
func (n *night) rehearse() {
	n.Helper()
	write(n.T, n.testbed, "/root/rehearsal.yaml", whole(migration))
	line := strings.Fields("--output json rehearse -f /root/rehearsal.yaml --faults 2 --fault " +
		"wrong-os@worker2")
	var told struct {
		Nodes  []struct{ Node, State string }
		Faults []struct {
			Fault  string
			Caught *struct{ Gate string }
		}
		Violations []any
	}
	out := rehull(n.T, n.testbed, line...)
	if err := json.Unmarshal([]byte(out), &told); err != nil {
		n.Fatalf("rehull rehearse: %v: %s", err, out)
	}
	caught := ""
	for _, fault := range told.Faults {
		if fault.Fault == "wrong-os" && fault.Caught != nil {
			caught = fault.Caught.Gate
		}
	}
	done := 0
	for _, node := range told.Nodes {
		if node.State == "done" {
			done++
		}
	}
	if done != len(workers) || caught != "G7 Os" || len(told.Violations) > 0 {
		n.Errorf("a rehearsal ends with %d nodes done and a wrong OS caught at %q: %s", done, caught,
			out)
	}
}

var workers = []string{"worker1", "worker2", "worker3", "worker4"}

// successes is how often each operation may have succeeded: more than once only where a fault made
// one say so that did nothing.
var successes = map[string]map[string]int{
	"worker1": {"remove-node.yml": 1, "scale.yml": 1},
	"worker2": {"remove-node.yml": 0, "scale.yml": 2},
	"worker3": {"remove-node.yml": 1, "scale.yml": 1},
	"worker4": {"remove-node.yml": 1, "scale.yml": 1},
}

// whole is the document for all workers.
func whole(document []byte) []byte {
	return changed(document, "[worker1, worker2]", "["+strings.Join(workers, ", ")+"]")
}

// changed is a document in which something else stands in a place that it must have.
func changed(document []byte, was, is string) []byte {
	if !strings.Contains(string(document), was) {
		panic("no document without " + was)
	}
	return []byte(strings.Replace(string(document), was, is, 1))
}

// impatient is a document with deadlines that a test can wait for.
func impatient(document []byte) []byte {
	return changed(document, "    gateDeadline: 150s\n", `    gateDeadline: 100s
    startDeadline: 30s
    reinstallDeadline: 60s
    resubmitAfter: []
`)
}

// fault is something that goes wrong: where rehull must stop for it, with which words, and what an
// operator does about it.
type fault struct {
	name   string
	node   string       // whom it stops; "" is the cluster itself
	on     func(*night) // switches it on, while the fault before still stops everything
	during func(*night) // the same, for one that must wait for its moment
	gate   string       // where it is stopped
	check  string       // the statement that somebody must contradict, and with which words
	seen   string
	unsure bool   // nobody contradicts: they say that they cannot tell
	advice string // how the advice begins that an operator needs
	off    func(*night)
	free   []string // it is held, until a person says this to `rehull migrate`

	waits    string // no gate: it is only waited for, with these words
	recorded string // not stopped at all: it is dealt with, and this event says so
}

// night is a migration under way, its witnesses, and what was seen.
type night struct {
	*testing.T
	testbed    *hosts.Testbed
	operations *operationWatch
	nodes      []string        // in the order in which they are migrated
	join       string          // the playbook that joins one
	disks      map[string]disk // of each node before
	table      []string
}

// suffer lets the faults come one after another: each is there before the one before has gone, so
// nothing slips through between them.
func (n *night) suffer(faults []fault, release func()) {
	n.Helper()
	before := fault{}
	for _, fault := range faults {
		n.Log(time.Now().Format(time.TimeOnly), "fault:", fault.name)
		n.do(fault.on)
		if fault.follows(before) {
			n.shown(fault) // an answer from before it was there would count for a while
		}
		before = fault
		release()
		n.do(fault.during)
		n.look(fault)
		release = func() {
			n.do(fault.off)
			n.free(fault)
		}
	}
	release()
}

func (n *night) do(step func(*night)) {
	n.Helper()
	if step != nil {
		step(n)
	}
}

// look waits until rehull deals with a fault, and checks how.
func (n *night) look(fault fault) {
	n.Helper()
	switch {
	case fault.waits != "":
		n.waits(fault.node, fault.waits)
		n.row(fault, "waits", fault.waits)
	case fault.recorded != "":
		eventually(n.T, migrationLimit, fault.recorded, func() (string, bool) {
			out := n.history(fault.node, fault.recorded)
			return out, out != ""
		})
		n.row(fault, "goes on", lastLine(n.history(fault.node, fault.recorded)))
	default:
		n.stopped(fault)
	}
}

// stopped waits until a gate is shut by a fault, or holds for it, and checks the words.
func (n *night) stopped(fault fault) {
	n.Helper()
	if len(fault.free) > 0 {
		await(n.T, n.testbed, fault.node, "Held")
	}
	told := n.shown(fault)
	if fault.advice != "" {
		told.advises(n.T, fault.advice)
	}
	time.Sleep(stays)
	if again := explain(n.T, n.testbed, fault.node); !fault.shows(again) {
		n.Errorf("%s: it did not stay: %s; %s; %+v", fault.name, again.Gate, again.WaitsFor,
			again.Needs)
	}
	n.irreversible(fault)
	n.row(fault, fault.gate, fault.seen)
	if n.Failed() {
		n.FailNow() // what comes after a fault that was not stopped says nothing
	}
}

// shown waits until rehull tells of a fault.
func (n *night) shown(fault fault) explained {
	n.Helper()
	var told explained
	eventually(n.T, migrationLimit, fault.name, func() (string, bool) {
		told = explain(n.T, n.testbed, fault.node)
		if told.State == "Done" || told.State == "Completed" {
			n.Fatalf("%s: nothing has stopped it", fault.name)
		}
		if told.isHeld() && len(fault.free) == 0 && !fault.shows(told) {
			n.retry(fault.node) // the faults before it took so long that the gate gave up
		}
		return fmt.Sprintf("%s; %s; %+v", told.Gate, told.WaitsFor, told.Needs), fault.shows(told)
	})
	return told
}

// follows says whether a fault is to be seen at a gate that another one keeps shut.
func (f *fault) follows(before fault) bool {
	asked := before.gate == f.gate && before.node == f.node && len(before.free) == 0
	return asked && f.on != nil && f.during == nil && f.check != ""
}

// stays is how long a gate must be seen to stay shut.
const stays = 3 * time.Second

// shows says whether this is what rehull must tell of a fault.
func (f *fault) shows(told explained) bool {
	if !strings.HasPrefix(told.Gate, f.gate) {
		return false
	}
	if f.check == "" {
		return strings.Contains(told.WaitsFor, f.seen)
	}
	verdict := "fail"
	if f.unsure {
		verdict = "unknown"
	}
	return slices.ContainsFunc(told.Needs, func(need need) bool {
		return need.Check == f.check && need.Verdict == verdict && strings.Contains(need.Seen, f.seen)
	})
}

// irreversible checks that nothing was done from which there is no way back from where it is held.
func (n *night) irreversible(fault fault) {
	n.Helper()
	node, gate := fault.node, fault.gate
	removals := n.operations.of(node, "remove-node.yml")
	joins := n.operations.of(node, n.join)
	switch gate, _, _ := strings.Cut(gate, " "); gate {
	case "G1", "G2", "G3", "G4", "Cordon", "Quorum", "Withdraw", "KubeconfigAdmission", "Reorder", "Reordered":
		if len(removals) > 0 {
			n.Errorf("%s: %s is held at %s, and removed: %q", fault.name, node, gate, removals)
		}
	case "G5", "G6":
		if now := diskOf(n.T, n.testbed, node); now != n.disks[node] {
			n.Errorf("%s: %s is held at %s, and reinstalled: %+v", fault.name, node, gate, now)
		}
	case "", "G7", "G8":
		if len(joins) > 0 {
			n.Errorf("%s: %s is held at %s, and joined: %q", fault.name, node, gate, joins)
		}
	}
	if next := slices.Index(n.nodes, node) + 1; next < len(n.nodes) {
		if other := explain(n.T, n.testbed, n.nodes[next]); other.State != "Planned" {
			n.Errorf("%s: %s has passed %s, which is held", fault.name, n.nodes[next], node)
		}
	}
}

// free tells rehull to go on, as an operator does who has done what was advised.
func (n *night) free(fault fault) {
	n.Helper()
	switch {
	case len(fault.free) > 0:
		line := append([]string{"migrate", fault.free[0], "prod", fault.node}, fault.free[1:]...)
		rehull(n.T, n.testbed, line...)
	case fault.gate != "" && explain(n.T, n.testbed, fault.node).isHeld():
		n.retry(fault.node) // it took so long that the gate gave up
	}
}

func (n *night) retry(node string) {
	n.Helper()
	rehull(n.T, n.testbed, strings.Fields("migrate retry prod "+node)...)
}

// row keeps a line of the table that is printed at the end.
func (n *night) row(fault fault, gate, words string) {
	who := fault.node
	if who == "" {
		who = "cluster"
	}
	n.table = append(n.table, fmt.Sprintf("| %s | %s | %s | %s |", fault.name, who, gate, words))
	n.Log(n.table[len(n.table)-1])
}

func (n *night) report() {
	n.Log("\n| fault | whom | gate | words |\n|---|---|---|---|\n" + strings.Join(n.table, "\n"))
}

// waits waits until rehull says that it waits for this.
func (n *night) waits(node, words string) {
	n.Helper()
	eventually(n.T, migrationLimit, words, func() (string, bool) {
		told := explain(n.T, n.testbed, node)
		return told.WaitsFor, strings.Contains(told.WaitsFor, words)
	})
}

// history is what events of a name say of a node; "" also while the coordinator is away.
func (n *night) history(node, event string) string {
	line := []string{"rehull", "--dir", cluster.RehullDir, "history", "prod", node, "--events", event}
	out, err := n.testbed.Run(n.Context(), "mgmt", line...)
	if err != nil || strings.HasPrefix(out, "Nothing of that has happened") {
		return ""
	}
	return out
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// on runs a script on a host.
func (n *night) on(host, script string) string {
	n.Helper()
	return run(n.T, n.testbed, host, "bash", "-euc", script)
}

// restart starts the coordinator anew, and waits until it answers.
func (n *night) restart() {
	n.Helper()
	n.on("mgmt", "systemctl restart rehull; for i in $(seq 300); do rehull --dir "+cluster.RehullDir+
		" status >/dev/null 2>&1 && exit 0; sleep 0.2; done; exit 1")
}

// apply creates objects in the cluster that a host's kubectl speaks to.
func (n *night) apply(host, manifest string) {
	n.Helper()
	err := n.testbed.Write(n.Context(), host, "/root/fault.yaml", 0, []byte(manifest))
	if err != nil {
		n.Fatal(err)
	}
	n.on(host, "kubectl apply -f /root/fault.yaml")
}

// succeeded counts the operations of this action that say so.
func (w *operationWatch) succeeded(node, action string) int {
	count := 0
	for _, one := range w.of(node, action) {
		if strings.HasSuffix(one, " "+string(kubean.Succeeded)) {
			count++
		}
	}
	return count
}

// killAlongTheWay kills the coordinator, and now and then the agent, each time that the log of a
// node says one more thing; and looks that nothing of the log is lost.
func (n *night) killAlongTheWay(node string, points []point) {
	n.Helper()
	kept := ""
	for number, point := range points {
		n.happens(node, point)
		if number%4 == 0 {
			_, _ = n.testbed.Run(n.Context(), node, "pkill", "-9", "-x", "rehull-agent")
		}
		n.on("mgmt", "pkill -9 -x rehull")
		log := n.exported()
		if !strings.HasPrefix(log, kept) {
			n.Fatalf("at %s the log is not what it was, and more", point.event)
		}
		kept = log
		n.on("mgmt", "systemctl restart rehull")
		n.Log(time.Now().Format(time.TimeOnly), "killed at", point.event, point.times)
	}
	n.Logf("the coordinator was killed at %d points, the agent at %d of them", len(points),
		(len(points)+3)/4)
}

// happens waits until the log of a node says this so often.
func (n *night) happens(node string, point point) {
	n.Helper()
	eventually(n.T, migrationLimit, point.event, func() (string, bool) {
		out := n.history(node, point.event)
		return out, strings.Count(out, "\n") >= point.times
	})
}

// exported is the whole log, which no coordinator holds now.
func (n *night) exported() string {
	n.Helper()
	var out string
	eventually(n.T, time.Minute, "an export of the log", func() (string, bool) {
		var err error
		out, err = n.testbed.Run(n.Context(), "mgmt", "rehull", "--dir", cluster.RehullDir, "log",
			"export")
		return fmt.Sprint(err), err == nil
	})
	return out
}

// point is an event of a node's migration, by name and how manieth.
type point struct {
	event string
	times int
}

// points are those of a worker, in their order: what comes just before each step that reaches out to
// the world, and just after.
var points = []point{
	{"NodeStarted", 1}, {"SnapshotRecorded", 1}, {"DrainProgressed", 1}, {"InputsPrepared", 1},
	{"OperationIntended", 1}, {"OperationSubmitted", 1}, {"OperationStarted", 1},
	{"OperationEnded", 1}, {"OperationArchived", 1}, {"FarewellSaid", 1},
	{"ReinstallAuthorized", 1}, {"InstallerProgressed", 1}, {"AgentEnrolled", 2},
	{"GatePassed", 8}, {"InputsPrepared", 2}, {"OperationIntended", 2},
	{"OperationSubmitted", 2}, {"OperationStarted", 2}, {"OperationEnded", 2},
	{"OperationArchived", 2},
}
