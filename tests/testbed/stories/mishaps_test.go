package stories

import (
	"fmt"
	"strings"
	"time"

	"rehull.dev/testbed/cluster"
)

// foreignOperation has somebody else order something that does not begin before operationsGoOn.
func foreignOperation(n *night) {
	n.on("mgmt", "systemctl stop kubean")
	n.apply("mgmt", theirs)
}

func operationsGoOn(n *night) {
	n.on("mgmt", "systemctl start kubean")
	n.ended("theirs")
	n.on("mgmt", "kubectl delete clusteroperation theirs")
}

// acceptItems types what `rehull explain` advises, with a reason.
func acceptItems(n *night) {
	accepted := 0
	for _, line := range explain(n.T, n.testbed, "worker1").Unblock {
		if strings.HasPrefix(line, "rehull migrate approve ") {
			line = strings.Replace(line, "'...'", "'scratch data only'", 1)
			n.on("mgmt", strings.Replace(line, "rehull ", "rehull --dir "+cluster.RehullDir+" ", 1))
			accepted++
		}
	}
	if accepted == 0 {
		n.Fatal("nobody is told how to accept the data")
	}
}

func (n *night) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

// allowed waits until a budget allows so many disruptions.
func (n *night) allowed(name, count string) {
	n.Helper()
	n.on("master1", "kubectl rollout status deployment/"+name+" --timeout=60s")
	eventually(n.T, time.Minute, name+" allows "+count, func() (string, bool) {
		out := kubectl(n.T, n.testbed, "get", "pdb", name, "-o",
			"jsonpath={.status.disruptionsAllowed}")
		return out, out == count
	})
}

func (n *night) installer(script string) {
	n.Helper()
	n.must(cluster.Installer(n.Context(), n.testbed, script))
}

// inventory edits Kubean's hosts-conf, as another person does.
func (n *night) inventory(edit string) {
	n.Helper()
	n.on("mgmt", "kubectl -n kubean-system get configmap prod-hosts-conf -o yaml | sed '"+edit+
		"' | kubectl replace -f -")
}

// drops has a host drop what matches at a hook of its network, by a table of its own.
func (n *night) drops(host, table, hook, match string) {
	n.Helper()
	n.on(host, "nft add table ip "+table+"; nft 'add chain ip "+table+" drops { type filter hook "+hook+
		" priority 0; }'; nft add rule ip "+table+" drops "+match+" drop")
}

// playbook puts another text into the place of a playbook, for the next operation.
func (n *night) playbook(name, text string) {
	n.Helper()
	path := "/kubespray/" + name
	n.on("mgmt", "cp "+path+" "+path+".honest")
	n.must(n.testbed.Write(n.Context(), "mgmt", path, 0, []byte(text)))
}

func (n *night) honestPlaybook(name string) {
	n.Helper()
	n.on("mgmt", "mv /kubespray/"+name+".honest /kubespray/"+name)
}

// ended waits until an operation is over.
func (n *night) ended(name string) {
	n.Helper()
	eventually(n.T, migrationLimit, "the end of "+name, func() (string, bool) {
		out, err := n.testbed.Run(n.Context(), "mgmt", "kubectl", "get", "clusteroperation", name,
			"-o", "jsonpath={.status.status}")
		return fmt.Sprint(out, err), out == "Succeeded" || out == "Failed"
	})
}

