package hostinit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// unitDirs in the order in which systemd searches them.
var unitDirs = []string{"/etc/systemd/system", "/usr/local/lib/systemd/system"}

const wantsDir = "/etc/systemd/system/multi-user.target.wants"

// unitFile is the part of a systemd service file that the hosts use.
type unitFile struct {
	name, path      string
	start           []string // ExecStart, words
	before          [][]string
	env             []string
	envFiles        []string
	directory       string
	oneshot, remain bool
	notify          bool // it says itself when it is ready
	killOnlyMain    bool
	restart         bool
	restartDelay    time.Duration
	stopTimeout     time.Duration
}

// loadUnit finds and parses a service file with its drop-ins (kubeadm's 10-kubeadm.conf is one).
func loadUnit(name string) (unitFile, error) {
	unit := unitFile{name: name, restartDelay: time.Second, stopTimeout: 10 * time.Second}
	for _, dir := range unitDirs {
		path := filepath.Join(dir, name)
		if text, err := os.ReadFile(path); err == nil {
			unit.path = path
			unit.parse(string(text))
			break
		}
	}
	if unit.path == "" {
		return unit, fmt.Errorf("Unit %s not found.", name)
	}
	for _, dir := range unitDirs {
		dropIns, _ := filepath.Glob(filepath.Join(dir, name+".d", "*.conf"))
		for _, path := range dropIns {
			if text, err := os.ReadFile(path); err == nil {
				unit.parse(string(text))
			}
		}
	}
	if len(unit.start) == 0 {
		return unit, fmt.Errorf("Unit %s has no ExecStart= setting.", name)
	}
	return unit, nil
}

func (u *unitFile) parse(text string) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		if ok && !strings.HasPrefix(line, "#") {
			u.set(strings.TrimSpace(key), strings.TrimSpace(value))
		}
	}
}

func (u *unitFile) set(key, value string) {
	switch key {
	case "ExecStart":
		u.start = words(value)
	case "ExecStartPre":
		if value != "" {
			u.before = append(u.before, words(value))
		}
	case "Environment":
		u.env = append(u.env, words(value)...)
	case "EnvironmentFile":
		u.envFiles = append(u.envFiles, strings.TrimPrefix(value, "-"))
	case "WorkingDirectory":
		u.directory = value
	case "Type":
		u.oneshot, u.notify = value == "oneshot", value == "notify"
	case "RemainAfterExit":
		u.remain = value == "yes" || value == "true"
	case "KillMode":
		u.killOnlyMain = value == "process"
	case "Restart":
		u.restart = value == "always" || value == "on-failure"
	case "RestartSec":
		u.restartDelay = seconds(value, u.restartDelay)
	case "TimeoutStopSec":
		u.stopTimeout = seconds(value, u.stopTimeout)
	}
}

// environment is what the unit's process gets, files read at start as systemd does.
func (u *unitFile) environment() []string {
	env := append(baseEnv(), unitVariable+"="+u.name)
	env = append(env, u.env...)
	for _, path := range u.envFiles {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // "-" or not, a missing file leaves its variables empty here
		}
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && key[0] != '#' {
				env = append(env, key+"="+strings.Trim(value, `"'`))
			}
		}
	}
	return env
}

// expand replaces $NAME (split into words) and ${NAME} (one word), as systemd does.
func expand(args, env []string) []string {
	values := map[string]string{}
	for _, pair := range env {
		key, value, _ := strings.Cut(pair, "=")
		values[key] = value
	}
	var out []string
	for _, arg := range args {
		if strings.HasPrefix(arg, "$") && !strings.HasPrefix(arg, "${") {
			out = append(out, words(values[arg[1:]])...)
			continue
		}
		out = append(out, os.Expand(arg, func(name string) string { return values[name] }))
	}
	return out
}

// words splits a line at blanks and honours single and double quotes.
func words(line string) []string {
	var out []string
	var word strings.Builder
	var quote rune
	open := false
	flush := func() {
		if open {
			out = append(out, word.String())
			word.Reset()
			open = false
		}
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, open = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			flush()
		default:
			word.WriteRune(r)
			open = true
		}
	}
	flush()
	return out
}

func seconds(value string, fallback time.Duration) time.Duration {
	if duration, err := time.ParseDuration(value); err == nil {
		return duration
	}
	if duration, err := time.ParseDuration(value + "s"); err == nil {
		return duration
	}
	return fallback
}

// enabledUnits are started at boot.
func enabledUnits() []string {
	entries, _ := os.ReadDir(wantsDir)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// allUnits lists every service file on the host.
func allUnits() []string {
	seen := map[string]bool{}
	var names []string
	for _, dir := range unitDirs {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			name := entry.Name()
			if strings.HasSuffix(name, ".service") && !entry.IsDir() && !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}
