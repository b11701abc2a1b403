package hostinit

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// InitPath is process 1 of a host; its base name makes `ps` and Ansible see a systemd machine.
const InitPath = "/opt/testbed/bin/systemd"

// NetworkCard is the name of a host's only card.
const NetworkCard = "eth0"

// Main makes the machine described on stdin and becomes its init. It runs as process 1 of new
// pid, mount, network and UTS namespaces; a second line on stdin says that the card is plugged in.
func Main() error {
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the machine's description: %w", err)
	}
	var spec Spec
	if err := json.Unmarshal(line, &spec); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("detach mounts: %w", err)
	}
	root := filepath.Join(spec.Disk, "root")
	for _, step := range []func(Spec, string) error{
		mountDisk, mountKernel, mountDevices, mountFirmware, mountBinds,
	} {
		if err := step(spec, root); err != nil {
			return err
		}
	}
	if _, err := in.ReadBytes('\n'); err != nil {
		return fmt.Errorf("wait for the network card: %w", err)
	}
	if err := configureNetwork(spec); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(spec.Name)); err != nil {
		return err
	}
	if err := enter(root); err != nil {
		return err
	}
	return syscall.Exec(InitPath, []string{"/sbin/init"}, baseEnv())
}

func baseEnv() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LANG=C.UTF-8"}
}

// mountDisk shows the machine's /usr and /etc through overlays, so that a host may write anywhere
// and its files are gone with its disk.
func mountDisk(spec Spec, root string) error {
	if err := mount(root, root, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	for _, name := range []string{"usr", "etc"} {
		options := fmt.Sprintf("lowerdir=/%s,upperdir=%s,workdir=%s", name,
			filepath.Join(spec.Disk, name), filepath.Join(spec.Disk, name+".work"))
		if err := mount("overlay", filepath.Join(root, name), "overlay", 0, options); err != nil {
			return err
		}
	}
	return nil
}

func mountKernel(spec Spec, root string) error {
	if err := mount("proc", filepath.Join(root, "proc"), "proc", 0, ""); err != nil {
		return err
	}
	if err := mount("sysfs", filepath.Join(root, "sys"), "sysfs", 0, ""); err != nil {
		return err
	}
	kind := "cgroup2"
	if spec.Release == "centos" {
		kind = "tmpfs" // CentOS 7 has cgroup v1 under a tmpfs
	}
	if err := mount(kind, filepath.Join(root, "sys/fs/cgroup"), kind, 0, ""); err != nil {
		return err
	}
	return mount("tmpfs", filepath.Join(root, "run"), "tmpfs", 0, "mode=755")
}

func mountDevices(_ Spec, root string) error {
	dev := filepath.Join(root, "dev")
	if err := mount("tmpfs", dev, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	// The kernel's messages are the machine's below; the kubelet only wants to open them.
	for name, from := range map[string]string{"null": "null", "zero": "zero", "full": "full",
		"random": "random", "urandom": "urandom", "tty": "tty", "kmsg": "null"} {
		path := filepath.Join(dev, name)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return err
		}
		if err := mount("/dev/"+from, path, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	for _, dir := range []string{"pts", "shm"} {
		if err := os.Mkdir(filepath.Join(dev, dir), 0o755); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd",
		"stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(to, filepath.Join(dev, link)); err != nil {
			return err
		}
	}
	options := "newinstance,ptmxmode=0666,mode=0620,gid=5"
	if err := mount("devpts", filepath.Join(dev, "pts"), "devpts", 0, options); err != nil {
		return err
	}
	return mount("tmpfs", filepath.Join(dev, "shm"), "tmpfs", 0, "")
}

// mountFirmware gives the host its own boot id, swap and DMI identity. sysfs lets nobody make
// directories, so /sys/class is rebuilt: its classes are bound back beside our dmi.
func mountFirmware(spec Spec, root string) error {
	// The machine below may have swap; a host of Kubernetes has none.
	for path, text := range map[string]string{"sys/kernel/random/boot_id": spec.BootID,
		"swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority"} {
		own := filepath.Join(spec.Disk, filepath.Base(path))
		if err := os.WriteFile(own, []byte(text+"\n"), 0o444); err != nil {
			return err
		}
		target := filepath.Join(root, "proc", path)
		if err := mount(own, target, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	class, aside := filepath.Join(root, "sys/class"), filepath.Join(root, "mnt")
	if err := mount(class, aside, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	if err := mount("tmpfs", class, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, name := range []string{"net", "block"} {
		path := filepath.Join(class, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		if err := mount(filepath.Join(aside, name), path, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	if err := syscall.Unmount(aside, syscall.MNT_DETACH); err != nil {
		return err
	}
	id := filepath.Join(class, "dmi/id")
	if err := os.MkdirAll(id, 0o755); err != nil {
		return err
	}
	for name, value := range map[string]string{"product_uuid": spec.ProductUUID,
		"product_serial": spec.Serial, "product_name": "Testbed", "sys_vendor": "Testbed"} {
		if err := os.WriteFile(filepath.Join(id, name), []byte(value+"\n"), 0o444); err != nil {
			return err
		}
	}
	return nil
}

func mountBinds(spec Spec, root string) error {
	for _, bind := range spec.Binds {
		info, err := os.Stat(bind.From)
		if err != nil {
			return err
		}
		target := filepath.Join(root, bind.To)
		if info.IsDir() {
			err = os.MkdirAll(target, 0o755)
		} else if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
			err = touch(target)
		}
		if err != nil {
			return err
		}
		if err := mount(bind.From, target, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
		if !bind.ReadOnly {
			continue
		}
		flags := uintptr(syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY)
		if err := mount("", target, "", flags, ""); err != nil {
			return err
		}
	}
	return nil
}

func touch(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	return file.Close()
}

func configureNetwork(spec Spec) error {
	for _, words := range []string{
		"link set lo up",
		"addr add " + spec.Address + " dev " + NetworkCard,
		"link set " + NetworkCard + " up",
		"route add default via " + spec.Gateway,
	} {
		out, err := exec.Command("ip", strings.Fields(words)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", words, err, out)
		}
	}
	return nil
}

func enter(root string) error {
	old := filepath.Join(root, "mnt")
	if err := syscall.PivotRoot(root, old); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := syscall.Unmount("/mnt", syscall.MNT_DETACH); err != nil {
		return err
	}
	// As systemd does; else the kubelet binds its directory onto itself and reset cannot delete it.
	return syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, "")
}

func mount(source, target, kind string, flags uintptr, options string) error {
	if err := syscall.Mount(source, target, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}
