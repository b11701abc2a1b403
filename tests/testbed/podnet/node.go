package podnet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// cniConfig appears when the network plugin's pod runs; without it a node is not Ready.
	cniConfig = "/etc/cni/net.d/10-calico.conflist"
	cniText   = `{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico"}]}`
	// healthAddress is where Felix answers.
	healthAddress = "127.0.0.1:9099"
	// credentials are what a pod has of its service account.
	credentials = "/var/run/secrets/kubernetes.io/serviceaccount"
	// protocol marks our routes, as BIRD marks Calico's.
	protocol = "bird"
	period   = time.Second
)

// Main is calico-node: it keeps a route to the pods of each other node of the cluster.
func Main() error {
	if err := os.MkdirAll(filepath.Dir(cniConfig), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(cniConfig, []byte(cniText), 0o644); err != nil {
		return err
	}
	var ready atomic.Bool
	if err := serveHealth(&ready); err != nil {
		return err
	}
	client, err := newClient()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	said := ""
	for {
		state := "routes are set"
		if err := synchronize(ctx, client); err != nil {
			state = err.Error() // routes stay as they are, and so does readiness
		} else {
			ready.Store(true)
		}
		if state != said {
			fmt.Println(state)
			said = state
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(period):
		}
	}
}

// serveHealth answers /liveness always and /readiness once routes have been set.
func serveHealth(ready *atomic.Bool) error {
	listener, err := net.Listen("tcp", healthAddress)
	if err != nil {
		return err
	}
	answer := func(w http.ResponseWriter, asked *http.Request) {
		if asked.URL.Path == "/readiness" && !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	go http.Serve(listener, http.HandlerFunc(answer))
	return nil
}

// synchronize makes the routes those that the cluster's nodes need.
func synchronize(ctx context.Context, client *http.Client) error {
	addresses, err := nodes(ctx, client)
	if err != nil {
		return err
	}
	own, err := HostRange()
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, address := range addresses {
		pods := Range(address)
		if pods == own {
			continue
		}
		wanted[pods.String()] = true
		words := fmt.Sprintf("route replace %s via %s proto %s", pods, address, protocol)
		if _, err := ip(words); err != nil {
			return err
		}
	}
	there, err := ip("route show proto " + protocol)
	if err != nil {
		return err
	}
	for line := range strings.Lines(there) {
		if pods := strings.Fields(line)[0]; !wanted[pods] {
			if _, err := ip("route del " + pods + " proto " + protocol); err != nil {
				return err
			}
		}
	}
	return nil
}

// newClient trusts the cluster's API server.
func newClient() (*http.Client, error) {
	authority, err := os.ReadFile(filepath.Join(credentials, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	return &http.Client{Transport: transport, Timeout: 5 * period}, nil
}

// nodes asks the API server for the addresses of all nodes, as the pod's service account.
func nodes(ctx context.Context, client *http.Client) ([]netip.Addr, error) {
	token, err := os.ReadFile(filepath.Join(credentials, "token")) // anew: it is renewed
	if err != nil {
		return nil, err
	}
	server := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"),
		os.Getenv("KUBERNETES_SERVICE_PORT"))
	request, err := http.NewRequestWithContext(ctx, "GET", "https://"+server+"/api/v1/nodes", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("list nodes: %s", response.Status)
	}
	var list struct {
		Items []struct {
			Status struct {
				Addresses []struct{ Type, Address string }
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
		return nil, err
	}
	var found []netip.Addr
	for _, node := range list.Items {
		for _, each := range node.Status.Addresses {
			if each.Type != "InternalIP" {
				continue
			}
			address, err := netip.ParseAddr(each.Address)
			if err != nil {
				return nil, err
			}
			found = append(found, address)
		}
	}
	return found, nil
}
