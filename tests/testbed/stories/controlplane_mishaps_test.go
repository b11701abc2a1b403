package stories

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rehull.dev/testbed/hosts"
)

const (
	hostsConf  = "kubectl -n kubean-system get configmap prod-hosts-conf "
	lonelyNode = "{apiVersion: v1, kind: Node, metadata: {name: master2}}"
	// expiredCertificates takes away what the next upload of certificates leaves, as its end would two
	// hours later.
	expiredCertificates = "delete='kubectl -n kube-system delete secret kubeadm-certs'; $delete; " +
		"setsid sh -c \"until $delete; do sleep 0.3; done\" >/dev/null 2>&1 </dev/null &"
	staleTable = "nft add table ip stale; " +
		"nft 'add chain ip stale out { type nat hook output priority -100; }'; " +
		"nft add rule ip stale out ip daddr 10.77.0.11 tcp dport 6443 dnat to 10.77.0.11:6444"
)

// manifest edits the manifest of a static pod, which the kubelet starts anew.
func (n *night) manifest(host, name, edit string) {
	n.Helper()
	path := "/etc/kubernetes/manifests/" + name + ".yaml"
	n.on(host, "sed '"+edit+"' "+path+" >/root/manifest && mv /root/manifest "+path)
}

// addMember adds a member that never starts. etcd adds nobody while another has just come back.
func (n *night) addMember(address, flags string) {
	n.Helper()
	n.on("master1", "for i in $(seq 30); do "+etcdctlLine+"member add stray --peer-urls=https://"+
		address+":2380 "+flags+" && exit; sleep 1; done; exit 1")
}

func (n *night) removeMember(address string) {
	n.Helper()
	n.on("master1", etcdctlLine+"member remove "+memberAt(address))
}

// otherAuthority gives a host a key for service accounts that no other has.
func (n *night) otherAuthority(host string) {
	n.Helper()
	n.on(host, "cd /etc/kubernetes/ssl; mv sa.pub /root/sa.pub; cp front-proxy-ca.crt sa.pub")
}

func (n *night) ownAuthority(host string) {
	n.Helper()
	n.on(host, "mv /root/sa.pub /etc/kubernetes/ssl/sa.pub")
}

// fillStore gives one member a store so small that it is full, which stops all of them.
func fillStore(n *night) {
	n.Helper()
	n.manifest("master2", "etcd", `s/^    - etcd$/&\n    - --quota-backend-bytes=20971520/`)
	n.on("master2", "for i in $(seq 300); do "+etcdctlLine+"endpoint health && exit; sleep 0.2; done; exit 1")
	n.on("master2", "for i in $(seq 60); do head -c 750000 /dev/urandom | base64 -w0 | "+etcdctlLine+
		"put filler-$i || exit 0; done; exit 1")
}

func emptyStore(n *night) {
	n.Helper()
	n.manifest("master2", "etcd", "/quota-backend-bytes/d")
	n.on("master2", "for i in $(seq 300); do ! pgrep -f [q]uota-backend && "+etcdctlLine+
		"endpoint health && break; sleep 0.2; done; "+etcdctlLine+"del --prefix filler-; "+etcdctlLine+"alarm disarm; "+etcdctlLine+"put room enough")
}

// lieAboutMembers lets etcdctl find no member, so the playbook removes none, and succeeds.
func lieAboutMembers(n *night) {
	n.Helper()
	n.on("master1", "mv /usr/local/bin/etcdctl /usr/local/bin/etcdctl.real; "+
		"printf '#!/bin/sh\ncase \" $* \" in *\" member list \"*) exit 0;; esac\n"+
		"exec /usr/local/bin/etcdctl.real \"$@\"\n' >/usr/local/bin/etcdctl; chmod 755 /usr/local/bin/etcdctl")
}

func honestAboutMembers(n *night) {
	n.Helper()
	n.on("master1", "mv /usr/local/bin/etcdctl.real /usr/local/bin/etcdctl")
}

// staleAnswers has a real API server on a copy of etcd answer rehull in the place of master1's.
func staleAnswers(n *night) {
	n.Helper()
	n.on("master1", staleServer)
	n.on("mgmt", staleTable)
	n.restart() // its connections are to the real one
}

func freshAnswers(n *night) {
	n.Helper()
	n.on("mgmt", "nft delete table ip stale")
	n.restart()
	n.on("master1", "pkill -9 -f 'secure-port=[6]444'; pkill -9 -f 'etcd-[s]tale'")
}

// secondMemberBack brings it back, and looks that nothing goes on without anybody's word.
func secondMemberBack(n *night) {
	n.Helper()
	n.on("master3", "mv /root/etcd.yaml /etc/kubernetes/manifests/etcd.yaml")
	eventually(n.T, 3*time.Minute, "two members are well", func() (string, bool) {
		said := rehull(n.T, n.testbed, "status")
		return said, strings.Contains(said, "etcd is: healthy: 2 voters")
	})
	time.Sleep(20 * time.Second)
	if told := explain(n.T, n.testbed, "master2"); !told.isHeld() {
		n.Errorf("it went on without anybody's word: %s", told.State)
	}
}

// kubeanAsks changes the server of the kubeconfig that Kubean keeps, as another person does.
func (n *night) kubeanAsks(now, then string) {
	n.Helper()
	n.on("mgmt", "kubectl -n kubean-system get configmap prod-kubeconf -o yaml | "+
		"sed 's#https://"+now+":6443#https://"+then+":6443#' | kubectl replace -f -")
}

// lead lets cluster-info and kubeadm-config lead to an address.
func lead(t *testing.T, testbed *hosts.Testbed, address string) {
	t.Helper()
	for _, object := range []string{"kube-public configmap cluster-info", "kube-system configmap kubeadm-config"} {
		words := strings.Fields(object)
		script := fmt.Sprintf("kubectl -n %s get %s %s -o yaml | sed -E 's#(server: https://|"+
			"controlPlaneEndpoint: )[0-9.]+:6443#\\1%s:6443#' | kubectl replace -f -", words[0], words[1], words[2], address)
		run(t, testbed, "master1", "sh", "-c", script)
	}
}

// leadEtcd moves the leadership to the member at an address.
func leadEtcd(t *testing.T, testbed *hosts.Testbed, address string) {
	t.Helper()
	run(t, testbed, "master1", "sh", "-c", askEveryMember()+"move-leader "+memberAt(address))
}

// memberAt is a word of the shell, the id of the member at an address.
func memberAt(address string) string {
	return "$(" + etcdctlLine + "member list | grep -F //" + address + ":2380 | cut -d, -f1)"
}

// askEveryMember begins a line of etcdctl that needs the leader, whoever that is, and waits for it longer
// than a busy machine may take to hand that on.
func askEveryMember() string {
	all := "--endpoints=https://10.77.0.11:2379,https://10.77.0.12:2379,https://10.77.0.13:2379 " +
		"--command-timeout=30s "
	return strings.Replace(etcdctlLine, "--endpoints=https://127.0.0.1:2379 ", all, 1)
}

// elections has one member lead after the other, until its file is gone.
func elections() string {
	return "touch /root/elections; setsid sh -c 'while [ -e /root/elections ]; do for host in 12 13; do " +
		askEveryMember() + "move-leader " + memberAt("10.77.0.$host") +
		"; sleep 4; done; done' >/dev/null 2>&1 </dev/null &"
}
