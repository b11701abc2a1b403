package stories

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
)

// tellLimit bounds each question of a failed test: what does not answer is part of the story.
const tellLimit = 20 * time.Second

// tellOnFailure prints, if the test fails, what rehull and the world say then. Of a test that ran
// elsewhere the output is all that one has, and often its end only: what tells most comes last.
func tellOnFailure(t *testing.T, testbed *hosts.Testbed) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			tell(t, testbed)
		}
	})
}

func tell(t *testing.T, testbed *hosts.Testbed) {
	t.Helper()
	all, err := testbed.Hosts()
	for _, host := range all {
		t.Logf("%s: %s, disk %d, init %d, order %+v", host.Name, host.Profile, host.Generation,
			host.Pid, host.Order)
	}
	if err != nil {
		t.Log("the warden:", err)
	}
	for _, host := range all {
		console := filepath.Join(testbed.Dir, "hosts", host.Name, "console.log")
		t.Logf("console of %s\n%s", host.Name, lastLines(console, 20))
	}
	t.Logf("the warden's log\n%s", lastLines(filepath.Join(testbed.Dir, "warden.log"), 20))
	rehull := "rehull --dir " + cluster.RehullDir + " "
	for _, question := range []struct{ host, script string }{
		{"mgmt", rehull + "agent list"},
		{"mgmt", rehull + "log export | tail -n 40 | cut -c1-500"},
		{"mgmt", "systemctl status rehull; journalctl -u rehull | tail -n 60"},
		{"mgmt", "kubectl get clusteroperations; kubectl get jobs,pods -A"},
		{"mgmt", "journalctl -u kubean | tail -n 20"},
		{"mgmt", "for log in $(ls -tr /var/lib/kubean/logs/* | tail -n 2); do " +
			"echo \"== $log\"; tail -n 40 $log; done"},
		{"master1", "kubectl get nodes -o wide; kubectl get pods -A -o wide"},
		{"worker1", "journalctl -u rehull-agent | tail -n 20; ps -eo pid,lstart,args"},
		{"worker2", "journalctl -u rehull-agent | tail -n 20"},
		{"mgmt", rehull + "status"},
		{"mgmt", rehull + "explain prod"},
		{"mgmt", rehull + "explain prod worker1"},
		{"mgmt", rehull + "explain prod worker2"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), tellLimit)
		out, err := testbed.Run(ctx, question.host, "bash", "-c", question.script+" 2>&1")
		cancel()
		if err != nil {
			out = err.Error()
		}
		t.Logf("%s$ %s\n%s", question.host, question.script, out)
	}
}

func lastLines(path string, count int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Sprintln(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}
