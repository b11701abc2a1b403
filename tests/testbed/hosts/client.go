package hosts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rehull.dev/testbed/shim"
)

// Testbed is a running warden as seen from the machine below.
type Testbed struct {
	Dir string // everything the testbed writes
	pid int    // of the warden, seen from here
}

// Start runs a warden in dir after ending one that an earlier run may have left. Unless detached,
// it dies with this process, even by kill -9.
func Start(dir string, detached bool) (*Testbed, error) {
	cache, err := Cache()
	if err != nil {
		return nil, err
	}
	if err := Stop(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "warden.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	bin := filepath.Join(cache, "bin")
	command := exec.Command(filepath.Join(bin, "testbed"), "warden", dir, bin)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: detached,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC}
	if !detached {
		command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if err := startAndKeepThread(command); err != nil {
		return nil, err
	}
	pid := command.Process.Pid
	mark := fmt.Sprint(pid, " ", shim.StartTime(pid))
	if err := os.WriteFile(pidPath(dir), []byte(mark), 0o644); err != nil {
		return nil, err
	}
	t := &Testbed{Dir: dir, pid: pid}
	deadline := time.Now().Add(bootLimit)
	for {
		if _, err := t.Hosts(); err == nil {
			return t, nil
		} else if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("the warden does not answer: %w: %s", err, text)
		}
		time.Sleep(bootPeriod)
	}
}

// startAndKeepThread starts a child from a thread that lives as long as the child: the parent
// death signal is bound to the thread that forked, not to the process.
func startAndKeepThread(command *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait()
		}
	}()
	return <-started
}

// Open connects to the warden that runs in dir.
func Open(dir string) (*Testbed, error) {
	pid := livingWarden(dir)
	if pid == 0 {
		return nil, fmt.Errorf("no testbed runs in %s: use `testbed up`", dir)
	}
	return &Testbed{Dir: dir, pid: pid}, nil
}

// livingWarden returns the warden's pid, or 0. The start time guards against a reused pid; a warden
// that is being killed has it to the end, when its command line is gone.
func livingWarden(dir string) int {
	text, err := os.ReadFile(pidPath(dir))
	if err != nil {
		return 0
	}
	number, started, _ := strings.Cut(string(text), " ")
	pid, err := strconv.Atoi(number)
	if err != nil || shim.StartTime(pid) != started {
		return 0
	}
	return pid
}

// hasEnded is true once the process is gone or a zombie: the init of a namespace becomes one only
// after every other process of the namespace has ended.
func hasEnded(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(text, []byte(") Z "))
}

// Stop ends the testbed in dir, if there is one, and removes what it wrote.
func Stop(dir string) error {
	if pid := livingWarden(dir); pid != 0 {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
		for !hasEnded(pid) {
			time.Sleep(bootPeriod)
		}
	}
	if _, err := os.Stat(pidPath(dir)); err != nil {
		return nil // never used by a testbed: not ours to remove
	}
	if err := unshare(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// Hosts lists all hosts.
func (t *Testbed) Hosts() ([]Status, error) {
	return send(socketPath(t.Dir), request{Op: "list"})
}

// Host returns one of them.
func (t *Testbed) Host(name string) (Status, error) {
	all, err := t.Hosts()
	if err != nil {
		return Status{}, err
	}
	return find(all, name)
}

func find(all []Status, name string) (Status, error) {
	for _, status := range all {
		if status.Name == name {
			return status, nil
		}
	}
	return Status{}, fmt.Errorf("no host %q", name)
}

// Create buys a machine and installs a profile on it.
func (t *Testbed) Create(machine Machine, profile string, keys []byte) error {
	_, err := send(socketPath(t.Dir),
		request{Op: "create", Machine: machine, Profile: profile, Keys: keys})
	return err
}

// Reinstall throws a host's disk away and puts a fresh system and the given files on it.
func (t *Testbed) Reinstall(host, profile string, files []File) error {
	order := request{Op: "reinstall", Host: host, Profile: profile, Files: files}
	_, err := send(socketPath(t.Dir), order)
	return err
}

// Begin orders a reinstall from inside a host and returns at once. An order with the ID of the
// host's last one does nothing.
func Begin(id, host, profile string, files []File) error {
	order := request{Op: "order", ID: id, Host: host, Profile: profile, Files: files}
	_, err := send(SocketInHost, order)
	return err
}

// LastOrder says, inside a host, how far the last order for a host is.
func LastOrder(host string) (Order, error) {
	all, err := send(SocketInHost, request{Op: "list"})
	if err != nil {
		return Order{}, err
	}
	status, err := find(all, host)
	return status.Order, err
}

// Reboot keeps the disk; PowerOff leaves the host off.
func (t *Testbed) Reboot(host string) error   { return t.order("reboot", host) }
func (t *Testbed) PowerOff(host string) error { return t.order("poweroff", host) }

func (t *Testbed) order(op, host string) error {
	_, err := send(socketPath(t.Dir), request{Op: op, Host: host})
	return err
}

// send sends one request to a warden.
func send(socket string, order request) ([]Status, error) {
	connection, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	if err := json.NewEncoder(connection).Encode(order); err != nil {
		return nil, err
	}
	var answer response
	if err := json.NewDecoder(connection).Decode(&answer); err != nil {
		return nil, fmt.Errorf("the warden gave no answer: %w", err)
	}
	if answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	return answer.Hosts, nil
}

// Command prepares a command inside a host, with its root, processes and network.
func (t *Testbed) Command(ctx context.Context, host string, args ...string) (*exec.Cmd, error) {
	status, err := t.Host(host)
	if err != nil {
		return nil, err
	}
	if status.Pid == 0 {
		return nil, fmt.Errorf("host %s is powered off", host)
	}
	all := "-m -n -p -u -i --"
	line := append([]string{"-t", strconv.Itoa(t.pid)}, strings.Fields(all)...)
	line = append(line, "nsenter", "-t", strconv.Itoa(status.Pid))
	line = append(line, strings.Fields(all)...)
	line = append(line, "/usr/bin/env", "-i", "HOME=/root", "LANG=C.UTF-8",
		"TERM="+os.Getenv("TERM"),
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	command := exec.CommandContext(ctx, "nsenter", append(line, args...)...)
	command.WaitDelay = outputDelay
	return command, nil
}

// outputDelay bounds the wait for output that a background child of a command holds open.
const outputDelay = 2 * time.Second

// Run runs a command inside a host and returns its output; an error carries what it wrote.
func (t *Testbed) Run(ctx context.Context, host string, args ...string) (string, error) {
	return t.pipe(ctx, host, nil, args...)
}

// Write puts a file on a running host; mode 0 means 0644.
func (t *Testbed) Write(ctx context.Context, host, path string, mode uint32, data []byte) error {
	if mode == 0 {
		mode = 0o644
	}
	script := fmt.Sprintf("mkdir -p %s && cat > %[2]s && chmod %[3]o %[2]s", filepath.Dir(path),
		path, mode)
	_, err := t.pipe(ctx, host, data, "sh", "-c", script)
	return err
}

func (t *Testbed) pipe(ctx context.Context, host string, in []byte, args ...string) (
	string, error) {
	command, err := t.Command(ctx, host, args...)
	if err != nil {
		return "", err
	}
	var out, problems bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(in), &out, &problems
	if err := command.Run(); err != nil {
		return out.String(), fmt.Errorf("on %s: %s: %w: %s%s", host, strings.Join(args, " "), err,
			out.String(), problems.String())
	}
	return out.String(), nil
}
