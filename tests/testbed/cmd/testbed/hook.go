package main

import (
	"fmt"
	"os"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
)

// reinstallHook is a site's installer as rehull's `command` installer runs it, inside host mgmt:
// it orders the new system and puts the agent with its one-time token on the disk.
func reinstallHook() error {
	env := os.Getenv
	images := map[string]string{"ubuntu-22.04": "ubuntu2204", "centos-7.9": "centos7"}
	profile, ok := images[env("REHULL_TARGET_OS")]
	if !ok {
		return fmt.Errorf("no image for REHULL_TARGET_OS=%q", env("REHULL_TARGET_OS"))
	}
	token, err := os.ReadFile(env("REHULL_TOKEN_FILE"))
	if err != nil {
		return fmt.Errorf("REHULL_TOKEN_FILE: %w", err)
	}
	config, err := cluster.NewAgentConfig(env("REHULL_CLUSTER"), env("REHULL_NODE"),
		env("REHULL_COORDINATOR"), env("REHULL_CA_SHA256"))
	if err != nil {
		return err
	}
	program, err := os.ReadFile(cluster.AgentProgram)
	if err != nil {
		return err
	}
	fmt.Println("powering off", env("REHULL_NODE"))
	files := cluster.AgentFiles(program, config, token)
	if err := hosts.Reinstall(hosts.SocketInHost, env("REHULL_NODE"), profile, files); err != nil {
		return err
	}
	fmt.Println("installed", profile, "on", env("REHULL_NODE"))
	return nil
}
