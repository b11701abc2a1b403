package hostinit

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

const controlSocket = "/run/systemd/private"

// initd is process 1 of a host.
type initd struct {
	lock     sync.Mutex
	services map[string]*service
	waiters  map[int]chan int
	children chan os.Signal // wakes the reaper when it had no child to wait for
}

type reply struct {
	Code     int
	Out, Err string
}

// Init runs as process 1: it starts the enabled units, serves systemctl and reaps.
func Init() error {
	i := &initd{services: map[string]*service{}, waiters: map[int]chan int{},
		children: make(chan os.Signal, 1)}
	signal.Notify(i.children, syscall.SIGCHLD)
	if err := os.MkdirAll("/run/systemd/system", 0o755); err != nil {
		return err
	}
	if text, _ := os.ReadFile("/etc/os-release"); !strings.Contains(string(text), "ID=\"centos\"") {
		if err := modernSystemd(); err != nil {
			return err
		}
	}
	listener, err := net.Listen("unix", controlSocket)
	if err != nil {
		return err
	}
	go i.reap()
	i.lock.Lock()
	for _, name := range enabledUnits() {
		if err := i.start(name); err != nil {
			fmt.Fprintln(os.Stderr, "boot:", err)
		}
	}
	i.lock.Unlock()
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go i.serve(connection)
	}
}

// modernSystemd makes what systemd 249 keeps in /run and CentOS 7's 219 does not.
func modernSystemd() error {
	if err := os.MkdirAll(startedDir, 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll("/run/systemd/resolve", 0o755); err != nil {
		return err
	}
	return os.WriteFile("/run/systemd/resolve/resolv.conf", []byte("nameserver 10.77.0.1\n"), 0o644)
}

func (i *initd) serve(connection net.Conn) {
	defer connection.Close()
	var args []string
	if err := json.NewDecoder(connection).Decode(&args); err != nil {
		return
	}
	i.lock.Lock()
	answer := i.systemctl(args)
	i.lock.Unlock()
	_ = json.NewEncoder(connection).Encode(answer) // the caller may have been killed
}

// Systemctl is the command: it asks process 1 and prints its answer.
func Systemctl(args []string) int {
	connection, err := net.Dial("unix", controlSocket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "Failed to connect to bus:", err)
		return 1
	}
	defer connection.Close()
	var answer reply
	if err := json.NewEncoder(connection).Encode(args); err == nil {
		err = json.NewDecoder(connection).Decode(&answer)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Failed to ask init:", err)
		return 1
	}
	fmt.Print(answer.Out)
	fmt.Fprint(os.Stderr, answer.Err)
	return answer.Code
}

// Journalctl prints what a unit has written: journalctl -u NAME.
func Journalctl(args []string) int {
	for at, arg := range args {
		if arg == "-u" && at+1 < len(args) {
			name := strings.TrimSuffix(args[at+1], ".service")
			text, err := os.ReadFile(filepath.Join(unitLogDir, name+".log"))
			if err != nil {
				fmt.Println("-- No entries --")
				return 0
			}
			os.Stdout.Write(text)
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, "journalctl: only -u UNIT is known here")
	return 1
}
