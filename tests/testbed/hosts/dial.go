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
	return dialIn(ctx, fmt.Sprintf("/proc/%d/ns/net", t.pid), network, address)
}

// DialFrom returns a Dial that connects from inside a host, to its own 127.0.0.1 too.
func (t *Testbed) DialFrom(host string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		status, err := t.Host(host)
		if err != nil {
			return nil, err
		}
		if status.Pid == 0 {
			return nil, fmt.Errorf("host %s is powered off", host)
		}
		// Pids of hosts are the warden's, and so is the /proc that knows them.
		return dialIn(ctx, fmt.Sprintf("/proc/%d/root/proc/%d/ns/net", t.pid, status.Pid), network,
			address)
	}
}

func dialIn(ctx context.Context, namespace, network, address string) (net.Conn, error) {
	type result struct {
		connection net.Conn
		err        error
	}
	done := make(chan result, 1)
	go func() {
		// The thread is spoilt and dies with this goroutine, which never unlocks it.
		runtime.LockOSThread()
		file, err := os.Open(namespace)
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer file.Close()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{nil, fmt.Errorf("enter the testbed's network: %w", err)}
			return
		}
		connection, err := (&net.Dialer{}).DialContext(ctx, network, address)
		done <- result{connection, err}
	}()
	answer := <-done
	return answer.connection, answer.err
}
