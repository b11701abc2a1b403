package main

import (
	"fmt"
	"os"
	"strings"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
)

// What the exit codes of an installer mean: deploy/installer.md.
const (
	exitDone       = 0
	exitTrouble    = 1
	exitUnderWay   = 10
	exitNotStarted = 11
)

// reinstallHook is a site's installer as rehull's `command` installer runs it, inside host mgmt.
// The warden does the work and remembers it, as a boot server and its machines do at a site, so
// that it goes on whatever becomes of this call or its caller. It returns the exit code.
func reinstallHook() int {
	node := os.Getenv("REHULL_NODE")
	order := []string{os.Getenv("REHULL_MIGRATION"), node, os.Getenv("REHULL_ATTEMPT")}
	code, err := answer(os.Getenv("REHULL_ACTION"), strings.Join(order, "/"), node)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitTrouble
	}
	return code
}

func answer(action, id, node string) (int, error) {
	switch action {
	case "status":
		return orderStatus(id, node)
	case "start":
		return exitDone, startOrder(id, node)
	}
	return exitTrouble, fmt.Errorf("REHULL_ACTION=%q is neither status nor start", action)
}

func orderStatus(id, node string) (int, error) {
	order, err := hosts.LastOrder(node)
	switch {
	case err != nil:
		return exitTrouble, err
	case order.ID != id:
		return exitNotStarted, nil
	case order.Trouble != "":
		return exitTrouble, fmt.Errorf("%s at %d %%: %s", order.Words, order.Percent, order.Trouble)
	}
	fmt.Println("progress", order.Percent, order.Words)
	if order.Percent < 100 {
		return exitUnderWay, nil
	}
	return exitDone, nil
}

// startOrder orders the new system, with the agent on its disk and, when the disk is written, the
// token that is the host's by then.
func startOrder(id, node string) error {
	env := os.Getenv
	images := map[string]string{"ubuntu-22.04": "ubuntu2204", "centos-7.9": "centos7",
		"rocky-9": "rocky9"}
	profile, ok := images[env("REHULL_TARGET_OS")]
	if !ok {
		return fmt.Errorf("no image for REHULL_TARGET_OS=%q", env("REHULL_TARGET_OS"))
	}
	config, err := cluster.NewAgentConfig(env("REHULL_CLUSTER"), node, env("REHULL_COORDINATOR"),
		env("REHULL_CA_SHA256"))
	if err != nil {
		return err
	}
	program, err := os.ReadFile(cluster.AgentProgram)
	if err != nil {
		return err
	}
	here, err := os.Hostname()
	if err != nil {
		return err
	}
	token := hosts.Source{Host: here, Path: env("REHULL_TOKEN_FILE")}
	if _, err := os.Stat(token.Path); err != nil {
		return fmt.Errorf("REHULL_TOKEN_FILE: %w", err)
	}
	planted, err := cluster.Planted(node)
	if err != nil {
		return err
	}
	files := append(cluster.AgentFiles(program, config, nil, token), planted...)
	return hosts.Begin(id, node, profile, files)
}
