#!/bin/bash
# etcd 3.6.16 (Go modules go.etcd.io/etcd/server/v3, etcdctl/v3): looking at the health of a cluster writes to its log.
#
# `etcdctl endpoint health` also lists the alarms, and a list of alarms is a proposal: every look is an entry in the raft
# log of every member, is flushed to every disk, and moves the raft index and the applied index. The revision stays.
# `endpoint status` and an ordinary read write nothing. So a monitor that looks once a second writes 86400 entries a day,
# two looks at "the index at rest" differ by the looking, and without a quorum a look hangs like a write.
#
# Output seen:
#   10 x endpoint status: raft index +0, revision +0
#   10 x get:             raft index +0, revision +0
#   10 x endpoint health: raft index +10, revision +0
#   10 x alarm list:      raft index +10, revision +0
#
# Needs: bash, go 1.24 or newer, curl, python3; builds for a minute or two. Exits 1 when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS=-mod=mod
go mod init example.test/finding >/dev/null 2>&1
go get go.etcd.io/etcd/server/v3@v3.6.16 go.etcd.io/etcd/etcdctl/v3@v3.6.16 >build.log 2>&1 || { tail build.log; exit 1; }
go build -o etcd go.etcd.io/etcd/server/v3
go build -o etcdctl go.etcd.io/etcd/etcdctl/v3
read -r client peer < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))')
timeout 120 ./etcd --data-dir data \
  --listen-client-urls "http://127.0.0.1:$client" --advertise-client-urls "http://127.0.0.1:$client" \
  --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
  --initial-cluster "default=http://127.0.0.1:$peer" >log 2>&1 &
server=$!
for _ in $(seq 100); do
  curl -sf --noproxy '*' "http://127.0.0.1:$client/health" | grep -q true && break
  sleep 0.2
done
ctl() { env -u ETCDCTL_API ./etcdctl --endpoints "127.0.0.1:$client" "$@"; }
ctl put key value >/dev/null

# state: "INDEX REVISION" of the member
state() {
  ctl endpoint status -w json | python3 -c '
import json, sys
status = json.load(sys.stdin)[0]["Status"]
print(status["raftIndex"], status["header"]["revision"])'
}
# ten WHAT ARGUMENT...: ten times the same command; how far index and revision moved is in $moved
ten() {
  local what=$1 before after
  shift
  before=($(state))
  for _ in $(seq 10); do ctl "$@" >/dev/null 2>&1; done
  after=($(state))
  moved="+$((after[0] - before[0])) +$((after[1] - before[1]))"
  printf '%-21s raft index %s, revision %s\n' "10 x $what:" $moved
  all+="$moved;"
}
all=
ten "endpoint status" endpoint status
ten "get" get key
ten "endpoint health" endpoint health
ten "alarm list" alarm list
[ "$all" = "+0 +0;+0 +0;+10 +0;+10 +0;" ]
