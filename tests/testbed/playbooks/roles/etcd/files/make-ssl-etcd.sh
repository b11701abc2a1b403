#!/bin/bash
# Makes what etcd and its clients have: make-ssl-etcd.sh DIR HOST,HOST... ALTERNATIVE-NAMES
set -euo pipefail
dir=$1 hosts=$2 names=$3
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
if [ ! -e "$dir/ca-key.pem" ]; then
	openssl req -x509 -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca.pem -days 36500 -subj /CN=etcd-ca
	mv ca-key.pem ca.pem "$dir/"
fi
printf 'extendedKeyUsage=clientAuth,serverAuth\nbasicConstraints=CA:FALSE\nsubjectAltName=%s\n' "$names" >extensions
for host in ${hosts//,/ }; do
	for name in "member-$host" "admin-$host" "node-$host"; do
		openssl req -newkey rsa:2048 -nodes -keyout "$name-key.pem" -out request -subj "/CN=etcd-$name"
		openssl x509 -req -in request -CA "$dir/ca.pem" -CAkey "$dir/ca-key.pem" -set_serial "0x$(openssl rand -hex 8)" \
			-out "$name.pem" -days 36500 -extfile extensions
	done
done
mv ./*.pem "$dir/"
