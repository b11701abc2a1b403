package stories

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
)

// etcdHealth is what `rehull etcd -o json` prints, as far as it is looked at.
type etcdHealth struct {
	ClusterID    string `json:"cluster_id"`
	Voters       int    `json:"voters"`
	Tolerance    int    `json:"tolerance"`
	HashRevision int64  `json:"hash_revision"`
	Members      []struct {
		ID       string   `json:"id"`
		Role     string   `json:"role"`
		Node     string   `json:"node"`
		PeerURLs []string `json:"peer_urls"`
		Hash     uint32   `json:"hash"`
	} `json:"members"`
	Problems []string `json:"problems"`
}

// TestEtcd: agents see the etcd of three real control planes, by no program but themselves, and
// name what ails it.
func TestEtcd(t *testing.T) {
	t.Parallel() // it mostly waits
	testbed := up(t, cluster.Size{ControlPlanes: 3})
	tellOnFailure(t, testbed)
	if err := cluster.InstallRehull(t.Context(), testbed, programs4rehull(t)); err != nil {
		t.Fatal(err)
	}
	healthy(t, testbed)

	t.Run("a member that is away", func(t *testing.T) {
		manifest := "/etc/kubernetes/manifests/etcd.yaml"
		run(t, testbed, "master3", "mv", manifest, "/root/etcd.yaml")
		seen := awaitEtcd(t, testbed, "master3: ", "nobody speaks for member ")
		if seen.Voters != 3 || seen.Tolerance != 0 {
			t.Errorf("%d voters, %d could be lost", seen.Voters, seen.Tolerance)
		}
		run(t, testbed, "master3", "mv", "/root/etcd.yaml", manifest)
		healthy(t, testbed)
	})

	t.Run("a member that never starts", func(t *testing.T) {
		add := "member add stray --peer-urls=https://10.77.0.99:2380"
		// etcd adds nobody while a member has been back for less than 5 s.
		run(t, testbed, "master1", "sh", "-c", "for i in $(seq 30); do "+etcdctlLine+add+
			" --learner && exit; sleep 1; done; exit 1")
		seen := awaitEtcd(t, testbed, "(https://10.77.0.99:2380) is a learner: it has no vote yet")
		if seen.Voters != 3 {
			t.Errorf("a learner counts as one of %d voters", seen.Voters)
		}
		removeStray(t, testbed)
		etcdctl(t, testbed, add)
		seen = awaitEtcd(t, testbed, "(https://10.77.0.99:2380) has never started")
		if seen.Voters != 4 || seen.Tolerance != 0 {
			t.Errorf("%d voters, %d could be lost", seen.Voters, seen.Tolerance)
		}
		removeStray(t, testbed)
		healthy(t, testbed)
	})

	t.Run("a backup is taken, and a scratch etcd made of it", func(t *testing.T) {
		backedUp(t, testbed, "/etc/kubernetes/ssl/etcd/peer.key", "/etc/kubernetes/manifests/etcd.yaml")
	})

	t.Run("a store that is full", func(t *testing.T) {
		run(t, testbed, "master2", "sed", "-i",
			`s/^    - etcd$/    - etcd\n    - --quota-backend-bytes=20971520/`,
			"/etc/kubernetes/manifests/etcd.yaml")
		etcdctl(t, testbed, "member list") // it may be away for a moment
		for range 30 {
			_, err := testbed.Run(t.Context(), "master1", "sh", "-c", "head -c 1000000 /dev/urandom | "+
				"base64 -w0 | head -c 1000000 | "+etcdctlLine+"put filler-$RANDOM-$(date +%N)")
			if err != nil {
				break // the others do not write any more
			}
		}
		awaitEtcd(t, testbed, "alarm NOSPACE of member ")
	})
}

// etcdctlLine calls etcdctl by a shell, with the certificates of either kind of etcd.
const etcdctlLine = "etcdctl --endpoints=https://127.0.0.1:2379 $(if [ -e /etc/etcd.env ]; " +
	"then cd /etc/ssl/etcd/ssl; echo --cacert=$PWD/ca.pem --cert=$PWD/admin-$(hostname).pem " +
	"--key=$PWD/admin-$(hostname)-key.pem; " +
	"else cd /etc/kubernetes/pki/etcd; echo --cacert=$PWD/ca.crt --cert=$PWD/server.crt " +
	"--key=$PWD/server.key; fi) "

func etcdctl(t *testing.T, testbed *hosts.Testbed, line string) string {
	t.Helper()
	return run(t, testbed, "master1", "sh", "-c", etcdctlLine+line)
}

