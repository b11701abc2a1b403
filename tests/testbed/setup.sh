#!/bin/sh
# Installs what the testbed needs (Debian and PyPI packages by name) and builds its programs into
# .cache/. Running it again does only what is missing or changed.
set -eu
cd "$(dirname "$0")"
cache=$PWD/.cache
version=v1.34.4
mkdir -p "$cache/bin"

packages="openssh-server openssh-client nginx-light libnginx-mod-stream iproute2 procps
 util-linux nftables busybox-static python3 python3-venv"
missing=
for package in $packages; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
		missing="$missing $package"
done
if [ -n "$missing" ]; then
	# Services must not start on the machine below: they run inside hosts only.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod +x $policy
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	apt-get update -q
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi

if [ ! -x "$cache/venv/bin/ansible-playbook" ]; then
	/usr/bin/python3 -m venv "$cache/venv"
	"$cache/venv/bin/pip" install -q 'ansible-core==2.16.*'
fi

go build -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version \
 -X k8s.io/client-go/pkg/version.gitVersion=$version" -o "$cache/bin/kubernetes" ./cmd/kubernetes
for program in host containerd coredns testbed; do
	CGO_ENABLED=0 go build -ldflags '-s -w' -o "$cache/bin/$program" "./cmd/$program"
done
if [ -d cmd/kubean ]; then
	CGO_ENABLED=0 go build -ldflags '-s -w' -o "$cache/bin/kubean" ./cmd/kubean
fi

# Hard links, so that /proc/<pid>/exe of each process bears its own name as on a real host.
cd "$cache/bin"
for name in etcd etcdctl etcdutl kube-apiserver kube-controller-manager kube-scheduler kubectl kubeadm \
	kubelet kube-proxy; do
	ln -f kubernetes "$name"
done
for name in systemd systemctl journalctl containerd-shim-runc-v2 firewalld calico-node \
	pause; do
	ln -f host "$name"
done
ln -f containerd crictl
mkdir -p applets
busybox --install -s "$cache/bin/applets"
echo "testbed: ready, programs in $cache/bin"
