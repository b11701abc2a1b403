package cri

import (
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

// images are the programs that real images hold, in the testbed's own directory.
const images = "/opt/testbed/bin"

const shimStart = 5 * time.Second

// startShim runs the pod's shim as a process of its own session and its pause container.
func startShim(id string) error {
	command := exec.Command(shim.Program, "-namespace", "k8s.io", "-id", id, "-address", Socket)
	command.Env = []string{"PATH=" + os.Getenv("PATH")}
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return err
	}
	go command.Wait() // reaped here or, once containerd is gone, by init
	task := program(id, "pause", []string{"/pause"}, nil)
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
	env = append(env, "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	return shim.Task{ID: id, Path: path, Args: args, Env: env, Dir: "/"}
}

func imageName(image string) string {
	name, _, _ := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	name, _, _ = strings.Cut(name, "@")
	return name
}

// end stops a task: TERM, then KILL after the grace period, then waits until it is reaped.
func end(id string, grace time.Duration) error {
	signal, deadline := syscall.SIGTERM, time.Now().Add(grace)
	if grace <= 0 {
		signal = syscall.SIGKILL
	}
	sent, to := syscall.Signal(0), 0
	for {
		now := look(id)
		if now.pid == 0 {
			return nil
		}
		if signal == syscall.SIGTERM && time.Now().After(deadline) {
			signal = syscall.SIGKILL
		}
		// A kubelet that lives may have started it again: that process has not been told.
		if signal != sent || now.pid != to {
			err := syscall.Kill(now.pid, signal)
			if err != nil && err != syscall.ESRCH {
				return fmt.Errorf("stop %s: %w", id, err)
			}
			sent, to = signal, now.pid
		}
		time.Sleep(10 * time.Millisecond)
	}
}
