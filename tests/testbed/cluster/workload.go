package cluster

import (
	"context"
	_ "embed"
	"os"
	"strings"

	"rehull.dev/testbed/hosts"
	"rehull.dev/testbed/playbooks"
)

//go:embed files/kubeadm.yaml
var workloadConfig string

//go:embed files/addons.yaml
var addons []byte

const firstControlPlane = "master1"

// workload makes the cluster that is migrated: kubeadm's own `init` on the first control plane,
// with a kubelet that runs etcd, API server, controller manager and scheduler as static pods.
func workload(ctx context.Context, testbed *hosts.Testbed) error {
	host, err := testbed.Host(firstControlPlane)
	if err != nil {
		return err
	}
	values := strings.NewReplacer("ADDRESS", host.Address, "NAME", host.Name)
	config := values.Replace(workloadConfig)
	files := map[string][]byte{
		"/etc/kubernetes/kubeadm-config.yaml": []byte(config),
		"/etc/kubernetes/addons.yaml":         addons,
		"/etc/kubernetes/kubelet.env": []byte(`KUBELET_ADDRESS="--node-ip=` + host.Address + `"
KUBELET_HOSTNAME="--hostname-override=` + host.Name + `"
KUBELET_API_SERVER="--kubeconfig=/etc/kubernetes/kubelet.conf"
KUBELET_ARGS="--config=/etc/kubernetes/kubelet-config.yaml"
`),
	}
	for target, source := range map[string]string{
		"/etc/systemd/system/containerd.service": "roles/container-engine/files/containerd.service",
		"/etc/systemd/system/kubelet.service":    "roles/kubernetes-node/files/kubelet.service",
		"/etc/kubernetes/kubelet-config.yaml":    "roles/kubernetes-node/files/kubelet-config.yaml",
	} {
		if files[target], err = playbooks.Read(source); err != nil {
			return err
		}
	}
	for path, text := range files {
		if err := testbed.Write(ctx, host.Name, path, 0o644, text); err != nil {
			return err
		}
	}
	script := linkPrograms("kubeadm", "kubectl", "kubelet", "containerd", "containerd-shim-runc-v2",
		"crictl", "etcdctl") + `
mkdir -p /etc/kubernetes/ssl /etc/kubernetes/manifests /root/.kube
ln -sfn ssl /etc/kubernetes/pki
sysctl -qw net.ipv4.ip_forward=1
systemctl enable --now containerd
systemctl enable kubelet
kubeadm init --config /etc/kubernetes/kubeadm-config.yaml --ignore-preflight-errors=all \
  --skip-phases=addon/coredns
cp /etc/kubernetes/admin.conf /root/.kube/config
kubectl apply -f /etc/kubernetes/addons.yaml`
	if _, err := shell(ctx, testbed, host.Name, script); err != nil {
		return err
	}
	admin, err := testbed.Run(ctx, host.Name, "cat", "/etc/kubernetes/admin.conf")
	if err != nil {
		return err
	}
	return os.WriteFile(WorkloadConfig(testbed.Dir), []byte(admin), 0o600)
}
