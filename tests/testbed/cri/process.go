package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rehull.dev/testbed/shim"
)

// images are the programs that real images hold, in the testbed's own directory; applets are those of
// image busybox, for whoever does not find a program of that name on the host.
const (
	images  = "/opt/testbed/bin"
	applets = images + "/applets"
)

const shimStart = 5 * time.Second

// startShim runs the pod's shim as a process of its own session and its pause container.
func startShim(id, network string) error {
	command := exec.Command(shim.Program, "-namespace", "k8s.io", "-id", id, "-address", Socket)
	command.Env = []string{"PATH=" + os.Getenv("PATH")}
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return err
	}
	go command.Wait() // reaped here or, once containerd is gone, by init
	task := program(id, "pause", []string{"/pause"}, nil)
	task.Network = network
	deadline := time.Now().Add(shimStart)
	for {
		err := ask(id, task)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ask sends a task to a pod's shim; an empty one shuts it down.
func ask(id string, task shim.Task) error {
	connection, err := net.Dial("unix", shim.Socket(id))
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := json.NewEncoder(connection).Encode(task); err != nil || task.ID == "" {
		return err
	}
	var answer string
	if err := json.NewDecoder(connection).Decode(&answer); err != nil {
		return err
	}
	if answer != "" {
		return errors.New(answer)
	}
	return nil
}

// program chooses what runs for a container: a program of that name if there is one, else a
// stand-in under its name.
func program(id, image string, args []string, env []string) shim.Task {
	if len(args) == 0 {
		args = []string{imageName(image)}
		if args[0] == "nginx" {
			args = []string{"nginx", "-g", "daemon off;"}
		}
	}
	name := filepath.Base(args[0])
	path := filepath.Join(images, name)
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath(name); err != nil {
			path = filepath.Join(shim.TaskDir, id, "rootfs", name)
			_ = os.MkdirAll(filepath.Dir(path), 0o755)
			_ = os.Symlink(filepath.Join(images, "host"), path) // start fails in words without it
		}
	}
	env = append(env, "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:"+applets)
	return shim.Task{ID: id, Path: path, Args: args, Env: env, Dir: "/"}
}

func imageName(image string) string {
	name, _, _ := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	name, _, _ = strings.Cut(name, "@")
	return name
}

// end stops a task: TERM, then KILL after the grace period, then waits until it is reaped, or until
// the caller waits no more.
func end(ctx context.Context, id string, grace time.Duration) error {
	deadline := time.Now().Add(grace)
	sent := syscall.Signal(0)
	for {
		now := look(id)
		if now.pid == 0 {
			return nil
		}
		signal := syscall.SIGTERM
		if !time.Now().Before(deadline) {
			signal = syscall.SIGKILL
		}
		if signal != sent {
			if err := syscall.Kill(now.pid, signal); err != nil && err != syscall.ESRCH {
				return fmt.Errorf("stop %s: %w", id, err)
			}
			sent = signal
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("an error occurs during waiting for container %q to be killed: %w",
				id, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
