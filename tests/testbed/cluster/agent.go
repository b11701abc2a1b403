package cluster

import (
	"rehull.dev/testbed/hosts"
)

// AgentProgram is where the agent lies on every host.
const AgentProgram = "/usr/local/bin/rehull-agent"

const agentUnit = `[Unit]
Description=rehull agent

[Service]
ExecStart=/usr/local/bin/rehull-agent run --config /etc/rehull-agent/config.json
KillMode=process
Restart=always
RestartSec=1
`

// AgentConfig is /etc/rehull-agent/config.json.
type AgentConfig struct {
	Coordinator string `json:"coordinator"`
	Cluster     string `json:"cluster"`
	Node        string `json:"node"`
	CA          string `json:"ca_sha256"`
	TokenFile   string `json:"token_file"`
	StateDir    string `json:"state_dir"`
}

// AgentFiles installs the agent as a unit that starts at boot.
func AgentFiles(program, config, token []byte) []hosts.File {
	return append(hosts.Enabled("rehull-agent.service", agentUnit),
		hosts.File{Path: AgentProgram, Mode: 0o755, Data: program},
		hosts.File{Path: "/etc/rehull-agent/config.json", Data: config},
		hosts.File{Path: "/etc/rehull-agent/token", Mode: 0o600, Data: token})
}
