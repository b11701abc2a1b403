// The small programs of a host in one file: the name it is called by chooses.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"rehull.dev/testbed/hostinit"
	"rehull.dev/testbed/play"
	"rehull.dev/testbed/podnet"
	"rehull.dev/testbed/shim"
)

func main() {
	var err error
	switch name := filepath.Base(os.Args[0]); name {
	case "machine":
		err = hostinit.Main()
	case "init":
		err = hostinit.Init()
	case "systemctl":
		os.Exit(hostinit.Systemctl(os.Args[1:]))
	case "journalctl":
		os.Exit(hostinit.Journalctl(os.Args[1:]))
	case "containerd-shim-runc-v2":
		err = shim.Main(os.Args[1:])
	case "calico-node":
		err = podnet.Main()
	default:
		play.Main(name)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
		os.Exit(1)
	}
}
