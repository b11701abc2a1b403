package hosts

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dial connects from inside the testbed's network, so that a client in this process can talk to
// addresses that exist nowhere else. It fits rest.Config.Dial.
func (t *Testbed) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		connection net.Conn
		err        error
	}
	done := make(chan result, 1)
	go func() {
		// The thread is spoilt and dies with this goroutine, which never unlocks it.
		runtime.LockOSThread()
		namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", t.pid))
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer namespace.Close()
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{nil, fmt.Errorf("enter the testbed's network: %w", err)}
			return
		}
		connection, err := (&net.Dialer{}).DialContext(ctx, network, address)
		done <- result{connection, err}
	}()
	answer := <-done
	return answer.connection, answer.err
}
