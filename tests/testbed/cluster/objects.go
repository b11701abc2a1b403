package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"rehull.dev/testbed/hosts"
)

// objects puts into the management cluster what Kubean has of a cluster: references to inventory,
// variables, kubeconfig and ssh key.
func objects(ctx context.Context, testbed *hosts.Testbed) error {
	if err := installJoiner(ctx, testbed); err != nil {
		return err
	}
	_, err := shell(ctx, testbed, managementHost, `cd /etc/testbed
kubectl -n kubean-system create configmap prod-hosts-conf --from-file=hosts.yml
kubectl -n kubean-system create configmap prod-vars-conf --from-file=group_vars.yml
kubectl -n kubean-system create secret generic prod-ssh-auth --from-file=ssh-privatekey`)
	return err
}

// Kubeconf publishes the workload cluster's kubeconfig as Kubean's kubeconfig.yml does.
func kubeconf(ctx context.Context, testbed *hosts.Testbed) error {
	admin, err := os.ReadFile(WorkloadConfig(testbed.Dir))
	if err != nil {
		return err
	}
	path := "/etc/testbed/" + filepath.Base(WorkloadConfig(""))
	if err := testbed.Write(ctx, managementHost, path, 0o600, admin); err != nil {
		return err
	}
	_, err = shell(ctx, testbed, managementHost, fmt.Sprintf(
		"kubectl -n kubean-system create configmap prod-kubeconf --from-file=config=%s", path))
	return err
}
