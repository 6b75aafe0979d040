#!/bin/bash
# etcd and etcdctl 3.4.23 (Debian 12: etcd-server, etcd-client 3.4.23-4+b4): a flag does not override its variable.
#
# The documentation of etcd gives the command line precedence over the environment, as nearly every tool has it. In fact a
# flag and its variable together end either program with status 1, even if both say the same; the flag's own default given
# by hand counts too. So a shell that exports ETCDCTL_ENDPOINTS refuses each command line that names `--endpoints`.
# Seen as well with 3.6.16, built from its Go modules.
#
# Output seen:
#   etcdctl, flag alone                 status 0
#   etcdctl, variable alone             status 0
#   etcdctl, flag and other variable    status 1: conflicting environment variable "ETCDCTL_COMMAND_TIMEOUT" is shadowed
#   etcdctl, flag and same variable     status 1: conflicting environment variable "ETCDCTL_COMMAND_TIMEOUT" is shadowed
#   etcdctl, default and same variable  status 1: conflicting environment variable "ETCDCTL_COMMAND_TIMEOUT" is shadowed
#   etcd, flag and other variable       status 1: conflicting environment variable "ETCD_SNAPSHOT_COUNT" is shadowed
#   etcd, flag and same variable        status 1: conflicting environment variable "ETCD_SNAPSHOT_COUNT" is shadowed
#
# Needs: bash, apt-get, dpkg, curl, python3. Exits 1 when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download etcd-server=3.4.23-4+b4 etcd-client=3.4.23-4+b4
for package in *.deb; do dpkg -x "$package" .; done
for name in "${!ETCD@}"; do unset "$name"; done
export ETCDCTL_API=3
read -r client peer < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))')
etcd=(usr/bin/etcd --listen-client-urls "http://127.0.0.1:$client" --advertise-client-urls "http://127.0.0.1:$client"
  --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer"
  --initial-cluster "default=http://127.0.0.1:$peer")
timeout 120 "${etcd[@]}" --data-dir data >log 2>&1 &
server=$!
for _ in $(seq 100); do
  curl -sf --noproxy '*' "http://127.0.0.1:$client/health" | grep -q true && break
  sleep 0.2
done

# try EXPECTED WHAT COMMAND...: run it and print its status and what it complains of; count it if it is not as expected
changed=0
try() {
  local expected=$1 what=$2 status=0 seen
  shift 2
  timeout 20 env "$@" >out 2>&1 || status=$?
  seen="status $status$(sed -n 's/.*\(conflicting environment variable "[A-Z_]*" is shadowed\).*/: \1/p' out)"
  printf '%-35s %s\n' "$what" "$seen"
  [ "$seen" = "$expected" ] || changed=1
}
get=(usr/bin/etcdctl --endpoints "127.0.0.1:$client" get key)
variable=ETCDCTL_COMMAND_TIMEOUT
refused="status 1: conflicting environment variable \"$variable\" is shadowed"
try "status 0" "etcdctl, flag alone" "${get[@]}" --command-timeout 9s
try "status 0" "etcdctl, variable alone" $variable=8s "${get[@]}"
try "$refused" "etcdctl, flag and other variable" $variable=8s "${get[@]}" --command-timeout 9s
try "$refused" "etcdctl, flag and same variable" $variable=9s "${get[@]}" --command-timeout 9s
try "$refused" "etcdctl, default and same variable" $variable=5s "${get[@]}" --command-timeout 5s
variable=ETCD_SNAPSHOT_COUNT
refused="status 1: conflicting environment variable \"$variable\" is shadowed"
try "$refused" "etcd, flag and other variable" $variable=8000 "${etcd[@]}" --data-dir never --snapshot-count 9000
try "$refused" "etcd, flag and same variable" $variable=9000 "${etcd[@]}" --data-dir never --snapshot-count 9000
exit $changed
