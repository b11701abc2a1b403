package cluster

import (
	"context"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"rehull.dev/testbed/hosts"
)

// API returns a client configuration for a kubeconfig, usable from this process: connections are
// made from inside the testbed's network.
func API(testbed *hosts.Testbed, kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.Dial = testbed.Dial
	config.QPS, config.Burst = 100, 200
	return config, nil
}

// Workload returns a client of the workload cluster.
func Workload(testbed *hosts.Testbed) (*kubernetes.Clientset, error) {
	config, err := API(testbed, WorkloadConfig(testbed.Dir))
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// Kubectl runs kubectl on the first control plane.
func Kubectl(ctx context.Context, testbed *hosts.Testbed, args ...string) (string, error) {
	return testbed.Run(ctx, firstControlPlane, append([]string{"kubectl"}, args...)...)
}
