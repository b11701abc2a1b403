package cluster

import (
	"context"
	"fmt"
	"time"

	"rehull.dev/testbed/hosts"
)

const (
	readyLimit  = 90 * time.Second
	readyPeriod = 200 * time.Millisecond
)

// shell runs a script that ends at its first failure.
func shell(ctx context.Context, testbed *hosts.Testbed, host, script string) (string, error) {
	return testbed.Run(ctx, host, "bash", "-euc", script)
}

// linkPrograms puts programs where kubespray does.
func linkPrograms(names ...string) string {
	script := ""
	for _, name := range names {
		script += fmt.Sprintf("ln -sf %s/%s /usr/local/bin/%s\n", hosts.BinDir, name, name)
	}
	return script
}

// awaitReady waits for an API server that answers its own readiness check.
func awaitReady(ctx context.Context, testbed *hosts.Testbed, host, config string) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for {
		_, err := testbed.Run(ctx, host, "kubectl", "--kubeconfig", config, "get", "--raw=/readyz")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server of %s is not ready: %w", host, err)
		case <-time.After(readyPeriod):
		}
	}
}
