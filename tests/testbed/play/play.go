// Package play stands in for programs whose work the testbed does not need, but whose process,
// name and ports it does.
package play

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// ports that a program holds while it runs, as on a real node.
var ports = map[string][]string{
	"kube-proxy":  {"127.0.0.1:10249", ":10256"},
	"calico-node": {"127.0.0.1:9099"},
}

// cniConfig appears when the network plugin's pod runs; without it a node is not Ready.
const cniConfig = "/etc/cni/net.d/10-calico.conflist"

// Main runs until it is told to end.
func Main(name string) error {
	for _, address := range ports[name] {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		healthy := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }
		go http.Serve(listener, http.HandlerFunc(healthy))
	}
	if name == "calico-node" {
		if err := os.MkdirAll(filepath.Dir(cniConfig), 0o755); err != nil {
			return err
		}
		text := `{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico"}]}`
		if err := os.WriteFile(cniConfig, []byte(text), 0o644); err != nil {
			return err
		}
	}
	fmt.Println(name, "runs")
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
	return nil
}
