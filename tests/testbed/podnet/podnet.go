// Package podnet is the network of pods as Calico lays it without an overlay: a range of addresses
// for each node, a card for each pod, and a route to each other node's range.
package podnet

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
)

// Range is the pods' addresses of a node. The last number of the node's own address chooses it, which
// is below 64 for every node, so that all ranges are in the cluster's podSubnet, 10.233.64.0/18.
func Range(node netip.Addr) netip.Prefix {
	number := node.As4()[3]
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 233, 64 + number, 0}), 24)
}

// HostRange is the range of the host that this runs on.
func HostRange() (netip.Prefix, error) {
	card, err := net.InterfaceByName("eth0")
	if err != nil {
		return netip.Prefix{}, err
	}
	addresses, err := card.Addrs()
	if err != nil || len(addresses) == 0 {
		return netip.Prefix{}, fmt.Errorf("eth0 has no address: %w", err)
	}
	own, err := netip.ParsePrefix(addresses[0].String())
	if err != nil {
		return netip.Prefix{}, err
	}
	return Range(own.Addr()), nil
}

func ip(words string) (string, error) {
	out, err := exec.Command("ip", strings.Fields(words)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ip %s: %w: %s", words, err, out)
	}
	return string(out), nil
}
