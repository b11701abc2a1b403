package hostinit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// systemctl answers one call. The caller holds the lock.
func (i *initd) systemctl(args []string) reply {
	var verb string
	var names []string
	var now bool
	for at := 0; at < len(args); at++ {
		arg := args[at]
		switch {
		case arg == "--now":
			now = true
		case arg == "--type" || arg == "-t" || arg == "-p" || arg == "--property":
			at++ // its value; properties are not filtered, one a line is what callers parse
		case strings.HasPrefix(arg, "-"):
		case verb == "":
			verb = arg
		default:
			names = append(names, unitName(arg))
		}
	}
	if property := wanted(args); verb == "show" && len(names) == 1 {
		return i.show(names[0], property)
	}
	var total reply
	for _, name := range names {
		one := i.apply(verb, name, now)
		total.Code = max(total.Code, one.Code)
		total.Out += one.Out
		total.Err += one.Err
	}
	if len(names) > 0 && verb != "list-unit-files" && verb != "list-units" {
		return total
	}
	switch verb {
	case "list-units":
		return reply{Out: i.listUnits()}
	case "list-unit-files":
		return reply{Out: listUnitFiles(names)}
	case "is-system-running":
		return reply{Out: "running\n"}
	case "daemon-reload", "daemon-reexec", "reset-failed", "show":
		return reply{} // unit files are read whenever they are needed
	}
	return reply{Code: 1, Err: fmt.Sprintf("Unknown command verb '%s'.\n", verb)}
}

func unitName(name string) string {
	if strings.Contains(name, ".") || strings.HasSuffix(name, "*") {
		return name
	}
	return name + ".service"
}

func wanted(args []string) string {
	for at, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--property="); ok {
			return value
		}
		if (arg == "-p" || arg == "--property") && at+1 < len(args) {
			return args[at+1]
		}
	}
	return ""
}

func (i *initd) apply(verb, name string, now bool) reply {
	switch verb {
	case "start":
		return result(i.launch(name))
	case "stop":
		return result(i.stop(name))
	case "restart", "try-restart", "reload-or-restart":
		if err := i.stop(name); err != nil {
			return result(err)
		}
		return result(i.launch(name))
	case "reload":
		_ = syscall.Kill(i.service(name).pid, syscall.SIGHUP)
		return reply{}
	case "kill":
		signalAll(append(members(name), i.service(name).pid), syscall.SIGTERM)
		return reply{}
	case "enable", "disable":
		if err := setEnabled(name, verb == "enable"); err != nil || !now {
			return result(err)
		}
		return i.apply(map[string]string{"enable": "start", "disable": "stop"}[verb], name, false)
	case "is-active":
		return i.isActive(name)
	case "is-failed":
		answer := i.isActive(name)
		answer.Code = map[bool]int{true: 0, false: 1}[answer.Out == "failed\n"]
		return answer
	case "is-enabled":
		return isEnabled(name)
	case "status":
		answer := i.isActive(name)
		answer.Out = fmt.Sprintf("* %s\n   Active: %s   Main PID: %d\n", name, answer.Out,
			i.service(name).pid)
		return answer
	case "cat":
		unit, err := loadUnit(name)
		text, _ := os.ReadFile(unit.path)
		return reply{Code: result(err).Code, Out: string(text), Err: result(err).Err}
	case "mask", "unmask", "reset-failed":
		return reply{}
	}
	return reply{Code: 1, Err: fmt.Sprintf("Unknown command verb '%s'.\n", verb)}
}

func result(err error) reply {
	if err == nil {
		return reply{}
	}
	code := 1
	if strings.Contains(err.Error(), "not found") {
		code = 5
	}
	return reply{Code: code, Err: err.Error() + "\n"}
}

func (i *initd) service(name string) *service {
	s, ok := i.services[name]
	if !ok {
		s = &service{name: name, status: -1}
		i.services[name] = s
	}
	return s
}

func (i *initd) state(name string) (active, sub string) {
	s, known := i.services[name]
	switch {
	case known && s.pid != 0 && s.starting():
		return "activating", "start"
	case known && s.pid != 0:
		return "active", "running"
	case known && s.remains:
		return "active", "exited"
	case known && s.waiting:
		return "activating", "auto-restart"
	case known && s.status > 0 && !s.stopping:
		return "failed", "failed"
	}
	return "inactive", "dead"
}

func (i *initd) isActive(name string) reply {
	active, _ := i.state(name)
	code := 3
	if active == "active" {
		code = 0
	}
	return reply{Code: code, Out: active + "\n"}
}

func isEnabled(name string) reply {
	if _, err := os.Lstat(filepath.Join(wantsDir, name)); err == nil {
		return reply{Out: "enabled\n"}
	}
	if _, err := loadUnit(name); err != nil {
		return reply{Code: 1, Err: "Failed to get unit file state: No such file or directory\n"}
	}
	return reply{Code: 1, Out: "disabled\n"}
}

func setEnabled(name string, on bool) error {
	link := filepath.Join(wantsDir, name)
	if !on {
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	}
	unit, err := loadUnit(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(wantsDir, 0o755); err != nil {
		return err
	}
	if err := os.Symlink(unit.path, link); err != nil && !os.IsExist(err) {
		return err
	}
	return nil
}

func (i *initd) show(name, property string) reply {
	active, sub := i.state(name)
	loaded, path := "not-found", ""
	if unit, err := loadUnit(name); err == nil {
		loaded, path = "loaded", unit.path
	}
	s := i.service(name)
	state := strings.TrimSpace(isEnabled(name).Out)
	lines := []string{"Id=" + name, "LoadState=" + loaded, "ActiveState=" + active,
		"SubState=" + sub, fmt.Sprintf("MainPID=%d", s.pid), "FragmentPath=" + path,
		"UnitFileState=" + state,
		fmt.Sprintf("NRestarts=%d", s.restarts)}
	var out strings.Builder
	for _, line := range lines {
		key, _, _ := strings.Cut(line, "=")
		if property == "" || strings.Contains(","+property+",", ","+key+",") {
			out.WriteString(line + "\n")
		}
	}
	return reply{Out: out.String()}
}

// listUnits prints what is loaded: units that run or ran, and the enabled ones.
func (i *initd) listUnits() string {
	names := append([]string{}, enabledUnits()...)
	for name := range i.services {
		names = append(names, name)
	}
	seen := map[string]bool{}
	var out strings.Builder
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		active, sub := i.state(name)
		if _, err := loadUnit(name); err != nil {
			if active != "active" {
				continue
			}
			fmt.Fprintf(&out, "● %s not-found %s %s %s\n", name, active, sub, name)
			continue
		}
		fmt.Fprintf(&out, "  %s loaded %s %s %s\n", name, active, sub, name)
	}
	return out.String()
}

func listUnitFiles(patterns []string) string {
	var out strings.Builder
	for _, name := range allUnits() {
		match := len(patterns) == 0
		for _, pattern := range patterns {
			hit, _ := filepath.Match(pattern, name)
			match = match || hit
		}
		if match {
			state := strings.TrimSpace(isEnabled(name).Out)
			fmt.Fprintf(&out, "%s %s\n", name, state)
		}
	}
	return out.String()
}
