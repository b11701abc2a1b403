package cluster

import (
	"context"
	"fmt"

	"rehull.dev/testbed/hostinit"
	"rehull.dev/testbed/hosts"
)

// HideNode makes `kubectl get nodes` on the first control plane leave one node out, as a slow or
// partial answer does. Kubespray then neither drains nor deletes the node, skips both tasks without
// a word, and the operation succeeds (kubespray#5265).
func HideNode(ctx context.Context, testbed *hosts.Testbed, node string) error {
	script := fmt.Sprintf(`rm /usr/local/bin/kubectl
cat > /usr/local/bin/kubectl <<'END'
#!/bin/bash
case " $* " in
*" get nodes -o go-template"*) set -o pipefail; %[1]s/kubectl "$@" | grep -vx %[2]s ;;
*) exec %[1]s/kubectl "$@" ;;
esac
END
chmod +x /usr/local/bin/kubectl`, hosts.BinDir, node)
	_, err := shell(ctx, testbed, firstControlPlane, script)
	return err
}

// ShowNodes ends HideNode.
func ShowNodes(ctx context.Context, testbed *hosts.Testbed) error {
	_, err := shell(ctx, testbed, firstControlPlane, linkPrograms("kubectl"))
	return err
}

// IgnoreStop makes a host say that it stopped a unit and leave it running.
func IgnoreStop(ctx context.Context, testbed *hosts.Testbed, host, unit string) error {
	path := hostinit.FaultDir + "/ignore-stop." + unit
	return testbed.Write(ctx, host, path, 0o644, nil)
}

// HonourStop ends IgnoreStop.
func HonourStop(ctx context.Context, testbed *hosts.Testbed, host, unit string) error {
	_, err := testbed.Run(ctx, host, "rm", hostinit.FaultDir+"/ignore-stop."+unit)
	return err
}
