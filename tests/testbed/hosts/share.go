package hosts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/cgroups" // what kubelet and runc use: both versions of cgroups
	"github.com/opencontainers/cgroups/manager"
)

// share gives a host its part of the processors, as large as that of any other host: what one of them
// does (an API server that starts, Ansible) must not starve another one, which on a site has
// processors of its own. Every process of the host comes from its init, and so into its cgroup.
func share(dir, host string, pid int) error {
	paths, err := cgroupPaths(filepath.Join(cgroupOf(dir), host))
	if err != nil {
		return err
	}
	group, err := manager.NewWithPaths(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, paths)
	if err != nil {
		return err
	}
	return group.Apply(pid)
}

// unshare removes the cgroups of a testbed that has ended.
func unshare(dir string) error {
	paths, err := cgroupPaths(cgroupOf(dir))
	if err != nil {
		return nil // this machine has none
	}
	for _, path := range paths {
		if err := cgroups.RemovePath(path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// cgroupOf is a name for all hosts of a testbed, of which there may be several.
func cgroupOf(dir string) string { return "testbed" + strings.ReplaceAll(dir, "/", "-") }

// cgroupPaths is where a cgroup for the processors is, in the words of the library: by controller, and
// without one where all controllers are one tree.
func cgroupPaths(name string) (map[string]string, error) {
	if cgroups.IsCgroup2UnifiedMode() {
		return map[string]string{"": filepath.Join("/sys/fs/cgroup", name)}, nil
	}
	top, err := cgroups.FindCgroupMountpoint("", "cpu")
	if err != nil {
		return nil, fmt.Errorf("this machine has no cgroups for its processors: %w", err)
	}
	return map[string]string{"cpu": filepath.Join(top, name)}, nil
}
