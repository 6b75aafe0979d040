#!/bin/bash
# etcdctl -w json and jq 1.6 (Debian 12: etcd-server, etcd-client 3.4.23-4+b4; jq 1.6-2.1+deb12u3): member ids come out wrong.
#
# Ids of members, clusters and leases are 64-bit numbers. etcdctl writes them as JSON numbers, and jq 1.6 holds numbers
# as doubles of 53 bits, so that what it prints is another number, without a warning, and `printf %x` of it (`member remove`
# and `move-leader` want hexadecimal) names a member that does not exist. `etcdctl member list` gives ids as text.
#
# Output seen (the id depends on the peer port):
#   etcdctl member list -w json:  8741665697898669442
#   ... | jq '.members[0].ID':    8741665697898669000
#
# Needs: bash, apt-get, dpkg, curl, python3. Exits 1 when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download etcd-server=3.4.23-4+b4 etcd-client=3.4.23-4+b4 \
  jq=1.6-2.1+deb12u3 libjq1=1.6-2.1+deb12u3 libonig5=6.9.8-1
for package in *.deb; do dpkg -x "$package" .; done
read -r client peer < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))')
timeout 60 usr/bin/etcd --data-dir data \
  --listen-client-urls "http://127.0.0.1:$client" --advertise-client-urls "http://127.0.0.1:$client" \
  --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
  --initial-cluster "default=http://127.0.0.1:$peer" >log 2>&1 &
server=$!
for _ in $(seq 100); do
  curl -sf --noproxy '*' "http://127.0.0.1:$client/health" | grep -q true && break
  sleep 0.2
done
etcdctl() { env -u ETCDCTL_ENDPOINTS ETCDCTL_API=3 usr/bin/etcdctl --endpoints "127.0.0.1:$client" "$@"; }
jq() { LD_LIBRARY_PATH=$(echo usr/lib/*-linux-gnu) usr/bin/jq "$@"; }

written=$(etcdctl member list -w json | grep -o '"ID":[0-9]*' | cut -d: -f2)
printed=$(etcdctl member list -w json | jq '.members[0].ID')
echo "etcdctl member list -w json:  $written"
echo "... | jq '.members[0].ID':    $printed"

[ "$(python3 -c 'import sys; print("%x" % int(sys.argv[1]))' "$written")" = "$(etcdctl member list | cut -d, -f1)" ]
[ "$printed" != "$written" ] # they agree for one id in a thousand, that a double happens to hold: run it again
