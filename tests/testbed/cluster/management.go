package cluster

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"rehull.dev/testbed/hosts"
)

//go:embed files/management.yaml
var managementConfig []byte

const managementHost = "mgmt"

// management starts the cluster that holds Kubean's objects: etcd, an API server and the few
// controllers that operations need, as units of host mgmt. It has no nodes.
func management(ctx context.Context, testbed *hosts.Testbed) error {
	const host = managementHost
	err := testbed.Write(ctx, host, "/etc/kubernetes/kubeadm.yaml", 0o600, managementConfig)
	if err != nil {
		return err
	}
	script := linkPrograms("kubeadm", "kubectl", "etcdctl")
	for _, phase := range []string{"certs all", "kubeconfig super-admin",
		"kubeconfig controller-manager", "etcd local", "control-plane apiserver",
		"control-plane controller-manager"} {
		script += "kubeadm init phase " + phase + " --config /etc/kubernetes/kubeadm.yaml\n"
	}
	if _, err := shell(ctx, testbed, host, script); err != nil {
		return err
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager"} {
		text, err := testbed.Run(ctx, host, "cat", "/etc/kubernetes/manifests/"+name+".yaml")
		if err != nil {
			return err
		}
		if err := manifestToUnit(ctx, testbed, host, name, text); err != nil {
			return err
		}
	}
	config, err := testbed.Run(ctx, host, "cat", "/etc/kubernetes/super-admin.conf")
	if err != nil {
		return err
	}
	if err := os.WriteFile(ManagementConfig(testbed.Dir), []byte(config), 0o600); err != nil {
		return err
	}
	if err := awaitReady(ctx, testbed, host, "/etc/kubernetes/super-admin.conf"); err != nil {
		return err
	}
	_, err = shell(ctx, testbed, host, `rm -r /etc/kubernetes/manifests
mkdir -p /root/.kube && cp /etc/kubernetes/super-admin.conf /root/.kube/config
kubectl create namespace kubean-system`)
	return err
}

// manifestToUnit runs what kubeadm would have a kubelet run, where there is no kubelet.
func manifestToUnit(
	ctx context.Context, testbed *hosts.Testbed, host, name, manifest string,
) error {
	var pod corev1.Pod
	if err := yaml.Unmarshal([]byte(manifest), &pod); err != nil {
		return fmt.Errorf("manifest of %s: %w", name, err)
	}
	command := pod.Spec.Containers[0].Command
	unit := fmt.Sprintf("[Unit]\nDescription=%s\n\n[Service]\nExecStart=%s/%s\nRestart=always\n",
		name, hosts.BinDir, strings.Join(command, " \\\n  "))
	path := "/etc/systemd/system/" + name + ".service"
	if err := testbed.Write(ctx, host, path, 0o644, []byte(unit)); err != nil {
		return err
	}
	_, err := testbed.Run(ctx, host, "systemctl", "enable", "--now", name)
	return err
}
