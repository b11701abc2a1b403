// Package lifeline ends a test with the one who started it, and with the test all that dies with it.
package lifeline

import (
	"fmt"
	"os"
	"time"
)

const period = 200 * time.Millisecond

// Hold ends this process soon after its parent has ended. `go test` that is killed tells nobody:
// its test binary, and every testbed of it, would go on. A parent death signal would not do: it
// comes when the thread that forked us ends, and we do not choose that thread.
func Hold() {
	parent := os.Getppid()
	go func() {
		for os.Getppid() == parent {
			time.Sleep(period)
		}
		fmt.Fprintln(os.Stderr, "the process that started this test is gone")
		os.Exit(1)
	}()
}
