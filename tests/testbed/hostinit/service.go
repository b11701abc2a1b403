package hostinit

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// unitVariable marks every process of a unit: hosts have no cgroups to tell them apart.
const unitVariable = "TESTBED_UNIT"

// FaultDir holds files that make this host misbehave. ignore-stop.<unit> makes stopping that unit
// say it worked and do nothing.
const FaultDir = "/etc/testbed/faults"

const unitLogDir = "/var/log/units"

// service is a unit that was started at least once since boot.
type service struct {
	name     string
	pid      int // 0 while nothing runs
	stopping bool
	status   int           // wait status of the last main process, -1 before it ended
	ended    chan struct{} // closed when the main process has been reaped
	ready    chan struct{} // closed when the unit counts as started
	remains  bool          // a oneshot unit that counts as active after its work
	waiting  bool          // it has ended and will be started again
	restarts int
}

func (s *service) active() bool { return s.pid != 0 || s.remains }

// starting says whether the unit runs and has not yet said that it is ready.
func (s *service) starting() bool {
	select {
	case <-s.ready:
		return false
	default:
		return s.pid != 0
	}
}

// readyTimeout is how long a unit of Type=notify may take (systemd's DefaultTimeoutStartSec).
const readyTimeout = 90 * time.Second

// startedDir is where systemd 237 and later keep a link for each active unit.
const startedDir = "/run/systemd/units"

// mark keeps that link in step with the unit's state, on systems that have the directory.
func (s *service) mark() {
	link := filepath.Join(startedDir, "invocation:"+s.name)
	if !s.active() && !s.waiting {
		_ = os.Remove(link) // CentOS 7 has no such directory
		return
	}
	_ = os.Symlink("0123456789abcdef0123456789abcdef", link)
}

// start runs the unit's commands. The caller holds the lock of init.
func (i *initd) start(name string) error {
	unit, err := loadUnit(name)
	if err != nil {
		return err
	}
	s := i.service(name)
	if s.active() {
		return nil
	}
	env := unit.environment()
	ready := make(chan struct{})
	if unit.notify {
		socket, err := listenReady(name, ready)
		if err != nil {
			return err
		}
		env = append(env, "NOTIFY_SOCKET="+socket)
	} else {
		close(ready)
	}
	for _, command := range unit.before {
		ignore := strings.HasPrefix(command[0], "-")
		command[0] = strings.TrimPrefix(command[0], "-")
		pid, err := i.spawn(unit, expand(command, env), env)
		if err == nil {
			err = i.wait(pid)
		}
		if err != nil && !ignore {
			return fmt.Errorf("%s: ExecStartPre: %w", name, err)
		}
	}
	pid, err := i.spawn(unit, expand(unit.start, env), env)
	if err != nil {
		s.status = 203 << 8 // systemd's EXIT_EXEC
		return fmt.Errorf("Job for %s failed: %w", name, err)
	}
	if unit.oneshot {
		err := i.wait(pid)
		s.remains = err == nil && unit.remain
		s.mark()
		return err
	}
	s.pid, s.stopping, s.waiting, s.ended, s.ready = pid, false, false, make(chan struct{}), ready
	s.mark()
	return nil
}

// listenReady makes the socket of a unit's sd_notify(3), and closes ready when READY=1 comes.
func listenReady(name string, ready chan<- struct{}) (string, error) {
	path := filepath.Join("/run/systemd", "notify."+name)
	_ = os.Remove(path) // that of an earlier start
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		defer socket.Close() // which removes it
		_ = socket.SetReadDeadline(time.Now().Add(readyTimeout))
		message := make([]byte, 4096)
		for {
			length, err := socket.Read(message)
			if err != nil {
				return
			}
			if bytes.Contains(message[:length], []byte("READY=1")) {
				close(ready)
				return
			}
		}
	}()
	return path, nil
}

