package shim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// startInside starts a command with its task's network and mounts. They belong to the thread that
// starts it, and to no other task: a locked thread ends with its goroutine.
func startInside(command *exec.Cmd, task Task) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := enter(task)
		if err == nil {
			err = command.Start()
		}
		done <- err
	}()
	return <-done
}

func enter(task Task) error {
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	// The host's later mounts and unmounts are seen here, and none of ours there.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("detach mounts: %w", err)
	}
	for _, mount := range task.Mounts {
		if err := bind(mount); err != nil {
			return fmt.Errorf("mount %s on %s: %w", mount.From, mount.To, err)
		}
	}
	if task.Network == "" {
		return nil
	}
	file, err := os.Open(task.Network)
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
}

// bind makes both ends if they are missing, the source as containerd does and the target because
// there is no image that could have it: it stays on the host, empty.
func bind(mount Mount) error {
	info, err := os.Stat(mount.From)
	if os.IsNotExist(err) {
		if err = os.MkdirAll(mount.From, 0o755); err == nil {
			info, err = os.Stat(mount.From)
		}
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(mount.To); os.IsNotExist(err) {
		if err := makeTarget(mount.To, info.IsDir()); err != nil {
			return err
		}
	}
	return syscall.Mount(mount.From, mount.To, "", syscall.MS_BIND|syscall.MS_REC, "")
}

func makeTarget(path string, directory bool) error {
	if directory {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o644)
}