// ready waits until the cluster says so of a node.
func (n *night) ready(node, status string) {
	n.Helper()
	eventually(n.T, 3*time.Minute, node+" Ready="+status, func() (string, bool) {
		out := kubectl(n.T, n.testbed, "get", "node", node, "-o",
			`jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		return out, out == status
	})
}

// recordedSince waits for an event of a node that happens from now on.
func (n *night) recordedSince(node, event string, limit time.Duration) {
	n.Helper()
	before := strings.Count(n.history(node, event), "\n")
	eventually(n.T, limit, event, func() (string, bool) {
		out := n.history(node, event)
		return out, strings.Count(out, "\n") > before
	})
}

// preferred is a Deployment whose pods go to worker1 if they can, with data on the host if so wanted.
func preferred(name string, replicas int, data string) string {
	mounts, volumes := "", ""
	if data != "" {
		mounts = ", volumeMounts: [{name: data, mountPath: /data}]"
		volumes = "volumes: [{name: data, hostPath: {path: " + data + ", type: DirectoryOrCreate}}]"
	}
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: default}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{key: dedicated, operator: Exists}]
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              preference:
                matchExpressions:
                  - {key: kubernetes.io/hostname, operator: In, values: [worker1]}
      containers: [{name: %[1]s, image: "registry.example/%[1]s:1"%[4]s}]
      %[3]s
---
`, name, replicas, volumes, mounts)
}

// budget is a PodDisruptionBudget for such a Deployment.
func budget(name string, least int) string {
	return fmt.Sprintf(`
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: %[1]s, namespace: default}
spec: {minAvailable: %[2]d, selector: {matchLabels: {app: %[1]s}}}
`, name, least)
}

const (
	attachment = `
apiVersion: storage.k8s.io/v1
kind: VolumeAttachment
metadata: {name: csi-left}
spec:
  attacher: csi.example
  nodeName: worker1
  source: {persistentVolumeName: pv-left}
`
	homeless = `
apiVersion: v1
kind: Pod
metadata: {name: homeless, namespace: default}
spec:
  nodeSelector: {example.com/rack: nowhere}
  containers: [{name: homeless, image: "registry.example/homeless:1"}]
`
	// staleServer starts a second API server on a copy of etcd as it is now. Both are real; from then
	// on nothing of what happens in the cluster reaches them.
	staleServer = `
rm -rf /var/lib/etcd-stale
pid=$(pgrep -x etcd | head -n 1)
kill -STOP $pid
cp -a /var/lib/etcd /var/lib/etcd-stale
kill -CONT $pid
setsid /opt/testbed/bin/etcd --name stale --data-dir /var/lib/etcd-stale --force-new-cluster \
  --listen-client-urls http://127.0.0.1:2479 --advertise-client-urls http://127.0.0.1:2479 \
  --listen-peer-urls http://127.0.0.1:2480 >/var/log/etcd-stale.log 2>&1 </dev/null &
tr '\0' '\n' </proc/$(pgrep -x kube-apiserver | head -n 1)/cmdline | tail -n +2 |
  grep -v -e '^--etcd-' -e '^--secure-port=' >/root/stale.args
mapfile -t args </root/stale.args
setsid /opt/testbed/bin/kube-apiserver "${args[@]}" --etcd-servers=http://127.0.0.1:2479 --secure-port=6444 \
  >/var/log/stale.log 2>&1 </dev/null &
for i in $(seq 300); do
  kubectl --server=https://10.77.0.11:6444 get --raw=/readyz >/dev/null 2>&1 && exit 0
  sleep 0.2
done
tail /var/log/stale.log /var/log/etcd-stale.log >&2
exit 1
`
	theirs = `
apiVersion: kubean.io/v1alpha1
kind: ClusterOperation
metadata: {name: theirs}
spec:
  cluster: prod
  image: ghcr.io/kubean-io/spray-job:v0.12.2
  actionType: playbook
  action: ping.yml
`
	sameJob = `
apiVersion: batch/v1
kind: Job
metadata: {name: kubean-prod-rm-worker2-a1-job, namespace: kubean-system}
spec:
  suspend: true
  template:
    spec:
      restartPolicy: Never
      containers: [{name: other, image: "registry.example/other:1"}]
`
	failing = `
- hosts: kube_control_plane[0]
  gather_facts: false
  tasks:
    - ansible.builtin.fail: {msg: the last hook fails}
`
	idle = `
- hosts: kube_node
  gather_facts: false
  tasks: []
`
)
