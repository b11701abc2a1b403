package stories

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehull.dev/testbed/hosts"
)

// spare is a machine of its own, for stories about hosts alone.
func spare() hosts.Machine {
	return hosts.Machine{Name: "spare", Address: "10.77.0.99", MAC: "52:54:00:77:00:63",
		ProductUUID: "77000000-0000-4000-8000-000000000063", Serial: "TB-0063"}
}

// TestHoldHosts is the process that TestAKilledTestLeavesNothing kills.
func TestHoldHosts(t *testing.T) {
	dir := os.Getenv("TESTBED_HOLD")
	if dir == "" {
		return
	}
	testbed, err := hosts.Start(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := testbed.Create(spare(), "centos7", nil); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Hour)
}

func TestAKilledTestLeavesNothing(t *testing.T) {
	hold := []string{os.Args[0], "-test.run=^TestHoldHosts$"}
	for _, one := range []struct {
		whom string
		line []string
	}{
		{"the test", hold},
		// As `go test` does: it starts the test and waits.
		{"who started it", append([]string{"sh", "-c", `"$0" "$@" & wait`}, hold...)},
	} {
		t.Run(one.whom, func(t *testing.T) { killedLeavesNothing(t, one.line) })
	}
}

func killedLeavesNothing(t *testing.T, line []string) {
	dir := filepath.Join(cache(t), "test-killed")
	killed(t, dir, line)
	eventually(t, 10*time.Second, "no process of the testbed", func() (string, bool) {
		left := processesNaming(t, dir)
		return strings.Join(left, "\n"), len(left) == 0
	})
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), dir) {
		t.Error("a mount is left:\n", string(mounts))
	}
	testbed, err := hosts.Start(dir, false)
	if err != nil {
		t.Fatal("another one does not start:", err)
	}
	if all, err := testbed.Hosts(); err != nil || len(all) > 0 {
		t.Errorf("another one starts with %+v (%v)", all, err)
	}
	if err := hosts.Stop(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Error("files are left in", dir, err)
	}
}

// processesNaming lists processes that have the directory in their command line or their mounts.
func processesNaming(t *testing.T, dir string) []string {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range lines {
		process := filepath.Dir(path)
		if process == fmt.Sprint("/proc/", os.Getpid()) {
			continue
		}
		line, _ := os.ReadFile(path)
		mounts, _ := os.ReadFile(process + "/mounts")
		if strings.Contains(string(line), dir) || strings.Contains(string(mounts), dir) {
			found = append(found, process+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// TestAnInstallerDoesOneReinstallOnce holds the testbed's installer against deploy/installer.md.
func TestAnInstallerDoesOneReinstallOnce(t *testing.T) {
	dir := filepath.Join(cache(t), "test-installer")
	testbed, err := hosts.Start(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hosts.Stop(dir) })
	boot := hosts.Machine{Name: "boot", Address: "10.77.0.98", MAC: "52:54:00:77:00:62",
		ProductUUID: "77000000-0000-4000-8000-000000000062", Serial: "TB-0062",
		Binds: map[string]string{filepath.Join(dir, "run"): "/run/testbed"}}
	for _, machine := range []hosts.Machine{boot, spare()} {
		if err := testbed.Create(machine, "centos7", nil); err != nil {
			t.Fatal(err)
		}
	}
	run(t, testbed, "boot", "sh", "-c", "touch /usr/local/bin/rehull-agent; echo one > /root/token")
	call := func(action, attempt, token string) string {
		return run(t, testbed, "boot", "env", "REHULL_ACTION="+action, "REHULL_MIGRATION=m",
			"REHULL_NODE=spare", "REHULL_ATTEMPT="+attempt, "REHULL_TARGET_OS=ubuntu-22.04",
			"REHULL_TOKEN_FILE="+token, "sh", "-c",
			hosts.BinDir+"/testbed reinstall-hook 2>&1; echo exit $?")
	}
	says := func(answer, want string) {
		t.Helper()
		if !strings.Contains(answer, want) {
			t.Errorf("the installer says %q, not %q", answer, want)
		}
	}
	installed := func(attempt, token string, generation int) {
		t.Helper()
		says(call("start", attempt, token), "exit 0")
		says(call("start", attempt, token), "exit 0")
		eventually(t, time.Minute, "the new system", func() (string, bool) {
			answer := call("status", attempt, token)
			return answer, strings.HasPrefix(answer, "progress") && strings.HasSuffix(answer, "exit 0")
		})
		says(call("start", attempt, token), "exit 0")
		host, err := testbed.Host("spare")
		if err != nil || host.Generation != generation || host.Profile != "ubuntu2204" {
			t.Errorf("attempt %s has made %+v (%v)", attempt, host, err)
		}
	}
	says(call("status", "1", "/root/token"), "exit 11")
	installed("1", "/root/token", 2)
	says(call("status", "2", "/root/token"), "exit 11")
	run(t, testbed, "boot", "sh", "-c", "echo two > /root/token")
	installed("2", "/root/token", 3)
	if token := run(t, testbed, "spare", "cat", "/etc/rehull-agent/token"); token != "two" {
		t.Error("the token on the disk is", token)
	}
	says(call("start", "3", "/root"), "exit 0") // no token can be read from a directory
	eventually(t, time.Minute, "a reinstall that fails", func() (string, bool) {
		answer := call("status", "3", "/root")
		return answer, strings.Contains(answer, "is a directory") &&
			strings.HasSuffix(answer, "exit 1")
	})
	says(call("start", "3", "/root"), "exit 1")
}

func TestAReinstallKeepsTheMachineAndNothingElse(t *testing.T) {
	dir := filepath.Join(cache(t), "test-reinstall")
	testbed, err := hosts.Start(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hosts.Stop(dir) })
	if err := testbed.Create(spare(), "centos7", nil); err != nil {
		t.Fatal(err)
	}
	machine := func() string {
		return run(t, testbed, "spare", "cat", "/etc/hostname", "/sys/class/dmi/id/product_uuid",
			"/sys/class/dmi/id/product_serial", "/sys/class/net/eth0/address") +
			run(t, testbed, "spare", "hostname", "-I")
	}
	system := func() []string {
		return []string{run(t, testbed, "spare", "cat", "/etc/machine-id"),
			run(t, testbed, "spare", "cat", "/proc/sys/kernel/random/boot_id"),
			run(t, testbed, "spare", "cat", "/etc/ssh/ssh_host_ed25519_key.pub"),
			run(t, testbed, "spare", "cat", "/etc/os-release")}
	}
	before, old := machine(), system()
	run(t, testbed, "spare", "sh", "-c",
		"touch /etc/mine /usr/local/bin/mine /var/lib/mine; sleep 999 >/dev/null 2>&1 &")
	if err := testbed.Reinstall("spare", "ubuntu2204", nil); err != nil {
		t.Fatal(err)
	}
	if after := machine(); after != before {
		t.Errorf("the machine changed: %s, was %s", after, before)
	}
	for at, now := range system() {
		if now == old[at] {
			t.Error("kept by the reinstall:", now)
		}
	}
	left := run(t, testbed, "spare", "sh", "-c",
		"ls -d /etc/mine /usr/local/bin/mine /var/lib/mine 2>/dev/null; pgrep sleep; true")
	if left != "" {
		t.Error("left of the old system:", left)
	}
	name := run(t, testbed, "spare", "sh", "-c", ". /etc/os-release; echo $PRETTY_NAME")
	if name != "Ubuntu 22.04.4 LTS" {
		t.Error("the new system is", name)
	}
}
