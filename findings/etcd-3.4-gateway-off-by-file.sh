#!/bin/bash
# etcd 3.4.23 (Debian 12, etcd-server 3.4.23-4+b4): its JSON gateway is on by flags and off by a configuration file.
#
# `--help` gives `--enable-grpc-gateway 'true'` as the default. That is the default of the flag; a configuration file
# that does not name the key leaves the gateway off, and every /v3/ address answers 404. The very same settings, once as
# flags and once as a file, are two different servers.
#
# Output seen:
#   by flags: POST /v3/maintenance/status -> 200
#   by file: POST /v3/maintenance/status -> 404
#   by file with enable-grpc-gateway: true: POST /v3/maintenance/status -> 200
#
# Needs: bash, apt-get, dpkg, curl, python3. Exits 1 when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download etcd-server=3.4.23-4+b4
dpkg -x etcd-server_*.deb .
read -r client peer < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))')
declare -A settings=(
  [listen-client-urls]=http://127.0.0.1:$client [advertise-client-urls]=http://127.0.0.1:$client
  [listen-peer-urls]=http://127.0.0.1:$peer [initial-advertise-peer-urls]=http://127.0.0.1:$peer
  [initial-cluster]=default=http://127.0.0.1:$peer
)

# ask WHAT ARGUMENT...: start etcd with these arguments, ask its gateway, stop it; the answer's status is in $code
ask() {
  local what=$1
  shift
  rm -rf data
  timeout 60 usr/bin/etcd "$@" >log 2>&1 &
  server=$!
  for _ in $(seq 100); do
    curl -sf --noproxy '*' "http://127.0.0.1:$client/health" | grep -q true && break
    sleep 0.2
  done
  code=$(curl -s -o /dev/null -w '%{http_code}' --noproxy '*' -d '{}' "http://127.0.0.1:$client/v3/maintenance/status")
  echo "$what: POST /v3/maintenance/status -> $code"
  kill "$server"
  wait "$server" || true
  server=
}

flags=(--data-dir data)
echo "data-dir: data" >etcd.yaml
for key in "${!settings[@]}"; do
  flags+=("--$key" "${settings[$key]}")
  echo "$key: ${settings[$key]}" >>etcd.yaml
done
ask "by flags" "${flags[@]}"
flagged=$code
ask "by file" --config-file etcd.yaml
filed=$code
echo "enable-grpc-gateway: true" >>etcd.yaml
ask "by file with enable-grpc-gateway: true" --config-file etcd.yaml

[ "$flagged $filed $code" = "200 404 200" ]
