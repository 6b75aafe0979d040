#!/bin/bash
# etcd 3.4.23 (Debian 12, etcd-server 3.4.23-4+b4): a misspelt key in the configuration file is ignored without a word.
#
# The same misspelling on the command line is refused with status 2. From the file, etcd starts, serves, and logs
# nothing about the key; a quota set so is simply not there. Seen as well with 3.6.16, built from its Go module.
#
# Output seen:
#   command line: status 2, flag provided but not defined: -qouta-backend-bytes
#   file: serves; lines of the log that name qouta-backend-bytes: 0
#   quota in force: 2147483648 bytes (asked for: 16777216)
#
# Needs: bash, apt-get, dpkg, curl, python3, an hour-old package list at most. Exits 1 when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download etcd-server=3.4.23-4+b4
dpkg -x etcd-server_*.deb .
etcd=$work/usr/bin/etcd
read -r client peer < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))')

status=0
said=$(timeout 20 "$etcd" --data-dir never --qouta-backend-bytes 16777216 2>&1) || status=$?
said=${said%%$'\n'*}
echo "command line: status $status, $said"

cat >etcd.yaml <<YAML
name: one
data-dir: $work/data
listen-client-urls: http://127.0.0.1:$client
advertise-client-urls: http://127.0.0.1:$client
listen-peer-urls: http://127.0.0.1:$peer
initial-advertise-peer-urls: http://127.0.0.1:$peer
initial-cluster: one=http://127.0.0.1:$peer
qouta-backend-bytes: 16777216
YAML
timeout 60 "$etcd" --config-file etcd.yaml >log 2>&1 &
server=$!
serves=no
for _ in $(seq 100); do
  if curl -sf --noproxy '*' "http://127.0.0.1:$client/health" | grep -q true; then serves=yes; break; fi
  sleep 0.2
done
named=$(grep -c qouta log || true)
quota=$(curl -sf --noproxy '*' "http://127.0.0.1:$client/metrics" |
  sed -n 's/^etcd_server_quota_backend_bytes //p' | python3 -c 'print(int(float(input())))')
echo "file: $([ $serves = yes ] && echo serves || echo does not serve); lines of the log that name qouta-backend-bytes: $named"
echo "quota in force: $quota bytes (asked for: 16777216)"

[ "$status" = 2 ] && [ "$said" = "flag provided but not defined: -qouta-backend-bytes" ]
[ "$serves" = yes ] && [ "$named" = 0 ] && [ "$quota" = 2147483648 ]
