package hosts

import (
	"fmt"
	"net"
	"time"
)

const (
	bootLimit  = 20 * time.Second
	bootPeriod = 20 * time.Millisecond
)

// awaitSSH waits until the host lets somebody in, as an installer does that watches for port 22.
func (w *warden) awaitSSH(h *host) error {
	deadline := time.Now().Add(bootLimit)
	for {
		connection, err := net.DialTimeout("tcp", net.JoinHostPort(h.Address, "22"), time.Second)
		if err == nil {
			return connection.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("sshd does not answer: %w", err)
		}
		time.Sleep(bootPeriod)
	}
}
