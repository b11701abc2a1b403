package hosts

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// File is put on a new host's disk by its installer.
type File struct {
	Path string
	Mode uint32 // 0 means 0644
	Data []byte
	Link string // makes a symbolic link instead
	From Source // takes the text from a file of another host instead
}

// Source is a file of a host, read when the disk that wants it is written: it may change until then.
type Source struct{ Host, Path string }

// Enabled returns the files that install a unit and start it at boot.
func Enabled(name, text string) []File {
	path := "/etc/systemd/system/" + name
	return []File{{Path: path, Data: []byte(text)},
		{Path: "/etc/systemd/system/multi-user.target.wants/" + name, Link: path}}
}

// install makes a fresh disk: a new machine-id and new ssh host keys, nothing of the old system.
func install(disk, name string, profile Profile, keys []byte, files []File,
	read func(Source) ([]byte, error)) error {
	for _, dir := range skeleton {
		if err := os.MkdirAll(filepath.Join(disk, dir), 0o755); err != nil {
			return err
		}
	}
	for dir, mode := range map[string]os.FileMode{"root/tmp": 0o777, "root/var/tmp": 0o777} {
		path := filepath.Join(disk, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(path, mode|os.ModeSticky); err != nil {
			return err
		}
	}
	if err := linkTops(disk); err != nil {
		return err
	}
	if err := hide(disk, "etc/debian_version", "etc/systemd/system", "etc/cni", "etc/kubernetes",
		"etc/nginx", "etc/ssh", "etc/apt", "usr/local"); err != nil {
		return err
	}
	all := append(system(name, profile, keys), Enabled(profile.sshUnit, sshUnit)...)
	for path, text := range profile.extra {
		mode := uint32(0)
		if filepath.Dir(path) == "usr/local/bin" {
			mode = 0o755
		}
		all = append(all, File{Path: path, Data: []byte(text), Mode: mode})
	}
	if profile.ID == "centos" {
		unit := "/etc/systemd/system/" + firewall
		all = append(all, File{Path: "/etc/systemd/system/multi-user.target.wants/" + firewall,
			Link: unit})
	}
	for _, file := range append(all, files...) {
		if file.From.Host != "" {
			data, err := read(file.From)
			if err != nil {
				return fmt.Errorf("install %s: %w", file.Path, err)
			}
			file.Data = data
		}
		if err := writeDisk(disk, file); err != nil {
			return fmt.Errorf("install %s: %w", file.Path, err)
		}
	}
	key := filepath.Join(disk, "etc/ssh/ssh_host_ed25519_key")
	out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key).
		CombinedOutput()
	if err != nil {
		return fmt.Errorf("ssh-keygen: %w: %s", err, out)
	}
	return nil
}

const sshUnit = `[Unit]
Description=OpenBSD Secure Shell server

[Service]
ExecStartPre=/bin/mkdir -p /run/sshd
ExecStart=/usr/sbin/sshd -D -e -f /etc/ssh/sshd_config
KillMode=process
Restart=always
`

// sshd without PAM: hosts have no accounts but root, who comes in by key.
const sshConfig = `HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
PrintMotd no
MaxStartups 50
Subsystem sftp internal-sftp
`

// system is what every operating system has.
func system(name string, profile Profile, keys []byte) []File {
	tools := map[string]string{"systemctl": "systemctl", "journalctl": "journalctl"}
	files := []File{
		{Path: "/etc/hostname", Data: []byte(name + "\n")},
		{Path: "/etc/hosts", Data: []byte("127.0.0.1 localhost\n127.0.1.1 " + name + "\n")},
		{Path: "/etc/machine-id", Data: []byte(randomHex(16) + "\n"), Mode: 0o444},
		{Path: "/etc/os-release", Data: []byte(profile.osRelease)},
		{Path: "/usr/lib/os-release", Data: []byte(profile.osRelease)},
		{Path: "/etc/shadow", Data: []byte("root:*:19000:0:99999:7:::\n"), Mode: 0o600},
		{Path: "/etc/ssh/sshd_config", Data: []byte(sshConfig)},
		{Path: "/root/.ssh/authorized_keys", Data: keys, Mode: 0o600},
		{Path: "/root/.bashrc", Data: []byte("PS1='\\u@\\h:\\w# '\n")},
		{Path: "/var/run", Link: "/run"},
	}
	for tool, program := range tools {
		for _, dir := range []string{"/usr/bin/", "/usr/local/bin/"} {
			files = append(files, File{Path: dir + tool, Link: BinDir + "/" + program})
		}
	}
	return files
}

// linkTops repeats how the machine below has /bin, /lib and their like.
func linkTops(disk string) error {
	for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		target, err := os.Readlink("/" + name)
		if err != nil {
			continue // not there, or a directory on an unmerged system
		}
		if err := os.Symlink(target, filepath.Join(disk, "root", name)); err != nil {
			return err
		}
	}
	return nil
}

// hide makes directories of the machine below look empty and its files absent.
func hide(disk string, paths ...string) error {
	for _, path := range paths {
		info, err := os.Stat("/" + path)
		if err != nil {
			continue
		}
		target := filepath.Join(disk, path)
		if info.IsDir() {
			if err := os.MkdirAll(target, 0o755); err != nil {
				return err
			}
			err = syscall.Setxattr(target, "trusted.overlay.opaque", []byte("y"), 0)
		} else {
			err = syscall.Mknod(target, syscall.S_IFCHR, 0) // overlayfs: a whiteout
		}
		if err != nil {
			return fmt.Errorf("hide %s: %w", path, err)
		}
	}
	return nil
}

func randomHex(bytes int) string {
	raw := make([]byte, bytes)
	rand.Read(raw)
	return hex.EncodeToString(raw)
}

func randomUUID() string {
	text := randomHex(16)
	return fmt.Sprintf("%s-%s-4%s-a%s-%s", text[:8], text[8:12], text[13:16], text[17:20],
		text[20:])
}
