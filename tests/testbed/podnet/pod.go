package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
)

// Calico's own: every pod has the same gateway, and every host's end of a pod's card the same MAC.
const (
	gateway    = "169.254.1.1"
	gatewayMAC = "ee:ee:ee:ee:ee:ee"
)

// Namespace is the file that holds a pod's network, also when nothing of the pod runs.
func Namespace(pod string) string { return filepath.Join("/run/netns", name(pod)) }

func name(pod string) string { return "cni-" + pod }

// card is the host's end of a pod's card. It bears the address's last number, so that an address is
// taken as long as its card is there, whoever has forgotten the pod.
func card(address netip.Addr) string { return fmt.Sprint("cali", address.As4()[3]) }

// Free returns the first free address after the last one given: one that has just become free may
// still be somebody's endpoint.
func Free(pods netip.Prefix, last netip.Addr) (netip.Addr, error) {
	const most = 254
	address := last
	for range most {
		address = address.Next()
		if number := address.As4()[3]; !pods.Contains(address) || number == 0 || number > most {
			address = pods.Addr().Next()
		}
		if _, err := net.InterfaceByName(card(address)); err != nil {
			return address, nil
		}
	}
	return netip.Addr{}, errors.New("no free address in " + pods.String())
}

// Attach makes the network of a pod: a namespace of its own with a card that leads to the host.
func Attach(pod string, address netip.Addr) error {
	inside := "-n " + name(pod) + " "
	for _, words := range []string{
		"netns add " + name(pod),
		"link add " + card(address) + " address " + gatewayMAC + " type veth peer name eth0 netns " +
			name(pod),
		inside + "link set lo up",
		inside + "link set eth0 up",
		inside + "addr add " + address.String() + "/32 dev eth0",
		inside + "neigh add " + gateway + " lladdr " + gatewayMAC + " dev eth0 nud permanent",
		inside + "route add " + gateway + " dev eth0 scope link",
		inside + "route add default via " + gateway + " dev eth0",
		"link set " + card(address) + " up",
		"route replace " + address.String() + " dev " + card(address),
	} {
		if _, err := ip(words); err != nil {
			return errors.Join(err, Detach(pod))
		}
	}
	return nil
}

// Detach removes what Attach made. The card is deleted by its own end: after a reboot the host's may
// be another pod's. One that is missing has gone with its host or by somebody's hand.
func Detach(pod string) error {
	if _, err := os.Stat(Namespace(pod)); err != nil {
		return nil
	}
	_, _ = ip("-n " + name(pod) + " link del eth0")
	_, err := ip("netns delete " + name(pod))
	return err
}