// launch starts a unit and waits until it is ready. The caller holds the lock of init.
func (i *initd) launch(name string) error {
	if err := i.start(name); err != nil {
		return err
	}
	s := i.service(name)
	if !s.starting() {
		return nil
	}
	ready, ended := s.ready, s.ended
	i.lock.Unlock()
	defer i.lock.Lock()
	select {
	case <-ready:
		return nil
	case <-ended:
		return fmt.Errorf("Job for %s failed because the control process exited.", name)
	case <-time.After(readyTimeout):
		return fmt.Errorf("Job for %s failed because a timeout was exceeded.", name)
	}
}

func (i *initd) spawn(unit unitFile, args, env []string) (int, error) {
	if err := os.MkdirAll(unitLogDir, 0o755); err != nil {
		return 0, err
	}
	path := filepath.Join(unitLogDir, strings.TrimSuffix(unit.name, ".service")+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	directory := unit.directory
	if directory == "" {
		directory = "/"
	}
	return syscall.ForkExec(args[0], args, &syscall.ProcAttr{
		Dir: directory, Env: env, Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
}

// wait blocks until a child that is no unit's main process has been reaped. The lock is released
// meanwhile, because reaping needs it.
func (i *initd) wait(pid int) error {
	done := make(chan int, 1)
	i.waiters[pid] = done
	i.lock.Unlock()
	status := <-done
	i.lock.Lock()
	if status != 0 {
		return fmt.Errorf("exit status %d", syscall.WaitStatus(status).ExitStatus())
	}
	return nil
}

// stop ends the unit: TERM, then KILL after the unit's time. The caller holds the lock of init.
func (i *initd) stop(name string) error {
	if _, err := os.Stat(filepath.Join(FaultDir, "ignore-stop."+name)); err == nil {
		return nil
	}
	s := i.service(name)
	if s.pid == 0 {
		s.remains, s.waiting = false, false
		s.mark()
		return nil
	}
	unit, _ := loadUnit(name) // its file may be gone already; the defaults then serve
	s.stopping = true
	pids := []int{s.pid}
	if !unit.killOnlyMain {
		pids = append(pids, members(name)...)
	}
	ended := s.ended
	signalAll(pids, syscall.SIGTERM)
	i.lock.Unlock()
	select {
	case <-ended:
	case <-time.After(unit.stopTimeout):
		signalAll(pids, syscall.SIGKILL)
		<-ended
	}
	if !unit.killOnlyMain {
		signalAll(members(name), syscall.SIGKILL)
	}
	i.lock.Lock()
	return nil
}

func signalAll(pids []int, signal syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, signal) // gone is as good as signalled
	}
}

// members finds the processes of a unit by the mark in their environment.
func members(name string) []int {
	mark := []byte(unitVariable + "=" + name + "\x00")
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == 1 {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err == nil && bytes.Contains(env, mark) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// reap collects every dead process of the host; orphans end up here too.
func (i *initd) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.ECHILD {
			<-i.children
			continue
		}
		if err == nil {
			i.ended(pid, status)
		}
	}
}

func (i *initd) ended(pid int, status syscall.WaitStatus) {
	i.lock.Lock()
	defer i.lock.Unlock()
	if waiter, ok := i.waiters[pid]; ok {
		delete(i.waiters, pid)
		waiter <- int(status)
		return
	}
	for _, s := range i.services {
		if s.pid != pid {
			continue
		}
		s.pid, s.status = 0, int(status)
		unit, err := loadUnit(s.name)
		s.waiting = err == nil && unit.restart && !s.stopping
		s.mark()
		close(s.ended)
		if s.waiting {
			s.restarts++
			time.AfterFunc(unit.restartDelay, func() { i.restartLater(s) })
		}
	}
}

func (i *initd) restartLater(s *service) {
	i.lock.Lock()
	defer i.lock.Unlock()
	if s.waiting && !s.active() {
		s.waiting = false
		_ = i.start(s.name) // a unit that cannot start shows as failed
		s.mark()
	}
}
