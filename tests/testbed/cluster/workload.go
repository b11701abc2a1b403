package cluster

import (
	"context"
	"fmt"
	"os"
	"strings"

	"rehull.dev/testbed/hosts"
)

// controlPlane is the name of a control plane, by its number from 1.
func controlPlane(number int) string { return fmt.Sprint("master", number) }

var firstControlPlane = controlPlane(1)

// workload makes the cluster that is migrated, as a kubespray installation does it: kubeadm's own
// `init` on the first control plane and `join` on all others, with kubelets that run etcd, API
// server, controller manager and scheduler as static pods.
func workload(ctx context.Context, testbed *hosts.Testbed) error {
	// Kubespray refuses a cluster without workers, which some stories want.
	if _, err := Playbook(ctx, testbed, "cluster.yml -e ignore_assert_errors=yes"); err != nil {
		return err
	}
	first, err := testbed.Host(firstControlPlane)
	if err != nil {
		return err
	}
	admin, err := testbed.Run(ctx, first.Name, "cat", "/etc/kubernetes/admin.conf")
	if err != nil {
		return err
	}
	admin = strings.ReplaceAll(admin, "127.0.0.1", first.Address)
	return os.WriteFile(WorkloadConfig(testbed.Dir), []byte(admin), 0o600)
}
