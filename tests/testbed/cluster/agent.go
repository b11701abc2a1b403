package cluster

import (
	"encoding/json"

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

// NewAgentConfig writes /etc/rehull-agent/config.json.
func NewAgentConfig(cluster, node, coordinator, ca string) ([]byte, error) {
	return json.Marshal(map[string]string{"coordinator": coordinator, "cluster": cluster,
		"node": node, "ca_sha256": ca, "token_file": "/etc/rehull-agent/token",
		"state_dir": "/var/lib/rehull-agent"})
}

// AgentFiles installs the agent as a unit that starts at boot, with a token of this text or from
// this source.
func AgentFiles(program, config, token []byte, from hosts.Source) []hosts.File {
	return append(hosts.Enabled("rehull-agent.service", agentUnit),
		hosts.File{Path: AgentProgram, Mode: 0o755, Data: program},
		hosts.File{Path: "/etc/rehull-agent/config.json", Data: config},
		hosts.File{Path: "/etc/rehull-agent/token", Mode: 0o600, Data: token, From: from})
}
