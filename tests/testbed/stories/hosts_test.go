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
	dir := filepath.Join(cache(t), "test-killed")
	killed(t, dir)
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
