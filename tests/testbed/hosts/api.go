// Package hosts makes machines out of namespaces. One warden process owns all of them: it is the
// init of an outer namespace, so when it dies the kernel ends every process, network and mount.
package hosts

import (
	"fmt"
	"os"
	"path/filepath"
)

// BinDir is where a host sees the testbed's programs.
const BinDir = "/opt/testbed/bin"

// Network is the one bridge that all hosts hang on; the warden is its gateway.
const (
	Gateway      = "10.77.0.1"
	prefixLength = "/24"
)

// Machine is what is bought once: a reinstall keeps all of it.
type Machine struct {
	Name, Address            string
	MAC, ProductUUID, Serial string
	// Binds shows further directories of the machine below, path below to path in the host.
	Binds map[string]string
}

// Status is a machine and what runs on it now.
type Status struct {
	Machine
	Profile    string // of the installed system; "" from the wipe until the next one has booted
	Generation int    // counts wipes of the disk
	BootID     string
	Pid        int // of the host's init, in the warden's pid namespace; 0 is powered off
	Order      Order
}

// Order is a reinstall that goes on without whoever ordered it, and how far it is.
type Order struct {
	ID      string // as it was ordered; "" before the first
	Percent int    // 100 once the new system lets people in
	Words   string // what is being done
	Trouble string // why it has failed; "" if it has not
}

type request struct {
	Op      string // create, reinstall, order, reboot, poweroff, list
	Machine Machine
	Host    string
	Profile string
	Keys    []byte // root's authorized_keys
	Files   []File
	ID      string // of an order
}

type response struct {
	Error string
	Hosts []Status
}

func socketPath(dir string) string { return filepath.Join(dir, "run", "warden.sock") }
func pidPath(dir string) string    { return filepath.Join(dir, "warden.pid") }

// SocketInHost is where a host that is allowed to order reinstalls finds the warden.
const SocketInHost = "/run/testbed/warden.sock"

// Cache finds the built programs: beside the running program, or in the module above the
// working directory.
func Cache() (string, error) {
	if program, err := os.Executable(); err == nil {
		if cache := filepath.Dir(filepath.Dir(program)); filepath.Base(cache) == ".cache" {
			return cache, nil
		}
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		cache := filepath.Join(dir, ".cache")
		if _, err := os.Stat(filepath.Join(cache, "bin", "testbed")); err == nil {
			return cache, nil
		}
	}
	return "", fmt.Errorf("no .cache/bin/testbed above the working directory: run setup.sh first")
}
