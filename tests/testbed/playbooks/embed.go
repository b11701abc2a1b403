// Package playbooks holds what the image spray-job has in /kubespray: playbooks and roles that act
// as kubespray 2.23 does, in the same order and with the same faults, on the testbed's hosts.
package playbooks

import (
	"embed"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed ansible.cfg *.yml roles
var files embed.FS

// Copy writes all of it below dir.
func Copy(dir string) error {
	return fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(dir, path)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		text, err := files.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, 0o644)
	})
}
