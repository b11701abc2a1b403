package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rehull.dev/testbed/hosts"
)

// groupVars are Kubean's vars-conf. SystemVerification asks for cgroup controllers, which belong to
// the machine below.
const groupVars = `kube_version: v1.34.4
container_manager: containerd
etcd_deployment_type: %s
kube_network_plugin: calico
override_system_hostname: false
kube_cert_dir: /etc/kubernetes/ssl
loadbalancer_apiserver_localhost: true
kubeadm_ignore_preflight_errors: DirAvailable--etc-kubernetes-manifests,SystemVerification
cluster_info_delay: 5
`

// nodes are the hosts of the workload cluster, in the order of their names.
func nodes(testbed *hosts.Testbed) ([]hosts.Status, error) {
	all, err := testbed.Hosts()
	all = slices.DeleteFunc(all, func(host hosts.Status) bool { return host.Name == managementHost })
	slices.SortFunc(all, func(a, b hosts.Status) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// inventory is Kubean's hosts-conf for these machines; the order of its keys matters.
func inventory(machines []hosts.Status) string {
	var all, control, nodes strings.Builder
	for _, m := range machines {
		fmt.Fprintf(&all, "    %s:\n      ip: %[2]s\n      access_ip: %[2]s\n"+
			"      ansible_host: %[2]s\n      ansible_connection: ssh\n      ansible_user: root\n"+
			"      ansible_python_interpreter: /usr/bin/python3\n", m.Name, m.Address)
		group := &nodes
		if strings.HasPrefix(m.Name, "master") {
			group = &control
		}
		fmt.Fprintf(group, "        %s:\n", m.Name)
	}
	return "all:\n  hosts:\n" + all.String() + "  children:\n" +
		"    kube_control_plane:\n      hosts:\n" + control.String() +
		"    kube_node:\n      hosts:\n" + nodes.String() +
		"    etcd:\n      hosts:\n" + control.String() +
		"    k8s_cluster:\n      children:\n        kube_control_plane:\n        kube_node:\n" +
		"    calico_rr:\n      hosts: {}\n"
}

// Playbook runs a playbook on host mgmt as the first line of a Kubean entrypoint would, and returns
// its log. Each run has its own /tmp, because a pod has, and with it its own fact cache.
func Playbook(ctx context.Context, testbed *hosts.Testbed, lines ...string) (string, error) {
	script := `mkdir -p /conf /auth /var/tmp/jobs
cp /etc/testbed/hosts.yml /etc/testbed/group_vars.yml /conf/
install -m 0400 /etc/testbed/ssh-privatekey /auth/ssh-privatekey
export CLUSTER_NAME=prod
cd /kubespray
mount -t tmpfs tmpfs /tmp
`
	for _, line := range lines {
		script += "ansible-playbook -i /conf/hosts.yml -b --become-user root " +
			"-e @/conf/group_vars.yml --private-key /auth/ssh-privatekey /kubespray/" + line + "\n"
	}
	return testbed.Run(ctx, managementHost, "unshare", "-m", "bash", "-euc", script)
}

// installJoiner puts Ansible and the inventory on host mgmt, where Kubean's pods run.
func installJoiner(ctx context.Context, testbed *hosts.Testbed, size Size) error {
	key, err := os.ReadFile(filepath.Join(testbed.Dir, "ssh-privatekey"))
	if err != nil {
		return err
	}
	machines, err := nodes(testbed)
	if err != nil {
		return err
	}
	etcd := "kubeadm"
	if size.HostEtcd {
		etcd = "host"
	}
	// The scripts of the virtual environment carry the path it was made at; the module does not.
	program := "#!/bin/sh\nexec /opt/ansible/bin/python3 -m ansible playbook \"$@\"\n"
	for _, file := range []struct {
		path string
		mode uint32
		data []byte
	}{
		{"/usr/local/bin/ansible-playbook", 0o755, []byte(program)},
		{"/etc/testbed/hosts.yml", 0o644, []byte(inventory(machines))},
		{"/etc/testbed/group_vars.yml", 0o644, fmt.Appendf(nil, groupVars, etcd)},
		{"/etc/testbed/ssh-privatekey", 0o600, key},
	} {
		if err := testbed.Write(ctx, managementHost, file.path, file.mode, file.data); err != nil {
			return err
		}
	}
	return nil
}
