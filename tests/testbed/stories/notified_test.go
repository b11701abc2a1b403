package stories

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"rehull.dev/testbed/cluster"
)

// receiver writes down every notification that it takes.
const receiver = `
import http.server
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with open("/var/log/told", "ab") as told:
            told.write(body + b"\n")
        self.send_response(204)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 9876), Receiver).serve_forever()
`

const receiverUnit = `[Unit]
Description=receiver of notifications

[Service]
ExecStart=/usr/bin/python3 /root/receiver.py
Restart=always
`

// beNotified lets rehull tell a receiver of what needs people.
func (n *night) beNotified() {
	n.Helper()
	write(n.T, n.testbed, "/root/receiver.py", []byte(receiver))
	write(n.T, n.testbed, "/etc/systemd/system/receiver.service", []byte(receiverUnit))
	n.on("mgmt", "systemctl enable --now receiver\n"+
		"(umask 077; echo a secret of the receiver alone >/root/webhook.secret)\n"+
		"printf 'webhook:\\n  url: http://127.0.0.1:9876/\\n  secretFile: /root/webhook.secret\\n' >>"+
		cluster.RehullDir+"/config.yaml")
	n.restart()
}

// wasNotified checks that everything was told that should be, in the log's order, although the
// coordinator was killed all along; and how often something was told again.
func (n *night) wasNotified() {
	n.Helper()
	number := regexp.MustCompile(`#(\d+)`)
	var want []int
	for _, event := range []string{"Held", "NodeFinished", "MigrationCompleted"} {
		out := rehull(n.T, n.testbed, "history", "prod", "--events", event)
		for _, match := range number.FindAllStringSubmatch(out, -1) {
			sequence, _ := strconv.Atoi(match[1])
			want = append(want, sequence)
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	var told []int
	eventually(n.T, time.Minute, "every notification", func() (string, bool) {
		told = n.told()
		return fmt.Sprintf("told %v, not %v", told, want),
			slices.Equal(slices.Compact(slices.Sorted(slices.Values(told))), want)
	})
	if !slices.IsSorted(told) {
		n.Errorf("notifications came out of order: %v", told)
	}
	n.Logf("%d notifications, %d of them twice", len(want), len(told)-len(want))
}

// told are the numbers of the events that the receiver was told of, as they came.
func (n *night) told() []int {
	n.Helper()
	var told []int
	for line := range strings.Lines(n.on("mgmt", "cat /var/log/told")) {
		var message struct {
			Data struct{ Sequence int }
		}
		if err := json.Unmarshal([]byte(line), &message); err != nil {
			n.Fatalf("a notification that is none: %v: %s", err, line)
		}
		told = append(told, message.Data.Sequence)
	}
	return told
}
