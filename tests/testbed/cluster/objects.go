package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"rehull.dev/testbed/hosts"
)

// kubeanUnit plays Kubean's operator, its webhook and the node that runs its Jobs' pods.
const kubeanUnit = `[Unit]
Description=Kubean's operator, played

[Service]
ExecStart=/opt/testbed/bin/kubean --kubeconfig /etc/kubernetes/super-admin.conf \
  --playbooks /kubespray --ansible-bin /usr/local/bin --work /var/lib/kubean \
  --node-address 10.77.0.2:10250 --webhook-address 10.77.0.2:9443
Restart=always
`

// repositoryUnit serves the offline packages that enable-repo.yml points hosts to (DCE: MinIO).
const repositoryUnit = `[Unit]
Description=package repository

[Service]
ExecStart=/usr/bin/python3 -m http.server 9000 --directory /srv/minio
Restart=always
`

// repositoryScript makes empty but valid repositories of yum and apt.
const repositoryScript = `
for name in centos rocky; do
  mkdir -p /srv/minio/kubean/$name/repodata
  echo '<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision></repomd>' \
    > /srv/minio/kubean/$name/repodata/repomd.xml
done
for name in ubuntu ubuntu-iso; do
  for part in main restricted; do
    mkdir -p /srv/minio/kubean/$name/dists/jammy/$part/binary-amd64
    : > /srv/minio/kubean/$name/dists/jammy/$part/binary-amd64/Packages
  done
  cd /srv/minio/kubean/$name/dists/jammy
  {
    printf 'Suite: jammy\nCodename: jammy\nArchitectures: amd64\nComponents: main restricted\n'
    printf 'Date: %s\nSHA256:\n' "$(date -Ru)"
    for file in */binary-amd64/Packages; do
      printf ' %s %s %s\n' $(sha256sum $file | cut -d' ' -f1) $(stat -c %s $file) $file
    done
  } > Release
done
systemctl enable --now repository
`

const kubeanCluster = `apiVersion: kubean.io/v1alpha1
kind: Cluster
metadata: {name: prod, labels: {clusterName: prod}}
spec:
  hostsConfRef: {namespace: kubean-system, name: prod-hosts-conf}
  varsConfRef: {namespace: kubean-system, name: prod-vars-conf}
  kubeconfRef: {namespace: kubean-system, name: prod-kubeconf}
  sshAuthRef: {namespace: kubean-system, name: prod-ssh-auth}
`

// objects puts into the management cluster what Kubean has of a cluster: references to inventory,
// variables, kubeconfig and ssh key.
func objects(ctx context.Context, testbed *hosts.Testbed) error {
	if err := testbed.Write(ctx, managementHost, "/etc/systemd/system/kubean.service", 0o644,
		[]byte(kubeanUnit)); err != nil {
		return err
	}
	if err := testbed.Write(ctx, managementHost, "/etc/testbed/cluster.yaml", 0o644,
		[]byte(kubeanCluster)); err != nil {
		return err
	}
	if err := testbed.Write(ctx, managementHost, "/etc/systemd/system/repository.service", 0o644,
		[]byte(repositoryUnit)); err != nil {
		return err
	}
	_, err := shell(ctx, testbed, managementHost, repositoryScript+`cd /etc/testbed
systemctl enable --now kubean
kubectl -n kubean-system create configmap prod-hosts-conf --from-file=hosts.yml
kubectl -n kubean-system create configmap prod-vars-conf --from-file=group_vars.yml
kubectl -n kubean-system create secret generic prod-ssh-auth --from-file=ssh-privatekey
for try in $(seq 100); do kubectl get crd clusters.kubean.io 2>/dev/null && break; sleep 0.2; done
kubectl wait --for=condition=Established crd/clusters.kubean.io --timeout=30s
kubectl apply -f cluster.yaml`)
	return err
}

// kubeconf publishes the workload cluster's kubeconfig as Kubean's kubeconfig.yml does.
func kubeconf(ctx context.Context, testbed *hosts.Testbed) error {
	admin, err := os.ReadFile(WorkloadConfig(testbed.Dir))
	if err != nil {
		return err
	}
	path := "/etc/testbed/" + filepath.Base(WorkloadConfig(""))
	if err := testbed.Write(ctx, managementHost, path, 0o600, admin); err != nil {
		return err
	}
	_, err = shell(ctx, testbed, managementHost, fmt.Sprintf(
		"kubectl -n kubean-system create configmap prod-kubeconf --from-file=config=%s", path))
	return err
}
