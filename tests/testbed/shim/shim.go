// Package shim is the process that keeps a pod's containers: it outlives containerd, which is why
// containers survive when containerd is stopped.
package shim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// TaskDir holds one directory for each sandbox and container that has a process.
const TaskDir = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"

// Program is the shim's path on a host.
const Program = "/usr/local/bin/containerd-shim-runc-v2"

// Task asks for one process.
type Task struct {
	ID        string
	Path      string // program file; its base name is what ps shows
	Args, Env []string
	Dir       string
	Log       string // container log in CRI format, "" for none
	Network   string // file of the pod's network namespace, "" for the host's
	Mounts    []Mount
}

// Mount shows a file or directory of the host at another place in the container.
type Mount struct{ From, To string }

// Exit is what is left of a process that ended.
type Exit struct {
	Code int
	At   time.Time
}

// Socket is where the shim of a sandbox listens.
func Socket(sandbox string) string { return filepath.Join("/run/containerd/s", sandbox) }

// PidFile (pid and start time) and ExitFile tell about a task without asking its shim.
func PidFile(id string) string  { return filepath.Join(TaskDir, id, "init.pid") }
func ExitFile(id string) string { return filepath.Join(TaskDir, id, "exit.json") }

// StartTime tells a process from a later one with the same pid; "" when there is none. The
// environment would not do: nginx writes its title over it.
func StartTime(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	return fields[19] // field 22 of proc(5), counted from the one after the name
}

// Main runs the shim of one sandbox until it is told to shut down and nothing runs.
func Main(args []string) error {
	flags := flag.NewFlagSet("containerd-shim-runc-v2", flag.ContinueOnError)
	id := flags.String("id", "", "sandbox")
	flags.String("namespace", "k8s.io", "containerd namespace")
	flags.String("address", "", "containerd's socket")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(Socket(*id)), 0o711); err != nil {
		return err
	}
	listener, err := net.Listen("unix", Socket(*id))
	if err != nil {
		return err
	}
	defer os.Remove(Socket(*id))
	var running sync.WaitGroup
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		var task Task
		if err := json.NewDecoder(connection).Decode(&task); err != nil {
			connection.Close()
			continue
		}
		if task.ID == "" { // shut down: containerd has killed everything before
			running.Wait()
			return connection.Close()
		}
		answer := ""
		if err := start(task, &running); err != nil {
			answer = err.Error()
		}
		_ = json.NewEncoder(connection).Encode(answer)
		connection.Close()
	}
}

func start(task Task, running *sync.WaitGroup) error {
	if err := os.MkdirAll(filepath.Join(TaskDir, task.ID), 0o711); err != nil {
		return err
	}
	// What a container starts ends with its first process, as nginx's workers must: a kernel that
	// ends process 1 of a namespace ends them all.
	command := &exec.Cmd{Path: task.Path, Args: task.Args, Env: task.Env, Dir: task.Dir,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWPID}}
	log := io.Discard
	if task.Log != "" {
		if err := os.MkdirAll(filepath.Dir(task.Log), 0o755); err != nil {
			return err
		}
		file, err := os.OpenFile(task.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return err
		}
		log = file
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	command.Stderr = command.Stdout
	if err := startInside(command, task); err != nil {
		return err
	}
	pid := command.Process.Pid
	text := fmt.Sprint(pid, " ", StartTime(pid))
	if err := os.WriteFile(PidFile(task.ID), []byte(text), 0o644); err != nil {
		return err
	}
	running.Add(1)
	go func() {
		defer running.Done()
		copyLog(log, out)
		_ = command.Wait()
		text, _ := json.Marshal(Exit{Code: ExitCode(command.ProcessState), At: time.Now()})
		temporary := ExitFile(task.ID) + ".new"
		if os.WriteFile(temporary, text, 0o644) == nil {
			_ = os.Rename(temporary, ExitFile(task.ID)) // the directory is gone with its container
		}
	}()
	return nil
}

// copyLog writes each line as CRI wants it, so that `kubectl logs` can read it.
func copyLog(log io.Writer, from io.Reader) {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			fmt.Fprintf(log, "%s stdout F %s", time.Now().Format(time.RFC3339Nano), line)
		}
		if err != nil {
			return
		}
	}
}

// ExitCode is how a shell would give a process's end.
func ExitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}
