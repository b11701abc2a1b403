// Package cluster brings up what the hosts are for: a management cluster and a workload cluster.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"rehull.dev/testbed/hosts"
	"rehull.dev/testbed/playbooks"
)

// system is a machine and what is installed on it first.
type system struct {
	machine hosts.Machine
	profile string
}

// Size is how many nodes of each kind the workload cluster has, and how its etcd is deployed: as
// static pods of kubeadm, or as services of the control planes' hosts, which is kubespray's default.
type Size struct {
	ControlPlanes, Workers int
	HostEtcd               bool
}

// systems of a testbed of this size. Addresses and firmware never change; systems do.
func systems(size Size) []system {
	all := []system{{machine(managementHost, 2), "ubuntu2204"}}
	for number := 1; number <= size.ControlPlanes; number++ {
		all = append(all, system{machine(controlPlane(number), 10+number), "centos7"})
	}
	for number := 1; number <= size.Workers; number++ {
		all = append(all, system{machine(fmt.Sprint("worker", number), 20+number), "centos7"})
	}
	return all
}

func machine(name string, number int) hosts.Machine {
	return hosts.Machine{Name: name, Address: fmt.Sprintf("10.77.0.%d", number),
		MAC:         fmt.Sprintf("52:54:00:77:00:%02x", number),
		ProductUUID: fmt.Sprintf("77000000-0000-4000-8000-0000000000%02x", number),
		Serial:      fmt.Sprintf("TB-%04d", number)}
}

// ManagementConfig and WorkloadConfig are the kubeconfigs' paths on the machine below.
func ManagementConfig(dir string) string { return filepath.Join(dir, "management.conf") }
func WorkloadConfig(dir string) string   { return filepath.Join(dir, "workload.conf") }

// Usual is the size of a testbed unless somebody wants more.
var Usual = Size{ControlPlanes: 1, Workers: 2}

// Up makes all hosts and both clusters. Detached, they outlive this process.
func Up(ctx context.Context, dir string, size Size, detached bool, say func(string)) (
	*hosts.Testbed, error) {
	begin := time.Now()
	progress := func(format string, args ...any) {
		say(fmt.Sprintf("%5.1fs ", time.Since(begin).Seconds()) + fmt.Sprintf(format, args...))
	}
	testbed, err := hosts.Start(dir, detached)
	if err != nil {
		return nil, err
	}
	machines := systems(size)
	if err := bootAll(testbed, machines); err != nil {
		return nil, err
	}
	if err := installJoiner(ctx, testbed, size); err != nil {
		return nil, err
	}
	progress("%d hosts run", len(machines))
	done := make(chan error, 2)
	go func() {
		err := management(ctx, testbed)
		if err == nil {
			err = objects(ctx, testbed)
		}
		if err == nil {
			progress("management cluster answers on 10.77.0.2:6443")
		}
		done <- err
	}()
	go func() {
		err := workload(ctx, testbed)
		if err == nil {
			progress("the workload cluster answers on 10.77.0.11:6443")
		}
		done <- err
	}()
	if err := errors.Join(<-done, <-done); err != nil {
		return nil, err
	}
	if err := kubeconf(ctx, testbed); err != nil {
		return nil, err
	}
	_, err = shell(ctx, testbed, firstControlPlane,
		"kubectl wait --for=condition=Ready node --all --timeout=60s")
	if err != nil {
		return nil, err
	}
	progress("all nodes are Ready")
	return testbed, nil
}

func bootAll(testbed *hosts.Testbed, machines []system) error {
	keys, err := sshKey(testbed.Dir)
	if err != nil {
		return err
	}
	kubespray := filepath.Join(testbed.Dir, "kubespray")
	if err := playbooks.Copy(kubespray); err != nil {
		return err
	}
	cache, err := hosts.Cache()
	if err != nil {
		return err
	}
	done := make(chan error)
	for _, each := range machines {
		if each.machine.Name == managementHost {
			each.machine.Binds = map[string]string{
				filepath.Join(testbed.Dir, "run"): "/run/testbed",
				kubespray:                         "/kubespray",
				filepath.Join(cache, "venv"):      "/opt/ansible",
			}
		}
		go func() { done <- testbed.Create(each.machine, each.profile, keys) }()
	}
	for range machines {
		err = errors.Join(err, <-done)
	}
	return err
}

// sshKey makes the key pair that the inventory's sshAuthRef carries.
func sshKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, "ssh-privatekey")
	arguments := []string{"-q", "-t", "ed25519", "-N", "", "-C", "kubean", "-f", path}
	out, err := exec.Command("ssh-keygen", arguments...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
	}
	return os.ReadFile(path + ".pub")
}
