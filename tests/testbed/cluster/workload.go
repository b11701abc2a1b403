package cluster

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"strings"

	"rehull.dev/testbed/hosts"
	"rehull.dev/testbed/playbooks"
)

//go:embed files/kubeadm.yaml
var workloadConfig string

//go:embed files/addons.yaml
var addons []byte

// controlPlane is the name of a control plane, by its number from 1.
func controlPlane(number int) string { return fmt.Sprint("master", number) }

var firstControlPlane = controlPlane(1)

// prepareScript puts what a kubelet of a control plane needs on its host.
var prepareScript = linkPrograms("kubeadm", "kubectl", "kubelet", "containerd",
	"containerd-shim-runc-v2", "crictl", "etcdctl") + `
mkdir -p /etc/kubernetes/ssl /etc/kubernetes/manifests /root/.kube
ln -sfn ssl /etc/kubernetes/pki
sysctl -qw net.ipv4.ip_forward=1
systemctl enable --now containerd
systemctl enable kubelet
`

// prepare makes a host ready for kubeadm, whose configuration is a template.
func prepare(ctx context.Context, testbed *hosts.Testbed, name, config string) error {
	host, err := testbed.Host(name)
	if err != nil {
		return err
	}
	values := strings.NewReplacer("ADDRESS", host.Address, "NAME", host.Name)
	files := map[string][]byte{
		"/etc/kubernetes/kubeadm-config.yaml": []byte(values.Replace(config)),
		"/etc/kubernetes/kubelet.env": []byte(`KUBELET_ADDRESS="--node-ip=` + host.Address + `"
KUBELET_HOSTNAME="--hostname-override=` + host.Name + `"
KUBELET_API_SERVER="--kubeconfig=/etc/kubernetes/kubelet.conf --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf"
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
	_, err = shell(ctx, testbed, host.Name, prepareScript)
	return err
}

// workload makes the cluster that is migrated: kubeadm's own `init` on the first control plane,
// with a kubelet that runs etcd, API server, controller manager and scheduler as static pods.
func workload(ctx context.Context, testbed *hosts.Testbed) error {
	if err := prepare(ctx, testbed, firstControlPlane, workloadConfig); err != nil {
		return err
	}
	path := "/etc/kubernetes/addons.yaml"
	if err := testbed.Write(ctx, firstControlPlane, path, 0o644, addons); err != nil {
		return err
	}
	script := `kubeadm init --config /etc/kubernetes/kubeadm-config.yaml --ignore-preflight-errors=all \
  --skip-phases=addon/coredns
cp /etc/kubernetes/admin.conf /root/.kube/config
kubectl apply -f /etc/kubernetes/addons.yaml`
	if _, err := shell(ctx, testbed, firstControlPlane, script); err != nil {
		return err
	}
	admin, err := testbed.Run(ctx, firstControlPlane, "cat", "/etc/kubernetes/admin.conf")
	if err != nil {
		return err
	}
	return os.WriteFile(WorkloadConfig(testbed.Dir), []byte(admin), 0o600)
}

// joinConfig is filled with what the first control plane gives out; the join itself is kubeadm's own.
const joinConfig = `apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  bootstrapToken: {apiServerEndpoint: "SERVER:6443", token: TOKEN, unsafeSkipCAVerification: true}
controlPlane:
  localAPIEndpoint: {advertiseAddress: ADDRESS, bindPort: 6443}
  certificateKey: KEY
nodeRegistration:
  name: NAME
  criSocket: unix:///run/containerd/containerd.sock
  taints: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]
`

// joinControlPlane adds a control plane with a member of etcd, as kubeadm does it.
func joinControlPlane(ctx context.Context, testbed *hosts.Testbed, name string) error {
	first, err := testbed.Host(firstControlPlane)
	if err != nil {
		return err
	}
	said, err := shell(ctx, testbed, firstControlPlane, `kubeadm token create
kubeadm init phase upload-certs --upload-certs --config /etc/kubernetes/kubeadm-config.yaml | tail -1`)
	if err != nil {
		return err
	}
	words := strings.Fields(said)
	if len(words) < 2 {
		return fmt.Errorf("kubeadm gives no token and no key: %q", said)
	}
	key, token := words[len(words)-1], words[0]
	config := strings.NewReplacer("SERVER", first.Address, "TOKEN", token, "KEY", key)
	if err := prepare(ctx, testbed, name, config.Replace(joinConfig)); err != nil {
		return err
	}
	_, err = shell(ctx, testbed, name, `kubeadm join --config /etc/kubernetes/kubeadm-config.yaml \
  --ignore-preflight-errors=all
cp /etc/kubernetes/admin.conf /root/.kube/config`)
	return err
}
