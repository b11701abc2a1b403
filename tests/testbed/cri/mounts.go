package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"rehull.dev/testbed/shim"
)

// sandboxDir holds what containerd writes for a pod's containers.
func sandboxDir(id string) string {
	return filepath.Join("/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes", id)
}

func resolver(id string) string { return filepath.Join(sandboxDir(id), "resolv.conf") }

// writeResolver writes the resolv.conf of a pod; without settings it is the host's.
func writeResolver(id string, dns *cri.DNSConfig) error {
	var text strings.Builder
	for _, server := range dns.GetServers() {
		fmt.Fprintln(&text, "nameserver", server)
	}
	if searches := dns.GetSearches(); len(searches) > 0 {
		fmt.Fprintln(&text, "search", strings.Join(searches, " "))
	}
	if options := dns.GetOptions(); len(options) > 0 {
		fmt.Fprintln(&text, "options", strings.Join(options, " "))
	}
	if text.Len() == 0 {
		host, err := os.ReadFile("/etc/resolv.conf")
		if err != nil {
			return err
		}
		text.Write(host)
	}
	if err := os.MkdirAll(sandboxDir(id), 0o755); err != nil {
		return err
	}
	return os.WriteFile(resolver(id), []byte(text.String()), 0o644)
}

// mounts are a container's volumes and its pod's resolv.conf. What is mounted where it is on the host
// is there already.
func mounts(sandbox string, wanted []*cri.Mount) []shim.Mount {
	all := []shim.Mount{{From: resolver(sandbox), To: "/etc/resolv.conf"}}
	for _, mount := range wanted {
		if mount.HostPath != mount.ContainerPath {
			all = append(all, shim.Mount{From: mount.HostPath, To: mount.ContainerPath})
		}
	}
	return all
}
