package main

import (
	"context"
	"os"
	"strings"
	"syscall"

	cadvisor "github.com/google/cadvisor/info/v1"
	cadvisorv2 "github.com/google/cadvisor/info/v2"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
)

// What a testbed host claims to have; the machine below is shared by all of them.
const (
	hostCores       = 4
	hostMemoryBytes = 8 << 30
)

// hostMachine answers what cadvisor would, from the host's own files, without watching cgroups.
type hostMachine struct{ cadvisortest.Fake }

func (*hostMachine) MachineInfo() (*cadvisor.MachineInfo, error) {
	return &cadvisor.MachineInfo{
		NumCores:       hostCores,
		MemoryCapacity: hostMemoryBytes,
		MachineID:      firstLine("/etc/machine-id"),
		SystemUUID:     firstLine("/sys/class/dmi/id/product_uuid"),
		BootID:         firstLine("/proc/sys/kernel/random/boot_id"),
	}, nil
}

func (*hostMachine) VersionInfo() (*cadvisor.VersionInfo, error) {
	return &cadvisor.VersionInfo{
		KernelVersion:      firstLine("/proc/sys/kernel/osrelease"),
		ContainerOsVersion: prettyName(),
	}, nil
}

func (*hostMachine) ImagesFsInfo(context.Context) (cadvisorv2.FsInfo, error) { return rootFs() }
func (*hostMachine) RootFsInfo() (cadvisorv2.FsInfo, error)                  { return rootFs() }
func (*hostMachine) ContainerFsInfo(context.Context) (cadvisorv2.FsInfo, error) {
	return rootFs()
}
func (*hostMachine) GetDirFsInfo(string) (cadvisorv2.FsInfo, error) { return rootFs() }

func rootFs() (cadvisorv2.FsInfo, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/", &fs); err != nil {
		return cadvisorv2.FsInfo{}, err
	}
	block := uint64(fs.Bsize)
	inodes, free := fs.Files, fs.Ffree
	return cadvisorv2.FsInfo{
		Device: "overlay", Mountpoint: "/",
		Capacity: fs.Blocks * block, Available: fs.Bavail * block,
		Usage:  (fs.Blocks - fs.Bfree) * block,
		Inodes: &inodes, InodesFree: &free,
	}, nil
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

func prettyName() string {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Unknown"
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return "Unknown"
}
