// Package stories is what the testbed is for: real clusters, real playbooks, and rehull.
package stories

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
	"rehull.dev/testbed/lifeline"
)

func TestMain(m *testing.M) {
	lifeline.Hold()
	os.Exit(m.Run())
}

// up starts a whole testbed that dies with this test, also when it is killed.
func up(t *testing.T, size cluster.Size) *hosts.Testbed {
	t.Helper()
	dir := filepath.Join(cache(t), "test-"+strings.ToLower(t.Name()))
	testbed, err := cluster.Up(t.Context(), dir, size, false, func(line string) { t.Log(line) })
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("TESTBED_KEEP") != "" {
			t.Log("kept:", dir)
			return
		}
		if err := hosts.Stop(dir); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return testbed
}

func cache(t *testing.T) string {
	t.Helper()
	cache, err := hosts.Cache()
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

// kubectl asks the workload cluster.
func kubectl(t *testing.T, testbed *hosts.Testbed, args ...string) string {
	t.Helper()
	out, err := cluster.Kubectl(t.Context(), testbed, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// run runs a command on a host.
func run(t *testing.T, testbed *hosts.Testbed, host string, args ...string) string {
	t.Helper()
	out, err := testbed.Run(t.Context(), host, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// play runs playbooks as one Kubean Job does.
func play(t *testing.T, testbed *hosts.Testbed, lines ...string) string {
	t.Helper()
	log, err := cluster.Playbook(t.Context(), testbed, lines...)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	return log
}

// programs lists the names of all processes of a host, one a line.
func programs(t *testing.T, testbed *hosts.Testbed, host string) string {
	t.Helper()
	return "\n" + run(t, testbed, host, "ps", "-eo", "comm=") + "\n"
}

// eventually waits until a condition holds; when it never does it says what was last seen.
func eventually(t *testing.T, limit time.Duration, want string, look func() (string, bool)) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		seen, ok := look()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s; last seen: %s", limit, want, seen)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// killed starts a process that holds a testbed, or starts the one who does, kills it with -9 and
// returns.
func killed(t *testing.T, dir string, line []string) {
	t.Helper()
	command := exec.Command(line[0], line[1:]...)
	command.Env = append(os.Environ(), "TESTBED_HOLD="+dir)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "hosts that run", func() (string, bool) {
		testbed, err := hosts.Open(dir)
		if err != nil {
			return err.Error(), false
		}
		all, err := testbed.Hosts()
		return fmt.Sprint(all, err), err == nil && len(all) == 1 && all[0].Pid != 0
	})
	if err := command.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // says that it was killed
}
