package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"rehull.dev/testbed/hostinit"
	"rehull.dev/testbed/hosts"
)

// HideNode makes `kubectl get nodes` on the first control plane leave one node out, as a slow or
// partial answer does. Kubespray then neither drains nor deletes the node, skips both tasks without
// a word, and the operation succeeds (kubespray#5265).
func HideNode(ctx context.Context, testbed *hosts.Testbed, node string) error {
	script := fmt.Sprintf(`rm /usr/local/bin/kubectl
cat > /usr/local/bin/kubectl <<'END'
#!/bin/bash
case " $* " in
*" get nodes -o go-template"*) set -o pipefail; %[1]s/kubectl "$@" | grep -vx %[2]s ;;
*) exec %[1]s/kubectl "$@" ;;
esac
END
chmod +x /usr/local/bin/kubectl`, hosts.BinDir, node)
	_, err := shell(ctx, testbed, firstControlPlane, script)
	return err
}

// ShowNodes ends HideNode.
func ShowNodes(ctx context.Context, testbed *hosts.Testbed) error {
	_, err := shell(ctx, testbed, firstControlPlane, linkPrograms("kubectl"))
	return err
}

// IgnoreStop makes a host say that it stopped a unit and leave it running.
func IgnoreStop(ctx context.Context, testbed *hosts.Testbed, host, unit string) error {
	path := hostinit.FaultDir + "/ignore-stop." + unit
	return testbed.Write(ctx, host, path, 0o644, nil)
}

// HonourStop ends IgnoreStop.
func HonourStop(ctx context.Context, testbed *hosts.Testbed, host, unit string) error {
	_, err := testbed.Run(ctx, host, "rm", hostinit.FaultDir+"/ignore-stop."+unit)
	return err
}

// plantDir holds, on host mgmt, what an installer puts on a node's new disk beside the system.
func plantDir(node string) string { return hostinit.FaultDir + "/disk/" + node }

// Plant makes the next installation of a node bring this file, as an image that was not cleaned.
func Plant(ctx context.Context, testbed *hosts.Testbed, node, path, text string) error {
	return testbed.Write(ctx, managementHost, plantDir(node)+path, 0o644, []byte(text))
}

// Clean ends Plant.
func Clean(ctx context.Context, testbed *hosts.Testbed, node string) error {
	_, err := testbed.Run(ctx, managementHost, "rm", "-r", plantDir(node))
	return err
}

// Planted lists, on host mgmt itself, the files that Plant has left for a node.
func Planted(node string) ([]hosts.File, error) {
	var files []hosts.File
	dir := plantDir(node)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files = append(files, hosts.File{Path: strings.TrimPrefix(path, dir), Data: data})
		return err
	})
	return files, err
}

// Installer makes the site's installer this shell script.
func Installer(ctx context.Context, testbed *hosts.Testbed, script string) error {
	text := []byte("#!/bin/sh\n" + script + "\n")
	return testbed.Write(ctx, managementHost, "/usr/local/bin/reinstall", 0o755, text)
}

// HonestInstaller is the script of the installer that does what it is told.
const HonestInstaller = "exec " + hosts.BinDir + "/testbed reinstall-hook"
