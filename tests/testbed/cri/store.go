// Package cri is containerd as the kubelet and an agent see it: the CRI over a socket, with real
// shims and real processes that survive it. There are no images: a container has its own processes,
// mounts and its pod's network, and the host's files.
package cri

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"rehull.dev/testbed/podnet"
	"rehull.dev/testbed/shim"
)

// metaDir is containerd's own memory: it survives a restart and dies with kubespray's reset.
const metaDir = "/var/lib/containerd/io.containerd.metadata.v1"

// sandbox is one pod.
type sandbox struct {
	ID, Name, UID, Namespace string
	Attempt                  uint32
	Labels, Annotations      map[string]string
	LogDirectory, IP         string
	HostNetwork              bool
	Created                  time.Time
}

// network is the file of the pod's own network namespace, "" when it has the host's.
func (s *sandbox) network() string {
	if s.HostNetwork {
		return ""
	}
	return podnet.Namespace(s.ID)
}

// container is one container of a pod, started or not.
type container struct {
	ID, Sandbox, Name   string
	Attempt             uint32
	Image               string
	Labels, Annotations map[string]string
	Log                 string
	Task                shim.Task
	Created, Started    time.Time
}

// process is what is known of a task from outside its shim.
type process struct {
	pid    int // 0 when none lives
	exited *shim.Exit
}

func look(id string) process {
	if text, err := os.ReadFile(shim.ExitFile(id)); err == nil {
		var exit shim.Exit
		if json.Unmarshal(text, &exit) == nil {
			return process{exited: &exit}
		}
	}
	text, err := os.ReadFile(shim.PidFile(id))
	if err != nil {
		return process{}
	}
	pidText, started, _ := strings.Cut(string(text), " ")
	pid, err := strconv.Atoi(pidText)
	if err != nil || shim.StartTime(pid) != started {
		return process{exited: &shim.Exit{Code: 255, At: time.Now()}} // its shim was killed
	}
	return process{pid: pid}
}

func save(kind, id string, value any) error {
	directory := filepath.Join(metaDir, kind)
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, id), text, 0o600)
}

func forget(kind, id string) {
	_ = os.Remove(filepath.Join(metaDir, kind, id)) // reset may have removed it before
	_ = os.RemoveAll(filepath.Join(shim.TaskDir, id))
}

func load[T any](kind string) (map[string]*T, error) {
	all := map[string]*T{}
	entries, err := os.ReadDir(filepath.Join(metaDir, kind))
	if os.IsNotExist(err) {
		return all, nil
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(metaDir, kind, entry.Name()))
		if err != nil {
			return nil, err
		}
		value := new(T)
		if err := json.Unmarshal(text, value); err != nil {
			return nil, fmt.Errorf("%s %s: %w", kind, entry.Name(), err)
		}
		all[entry.Name()] = value
	}
	return all, err
}
