package hosts

import (
	"fmt"
	"os"
	"path/filepath"
)

// Profile is an operating system that can be installed on a host.
type Profile struct {
	ID        string // os-release ID
	osRelease string
	sshUnit   string
	extra     map[string]string // files that tell this system from others, by path below /
}

// Profiles by the name that an installer is given.
var Profiles = map[string]Profile{
	"centos7": {ID: "centos", sshUnit: "sshd.service", osRelease: `NAME="CentOS Linux"
VERSION="7 (Core)"
ID="centos"
ID_LIKE="rhel fedora"
VERSION_ID="7"
PRETTY_NAME="CentOS Linux 7 (Core)"
ANSI_COLOR="0;31"
CPE_NAME="cpe:/o:centos:centos:7"
HOME_URL="https://www.centos.org/"
`, extra: map[string]string{
		"etc/resolv.conf":                    "nameserver 10.77.0.1\n",
		"etc/redhat-release":                 "CentOS Linux release 7.9.2009 (Core)\n",
		"etc/centos-release":                 "CentOS Linux release 7.9.2009 (Core)\n",
		"etc/system-release":                 "CentOS Linux release 7.9.2009 (Core)\n",
		"etc/yum.repos.d/CentOS.repo":        "[base]\nname=CentOS-7\nbaseurl=" + packages + "centos\n",
		"usr/local/bin/firewall-cmd":         "#!/bin/sh\nsystemctl is-active firewalld\n",
		"etc/systemd/system/network.service": service("networking", "/bin/true", once),
		"etc/systemd/system/" + firewall:     service("firewall", BinDir+"/firewalld", ""),
	}},
	"ubuntu2204": {ID: "ubuntu", sshUnit: "ssh.service", osRelease: `PRETTY_NAME="Ubuntu 22.04.4 LTS"
NAME="Ubuntu"
VERSION_ID="22.04"
VERSION="22.04.4 LTS (Jammy Jellyfish)"
VERSION_CODENAME=jammy
ID=ubuntu
ID_LIKE=debian
HOME_URL="https://www.ubuntu.com/"
UBUNTU_CODENAME=jammy
`, extra: map[string]string{
		"etc/resolv.conf": "nameserver 127.0.0.53\noptions edns0 trust-ad\n",
		"etc/lsb-release": "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=22.04\nDISTRIB_CODENAME=jammy\n" +
			"DISTRIB_DESCRIPTION=\"Ubuntu 22.04.4 LTS\"\n",
		"etc/systemd/system/systemd-networkd.service": service("network", "/bin/true", once),
		"etc/debian_version":                          "bookworm/sid\n",
		"etc/apt/sources.list":                        "",
		"etc/apt/apt.conf.d/.keep":                    "",
		"var/lib/dpkg/status":                         "",
		"var/lib/dpkg/lock":                           "",
		"var/lib/dpkg/lock-frontend":                  "",
		"var/lib/apt/lists/lock":                      "",
		"var/lib/apt/lists/partial/.keep":             "",
		"var/cache/apt/archives/lock":                 "",
		"var/cache/apt/archives/partial/.keep":        "",
	}},
	"rocky9": {ID: "rocky", sshUnit: "sshd.service", osRelease: `NAME="Rocky Linux"
VERSION="9.4 (Blue Onyx)"
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.4"
PLATFORM_ID="platform:el9"
PRETTY_NAME="Rocky Linux 9.4 (Blue Onyx)"
ANSI_COLOR="0;32"
CPE_NAME="cpe:/o:rocky:rocky:9::baseos"
HOME_URL="https://rockylinux.org/"
`, extra: map[string]string{
		"etc/resolv.conf":                    "nameserver 10.77.0.1\n",
		"etc/redhat-release":                 "Rocky Linux release 9.4 (Blue Onyx)\n",
		"etc/rocky-release":                  "Rocky Linux release 9.4 (Blue Onyx)\n",
		"etc/system-release":                 "Rocky Linux release 9.4 (Blue Onyx)\n",
		"etc/yum.repos.d/rocky.repo":         "[baseos]\nname=Rocky Linux 9\nbaseurl=" + packages + "rocky\n",
		"var/lib/rpm/.rpm.lock":              "",
		"etc/systemd/system/network.service": service("networking", "/bin/true", once),
	}},
}

// packages is where the site's repositories are.
const packages = "http://10.77.0.2:9000/kubean/"

// once marks a unit that does its work and ends.
const once = "Type=oneshot\nRemainAfterExit=yes\n"

const firewall = "firewalld.service"

// service writes a unit file; settings are further lines of its [Service] section.
func service(description, command, settings string) string {
	return fmt.Sprintf("[Unit]\nDescription=%s\n\n[Service]\nExecStart=%s\n%s\n[Install]\n"+
		"WantedBy=multi-user.target\n", description, command, settings)
}

// skeleton is every directory that a disk starts with beside the two overlays.
var skeleton = []string{"root/proc", "root/sys", "root/dev", "root/run", "root/mnt", "root/usr",
	"root/etc", "root/opt", "root/home", "root/srv", "root/var/lib", "root/var/log",
	"root/var/cache", "root/var/spool", "root/var/lib/nginx", "root/var/log/nginx",
	"root/root/.ssh", "usr", "usr.work", "etc", "etc.work"}

// place maps a path on the host to where it lies on the disk: /usr and /etc are overlays.
func place(disk, path string) string {
	for _, top := range []string{"usr", "etc"} {
		if rest, ok := cutTop(path, top); ok {
			return filepath.Join(disk, top, rest)
		}
	}
	return filepath.Join(disk, "root", path)
}

func cutTop(path, top string) (string, bool) {
	clean := filepath.Clean("/" + path)
	prefix := "/" + top + "/"
	if len(clean) > len(prefix) && clean[:len(prefix)] == prefix {
		return clean[len(prefix):], true
	}
	return "", false
}

func writeDisk(disk string, file File) error {
	path := place(disk, file.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	_ = os.Remove(path) // never write through a link of the machine below
	if file.Link != "" {
		return os.Symlink(file.Link, path)
	}
	mode := os.FileMode(file.Mode)
	if mode == 0 {
		mode = 0o644
	}
	if err := os.WriteFile(path, file.Data, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
