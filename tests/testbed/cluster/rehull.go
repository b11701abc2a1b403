package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"rehull.dev/testbed/hosts"
)

// Coordinator is where `rehull serve` listens; RehullDir is its directory on host mgmt.
const (
	Coordinator = "10.77.0.2:7443"
	RehullDir   = "/var/lib/rehull"
)

const rehullUnit = `[Unit]
Description=rehull coordinator

[Service]
ExecStart=/usr/local/bin/rehull serve --dir /var/lib/rehull
Restart=no
`

// InstallRehull puts the coordinator on host mgmt and an agent on every node of the workload
// cluster. Programs are rehull and rehull-agent in the given directory.
func InstallRehull(ctx context.Context, testbed *hosts.Testbed, programs string) error {
	coordinator, err := os.ReadFile(filepath.Join(programs, "rehull"))
	if err != nil {
		return fmt.Errorf("build rehull first: %w", err)
	}
	agent, err := os.ReadFile(filepath.Join(programs, "rehull-agent"))
	if err != nil {
		return fmt.Errorf("build rehull-agent first: %w", err)
	}
	workload, err := os.ReadFile(WorkloadConfig(testbed.Dir))
	if err != nil {
		return err
	}
	for _, file := range []hosts.File{
		{Path: "/usr/local/bin/rehull", Mode: 0o755, Data: coordinator},
		{Path: AgentProgram, Mode: 0o755, Data: agent},
		{Path: "/etc/systemd/system/rehull.service", Mode: 0o644, Data: []byte(rehullUnit)},
		{Path: "/root/workload.conf", Mode: 0o600, Data: workload},
	} {
		err := testbed.Write(ctx, managementHost, file.Path, file.Mode, file.Data)
		if err != nil {
			return err
		}
	}
	if err := Installer(ctx, testbed, HonestInstaller); err != nil {
		return err
	}
	_, err = shell(ctx, testbed, managementHost, "rehull init --dir "+RehullDir+" --listen "+
		Coordinator+"\necho 'installers: [/usr/local/bin/reinstall]' >>"+RehullDir+"/config.yaml\nsystemctl enable --now rehull\n"+
		"for i in $(seq 100); do rehull --dir "+RehullDir+" status && break; sleep 0.2; done")
	if err != nil {
		return err
	}
	machines, err := nodes(testbed)
	if err != nil {
		return err
	}
	for _, node := range machines {
		if err := installAgent(ctx, testbed, node.Name, agent); err != nil {
			return err
		}
	}
	return nil
}

// enrolment is what `rehull agent token` prints.
type enrolment struct {
	Token       string `json:"token"`
	CA          string `json:"ca_sha256"`
	Coordinator string `json:"coordinator"`
}

// installAgent enrols a node that runs already, as an operator does before the first migration.
func installAgent(ctx context.Context, testbed *hosts.Testbed, node string, program []byte) error {
	out, err := testbed.Run(ctx, managementHost, "rehull", "--dir", RehullDir, "--output", "json",
		"agent", "token", "prod", node)
	if err != nil {
		return err
	}
	var enrol enrolment
	if err := json.Unmarshal([]byte(out), &enrol); err != nil {
		return fmt.Errorf("rehull agent token: %w: %s", err, out)
	}
	config, err := NewAgentConfig("prod", node, enrol.Coordinator, enrol.CA)
	if err != nil {
		return err
	}
	for _, file := range AgentFiles(program, config, []byte(enrol.Token), hosts.Source{}) {
		if file.Link != "" {
			continue // systemctl enables it
		}
		if err := testbed.Write(ctx, node, file.Path, file.Mode, file.Data); err != nil {
			return err
		}
	}
	_, err = testbed.Run(ctx, node, "systemctl", "enable", "--now", "rehull-agent")
	return err
}