func removeStray(t *testing.T, testbed *hosts.Testbed) {
	t.Helper()
	for line := range strings.Lines(etcdctl(t, testbed, "member list")) {
		if strings.Contains(line, "10.77.0.99") {
			etcdctl(t, testbed, "member remove "+strings.Split(line, ",")[0])
		}
	}
}

// healthy waits until three members are well, and checks everything that is said of them.
func healthy(t *testing.T, testbed *hosts.Testbed) {
	t.Helper()
	seen := awaitEtcd(t, testbed)
	if seen.Voters != 3 || seen.Tolerance != 1 || seen.ClusterID == "" {
		t.Errorf("%+v", seen)
	}
	known := etcdctl(t, testbed, "member list")
	leaders := 0
	for index, member := range seen.Members {
		if member.Role == "leader" {
			leaders++
		}
		number := strings.TrimPrefix(member.Node, "master")
		if len(member.PeerURLs) != 1 || member.PeerURLs[0] != "https://10.77.0.1"+number+":2380" {
			t.Errorf("%s speaks for %v", member.Node, member.PeerURLs)
		}
		if !strings.Contains(known, member.ID+", started") {
			t.Errorf("etcdctl knows no member %s:\n%s", member.ID, known)
		}
		if member.Hash == 0 || member.Hash != seen.Members[0].Hash {
			t.Errorf("member %d has hash %d", index, member.Hash)
		}
	}
	if leaders != 1 || len(seen.Members) != 3 || seen.HashRevision == 0 {
		t.Errorf("%d leaders: %+v", leaders, seen)
	}
}

// awaitEtcd asks until each of these words is among the problems; without words, until there are none.
func awaitEtcd(t *testing.T, testbed *hosts.Testbed, words ...string) etcdHealth {
	t.Helper()
	var said string
	for range 60 {
		said = run(t, testbed, "mgmt", "sh", "-c",
			"rehull --dir "+cluster.RehullDir+" etcd prod -o json 2>&1; [ $? -le 5 ]")
		var seen etcdHealth
		if json.Unmarshal([]byte(said), &seen) == nil && matches(seen.Problems, words) {
			return seen
		}
		time.Sleep(time.Second)
	}
	t.Fatalf("not %q within a minute:\n%s", words, said)
	return etcdHealth{}
}

func matches(problems, words []string) bool {
	all := strings.Join(problems, "\n")
	for _, word := range words {
		if !strings.Contains(all, word) {
			return false
		}
	}
	return len(words) > 0 || all == ""
}

// backupKey opens the backups of this story, and of nothing else.
const (
	backupKey       = "AGE-SECRET-KEY-13Z7UX5K9U5CCR3Q56S2FELKE9CDFADUD6L5SVYMFJYJQZ2TRGYLSSEZ6GZ"
	backupRecipient = "age1acpz2v74v5g65k20tvc89td8srwhflt5n9w9ldut3l2lkvjynsvq8mnfft"
)

// backedUp has a backup taken, and proves it: the keys are those of the host, with these files of etcd,
// and a real etcd that is made of the snapshot knows every node.
func backedUp(t *testing.T, testbed *hosts.Testbed, etcd ...string) {
	t.Helper()
	keepBackups(t, testbed)
	healthy(t, testbed)

	said := rehull(t, testbed, "backup", "take", "prod")
	name, _, _ := strings.Cut(said, ":")
	dir := "/var/backups/rehull/" + name
	if list := rehull(t, testbed, "backup", "list", "prod"); !strings.Contains(list, dir) {
		t.Errorf("%s is not in the list:\n%s", dir, list)
	}
	node := name[strings.LastIndex(name, "-")+1:]
	if found := run(t, testbed, "mgmt", "sh", "-c", "grep -rl 'PRIVATE KEY' "+dir+" || true"); found != "" {
		t.Errorf("a key can be read in %s", found)
	}
	rehull(t, testbed, "backup", "verify", dir)
	rehull(t, testbed, "backup", "verify", dir, "--identity", "/root/key.txt")
	rehull(t, testbed, "backup", "restore", dir, "--identity", "/root/key.txt", "--out", "/root/restored")
	for _, path := range append(etcd, "/etc/kubernetes/admin.conf", "/etc/kubernetes/ssl/ca.key") {
		sum := func(host, path string) string {
			return strings.Fields(run(t, testbed, host, "sha256sum", path))[0]
		}
		if sum("mgmt", "/root/restored"+path) != sum(node, path) {
			t.Errorf("%s is another one than on %s", path, node)
		}
	}
	proof := rehull(t, testbed, "backup", "prove", dir, "--identity", "/root/key.txt", "--programs",
		hosts.BinDir)
	if !strings.Contains(proof, " Nodes: master1, master2, master3") {
		t.Error(proof)
	}
}
