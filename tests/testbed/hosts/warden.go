package hosts

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"

	"rehull.dev/testbed/hostinit"
)

const bridge = "br0"

// warden owns the hosts. Its methods are called with the lock held, except where they say so.
type warden struct {
	dir, bin string
	lock     sync.Mutex
	hosts    map[string]*host
}

type host struct {
	Status
	lock    sync.Mutex // one order at a time
	keys    []byte
	disk    string
	release string // os-release ID of what is on it
	command *exec.Cmd
}

// Warden is the program behind the socket: process 1 of new pid, mount, network and UTS namespaces.
func Warden(dir, bin string) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("the warden runs as process 1 of its own namespaces: use `testbed up`")
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte("testbed")); err != nil {
		return err
	}
	for _, words := range []string{
		"link set lo up", "link add " + bridge + " type bridge", "link set " + bridge + " up",
		"addr add " + Gateway + prefixLength + " dev " + bridge,
	} {
		if err := ip(words); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(socketPath(dir)), 0o755); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socketPath(dir))
	if err != nil {
		return err
	}
	w := &warden{dir: dir, bin: bin, hosts: map[string]*host{}}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go w.serve(connection)
	}
}

func ip(words string) error {
	out, err := exec.Command("ip", strings.Fields(words)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", words, err, out)
	}
	return nil
}

func (w *warden) serve(connection net.Conn) {
	defer connection.Close()
	var order request
	if err := json.NewDecoder(connection).Decode(&order); err != nil {
		return
	}
	var answer response
	if err := w.obey(order); err != nil {
		answer.Error = err.Error()
	}
	answer.Hosts = w.list()
	_ = json.NewEncoder(connection).Encode(answer) // the caller may have been killed
}

func (w *warden) list() []Status {
	w.lock.Lock()
	defer w.lock.Unlock()
	all := []Status{}
	for _, h := range w.hosts {
		all = append(all, h.Status)
	}
	sort.Slice(all, func(a, b int) bool { return all[a].Name < all[b].Name })
	return all
}

// find returns a host, or registers the one to be created.
func (w *warden) find(order request) (*host, error) {
	w.lock.Lock()
	defer w.lock.Unlock()
	name := order.Host
	if order.Op == "create" {
		name = order.Machine.Name
		if _, exists := w.hosts[name]; exists {
			return nil, fmt.Errorf("host %s exists", name)
		}
		w.hosts[name] = &host{Status: Status{Machine: order.Machine}, keys: order.Keys}
	}
	h, ok := w.hosts[name]
	if !ok {
		return nil, fmt.Errorf("no host %q", name)
	}
	return h, nil
}

func (w *warden) obey(order request) error {
	if order.Op == "list" {
		return nil
	}
	h, err := w.find(order)
	if err != nil {
		return err
	}
	if order.Op == "order" {
		return w.begin(h, order)
	}
	h.lock.Lock()
	defer h.lock.Unlock()
	switch order.Op {
	case "create", "reinstall":
		return w.reinstall(h, order, func(int, string) {})
	case "reboot":
		w.powerOff(h)
		return w.boot(h)
	case "poweroff":
		w.powerOff(h)
		return nil
	}
	return fmt.Errorf("no order %q", order.Op)
}

// begin starts a reinstall that goes on by itself, whatever becomes of the caller.
func (w *warden) begin(h *host, order request) error {
	w.lock.Lock()
	defer w.lock.Unlock()
	last := h.Order
	switch {
	case last.ID == order.ID && last.Trouble != "":
		return errors.New(last.Trouble)
	case last.ID == order.ID:
		return nil
	case last.ID != "" && last.Percent < 100 && last.Trouble == "":
		return fmt.Errorf("%s is being reinstalled for order %s", h.Name, last.ID)
	}
	h.Order = Order{ID: order.ID, Words: "waiting for the machine"}
	go func() {
		h.lock.Lock()
		defer h.lock.Unlock()
		say := func(percent int, words string) {
			w.lock.Lock()
			h.Order.Percent, h.Order.Words = percent, words
			w.lock.Unlock()
		}
		if err := w.reinstall(h, order, say); err != nil {
			w.lock.Lock()
			h.Order.Trouble = err.Error()
			w.lock.Unlock()
			return
		}
		say(100, "the new system is up")
	}()
	return nil
}

