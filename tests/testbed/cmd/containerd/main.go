// containerd and crictl of a testbed host.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"rehull.dev/testbed/cri"
)

func main() {
	run := cri.Serve
	if filepath.Base(os.Args[0]) == "crictl" {
		run = func() error { return cri.Crictl(os.Args[1:]) }
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}
