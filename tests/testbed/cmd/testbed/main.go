// testbed runs real Kubernetes clusters on hosts made of namespaces: see the README beside go.mod.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
)

const usage = `testbed up [WORKERS [CONTROL-PLANES]] [host-etcd]
                                   make hosts and both clusters, leave them running
testbed status                     hosts, what runs on them, where the kubeconfigs are
testbed exec HOST [--] CMD...      run a command in a host
testbed reinstall HOST PROFILE     power off, new disk, new system (centos7, ubuntu2204, rocky9)
testbed reboot|poweroff HOST
testbed rehull DIR                 install rehull and rehull-agent from DIR on all hosts, start them
testbed down                       end all of it and remove its files
The files are in $TESTBED_DIR, by default .cache/up of the module.
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	err := run(os.Args[1], os.Args[2:])
	var failed *exec.ExitError
	if os.Args[1] == "exec" && errors.As(err, &failed) {
		os.Exit(failed.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testbed:", err)
		os.Exit(1)
	}
}

func run(verb string, args []string) error {
	ctx := context.Background()
	switch verb {
	case "warden":
		return hosts.Warden(args[0], args[1])
	case "reinstall-hook":
		os.Exit(reinstallHook())
	}
	dir, err := directory()
	if err != nil {
		return err
	}
	switch verb {
	case "up":
		size, err := size(args)
		if err != nil {
			return err
		}
		_, err = cluster.Up(ctx, dir, size, true, func(line string) { fmt.Println(line) })
		if err == nil {
			return status(dir)
		}
		return err
	case "down":
		return hosts.Stop(dir)
	case "status":
		return status(dir)
	case "rehull":
		testbed, err := hosts.Open(dir)
		if err != nil || len(args) != 1 {
			return errors.Join(err, errors.New("testbed rehull DIR wants a testbed that is up"))
		}
		return cluster.InstallRehull(ctx, testbed, args[0])
	}
	return onHost(ctx, dir, verb, args)
}

// size is how many nodes there are to be, and of which etcd: what the command says, or as usual.
func size(args []string) (cluster.Size, error) {
	size := cluster.Usual
	if last := len(args) - 1; last >= 0 && args[last] == "host-etcd" {
		size.HostEtcd, args = true, args[:last]
	}
	for index, count := range []*int{&size.Workers, &size.ControlPlanes} {
		if len(args) <= index {
			break
		}
		number, err := strconv.Atoi(args[index])
		if err != nil || number < 1 || number > 8 {
			return size, fmt.Errorf("testbed up [WORKERS [CONTROL-PLANES]] [host-etcd] takes 1 to 8, "+
				"not %q", args[index])
		}
		*count = number
	}
	return size, nil
}

func onHost(ctx context.Context, dir, verb string, args []string) error {
	testbed, err := hosts.Open(dir)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return errors.New("which host?")
	}
	host := args[0]
	switch verb {
	case "exec":
		return execute(ctx, testbed, host, args[1:])
	case "reinstall":
		if len(args) != 2 {
			return errors.New("say testbed reinstall HOST PROFILE")
		}
		return testbed.Reinstall(host, args[1], nil)
	case "reboot":
		return testbed.Reboot(host)
	case "poweroff":
		return testbed.PowerOff(host)
	}
	fmt.Fprint(os.Stderr, usage)
	return fmt.Errorf("no command %q", verb)
}

func execute(ctx context.Context, testbed *hosts.Testbed, host string, args []string) error {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		args = []string{"bash"}
	}
	command, err := testbed.Command(ctx, host, args...)
	if err != nil {
		return err
	}
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	return command.Run()
}

func directory() (string, error) {
	if dir := os.Getenv("TESTBED_DIR"); dir != "" {
		return dir, nil
	}
	cache, err := hosts.Cache()
	return cache + "/up", err
}

func status(dir string) error {
	testbed, err := hosts.Open(dir)
	if err != nil {
		return err
	}
	all, err := testbed.Hosts()
	if err != nil {
		return err
	}
	for _, host := range all {
		power := "on"
		if host.Pid == 0 {
			power = "off"
		}
		fmt.Printf("%-8s %-12s %-11s install %d, power %s\n", host.Name, host.Address, host.Profile,
			host.Generation, power)
	}
	fmt.Printf("management cluster: %s\nworkload cluster:   %s\n", cluster.ManagementConfig(dir),
		cluster.WorkloadConfig(dir))
	return nil
}