// reinstall throws the disk away, writes another one and boots it.
func (w *warden) reinstall(h *host, order request, say func(percent int, words string)) error {
	profile, ok := Profiles[order.Profile]
	if !ok {
		return fmt.Errorf("no profile %q", order.Profile)
	}
	say(0, "powering off")
	w.powerOff(h)
	w.lock.Lock()
	h.Profile, h.Generation = "", h.Generation+1
	old := h.disk
	h.disk = filepath.Join(w.dir, "hosts", h.Name, fmt.Sprintf("disk%d", h.Generation))
	w.lock.Unlock()
	say(20, "wiping the disk")
	if old != "" {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	say(40, "installing "+order.Profile)
	if err := install(h.disk, h.Name, profile, h.keys, order.Files, w.read); err != nil {
		return err
	}
	h.release = profile.ID
	say(80, "booting")
	if err := w.boot(h); err != nil {
		return err
	}
	w.lock.Lock()
	h.Profile = order.Profile
	w.lock.Unlock()
	return nil
}

// read reads a file from a host's disk.
func (w *warden) read(from Source) ([]byte, error) {
	w.lock.Lock()
	defer w.lock.Unlock()
	h, ok := w.hosts[from.Host]
	if !ok {
		return nil, fmt.Errorf("no host %q", from.Host)
	}
	return os.ReadFile(place(h.disk, from.Path))
}

// boot starts the host's first process and plugs its network card in.
func (w *warden) boot(h *host) error {
	bootID := randomUUID()
	binds := []hostinit.Bind{{From: w.bin, To: BinDir, ReadOnly: true}}
	for from, to := range h.Binds {
		binds = append(binds, hostinit.Bind{From: from, To: to})
	}
	spec, err := json.Marshal(hostinit.Spec{Name: h.Name, Address: h.Address + prefixLength,
		Gateway: Gateway, Disk: h.disk, Release: h.release, BootID: bootID,
		ProductUUID: h.ProductUUID, Serial: h.Serial, Binds: binds})
	if err != nil {
		return err
	}
	console, err := os.OpenFile(filepath.Join(filepath.Dir(h.disk), "console.log"),
		os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer console.Close()
	command := &exec.Cmd{Path: filepath.Join(w.bin, "host"), Args: []string{"machine"},
		Stdout: console, Stderr: console, SysProcAttr: &syscall.SysProcAttr{Setsid: true,
			Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET |
				syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC |
				syscall.CLONE_NEWCGROUP}}
	stdin, err := command.StdinPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	w.lock.Lock()
	h.command, h.Pid, h.BootID = command, command.Process.Pid, bootID
	w.lock.Unlock()
	if err := share(w.dir, h.Name, h.Pid); err != nil {
		fmt.Fprintf(os.Stderr, "%s shares the processors with all hosts: %v\n", h.Name, err)
	}
	fmt.Fprintf(stdin, "%s\n", spec)
	err = w.plug(h)
	if err == nil {
		fmt.Fprintln(stdin)
		err = w.awaitSSH(h)
	}
	if err != nil {
		w.powerOff(h)
		text, _ := os.ReadFile(console.Name())
		return fmt.Errorf("boot %s: %w; console: %s", h.Name, err, text)
	}
	return nil
}

func card(h *host) string { return "v-" + h.Name }

func (w *warden) plug(h *host) error {
	words := fmt.Sprintf("link add %s type veth peer name %s address %s netns %d",
		card(h), hostinit.NetworkCard, h.MAC, h.Pid)
	if err := ip(words); err != nil {
		return err
	}
	return ip("link set " + card(h) + " master " + bridge + " up")
}

// powerOff kills the host's init; the kernel ends every process of its pid namespace with it.
func (w *warden) powerOff(h *host) {
	if h.command == nil {
		return
	}
	_ = h.command.Process.Kill()
	_ = h.command.Wait()
	_ = ip("link del " + card(h)) // else it goes with the namespace, a moment later
	w.lock.Lock()
	h.command, h.Pid = nil, 0
	w.lock.Unlock()
}
