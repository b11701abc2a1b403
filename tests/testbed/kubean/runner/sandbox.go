package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// initName is argv[0] of the process that becomes a pod.
const initName = "kubean-pod"

// exitCannotStart is the exit code of a container whose command cannot be run.
const exitCannotStart = 128

// sandbox is everything that a pod's process must know before it becomes the container.
type sandbox struct {
	Hostname  string
	Root      string // an empty directory, where the pod's own root is mounted
	Playbooks string // copied to /kubespray, which is also the working directory
	Visible   string // a directory that must be seen under its own path (the venv)
	Mounts    []mount
	Command   []string
	Env       []string
}

// mount is one file or directory seen, read-only, at another path.
type mount struct{ Source, Target string }

// Main must be the first call of every program that uses this package: when the program was
// started as a pod, it becomes the container and does not return.
func Main() {
	if os.Args[0] != initName {
		return
	}
	box, failure := &sandbox{}, os.NewFile(4, "failure")
	unix.CloseOnExec(int(failure.Fd()))
	err := json.NewDecoder(os.NewFile(3, "sandbox")).Decode(box)
	if err == nil {
		unix.CloseOnExec(3)
		err = box.enter()
	}
	if err == nil {
		err = box.become()
	}
	fmt.Fprint(failure, err)
	os.Exit(exitCannotStart)
}

// start runs the sandbox as process 1 of its own pid, mount and UTS namespaces, and returns when
// the container's command has taken over. The network is the host's, because the pod must reach
// the cluster's hosts. The pod dies with this process.
func (s *sandbox) start(stdout, stderr io.Writer) (*os.Process, <-chan int, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{initName}
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL, Setsid: true,
	}
	orders, order, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer orders.Close()
	defer order.Close()
	failures, failure, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer failures.Close()
	cmd.ExtraFiles = []*os.File{orders, failure}
	ended, err := run(cmd)
	failure.Close()
	if err != nil {
		return nil, nil, err
	}
	if err := json.NewEncoder(order).Encode(s); err != nil {
		return nil, nil, err
	}
	// The child's end of this pipe is closed by its exec: silence means success.
	why, err := io.ReadAll(failures)
	if err == nil && len(why) > 0 {
		err = errors.New(string(why))
	}
	if err != nil {
		cmd.Process.Kill()
		<-ended
		return nil, nil, err
	}
	return cmd.Process, ended, nil
}

// run starts the command on a thread that stays as long as it runs: the death signal comes when
// the thread that started it ends, not the process.
func run(cmd *exec.Cmd) (<-chan int, error) {
	started, ended := make(chan error, 1), make(chan int, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- exitCode(cmd.Wait())
		}
	}()
	return ended, <-started
}

// exitCode is what a container runtime would report: 128 + n after signal n.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		return exitCannotStart
	}
	if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// enter builds the pod's root from the host's directories and moves into it. Home, /tmp and /bin
// are the pod's own, so known hosts and Ansible's fact cache end with the pod, as in a container.
func (s *sandbox) enter() error {
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("pod", s.Root, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	own := []string{"proc", "tmp", "bin", "root", "conf", "auth", "kubespray"}
	if err := mirror("/", s.Root, own...); err != nil {
		return err
	}
	if err := mirror("/root", s.at("/root"), ".ssh", ".ansible", ".cache"); err != nil {
		return err
	}
	if err := linkAll("/usr/bin", s.at("/bin")); err != nil {
		return err
	}
	for _, dir := range []string{"/proc", "/tmp", "/conf", "/auth"} {
		if err := os.MkdirAll(s.at(dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(s.at("/tmp"), 0o777|fs.ModeSticky); err != nil {
		return err
	}
	if err := unix.Mount("proc", s.at("/proc"), "proc", 0, ""); err != nil {
		return err
	}
	if err := os.CopyFS(s.at("/kubespray"), os.DirFS(s.Playbooks)); err != nil {
		return err
	}
	if err := bind(s.Visible, s.at(s.Visible)); err != nil {
		return err
	}
	for _, m := range s.Mounts {
		if err := bindReadOnly(m.Source, s.at(m.Target)); err != nil {
			return err
		}
	}
	return s.pivot()
}

func (s *sandbox) at(path string) string { return filepath.Join(s.Root, path) }

func (s *sandbox) pivot() error {
	if err := os.Chdir(s.Root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Chdir("/kubespray")
}

func (s *sandbox) become() error {
	err := unix.Exec(s.Command[0], s.Command, s.Env)
	return fmt.Errorf("exec %s: %w", s.Command[0], err)
}

// mirror makes every entry of a directory visible in another one, except the named.
func mirror(from, to string, except ...string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	skip := " " + strings.Join(except, " ") + " "
	for _, entry := range entries {
		if strings.Contains(skip, " "+entry.Name()+" ") {
			continue
		}
		source, target := filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())
		if entry.Type()&fs.ModeSymlink != 0 {
			err = copyLink(source, target)
		} else if entry.IsDir() || entry.Type().IsRegular() {
			err = bind(source, target)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyLink(source, target string) error {
	where, err := os.Readlink(source)
	if err != nil {
		return err
	}
	return os.Symlink(where, target)
}

// linkAll fills a directory of the pod's own with links to every program of another, so that
// single files can be mounted among them.
func linkAll(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		err := os.Symlink(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name()))
		if err != nil {
			return err
		}
	}
	return nil
}

func bindReadOnly(source, target string) error {
	if err := bind(source, target); err != nil {
		return err
	}
	return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// bind mounts a file or a whole tree at target, which is made if it is not there.
func bind(source, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	dir := target
	if !info.IsDir() {
		dir = filepath.Dir(target)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if !info.IsDir() {
		file, err := os.OpenFile(target, os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		file.Close()
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, target, err)
	}
	return nil
}
