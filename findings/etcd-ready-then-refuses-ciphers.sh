#!/bin/bash
# etcd 3.6.16 (Go module go.etcd.io/etcd/server/v3): it reports READY=1 to systemd, and only then refuses its cipher suites.
#
# `cipher-suites` takes any list of known suites, also the stronger of two alone. HTTP/2 insists on one of the AES_128_GCM
# suites, but that is looked at last, by the TLS listener: when the member has joined, elected a leader, and sent READY=1.
# Then etcd exits with status 1. A start job of a Type=notify unit is over by then, so `systemctl start` has succeeded,
# and a rollout that waits for "active" goes on to the next member.
#
# Output seen:
#   AES_256_GCM alone:        READY=1, then status 1: missing an HTTP/2-required AES_128_GCM_SHA256 cipher
#   AES_256_GCM, AES_128_GCM: READY=1, then serves
#
# Needs: bash, go 1.24 or newer, python3; builds for a minute or two. Exits 1 when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS=-mod=mod
go mod init example.test/finding >/dev/null 2>&1
go get go.etcd.io/etcd/server/v3@v3.6.16 >build.log 2>&1 || { tail build.log; exit 1; }
go build -o etcd go.etcd.io/etcd/server/v3

cat >main.py <<'PYTHON'
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

STRONG = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
NEEDED = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
MISSING = "missing an HTTP/2-required AES_128_GCM_SHA256 cipher"
unchecked = ssl._create_unverified_context()  # the certificate is one that etcd made for itself a moment ago
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unchecked))
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
client, peer = (one.getsockname()[1] for one in held)
for one in held:
    one.close()
notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notified.bind("notify")
notified.settimeout(50)


def serves():
    try:
        return b"true" in opener.open(f"https://127.0.0.1:{client}/health", timeout=5).read()
    except OSError:
        return False


def start(suites):
    """What etcd reports to systemd, and what it does then."""
    shutil.rmtree("data", ignore_errors=True)
    with open("etcd.yaml", "w") as file:
        file.write(
            "data-dir: data\n"
            f"listen-client-urls: https://127.0.0.1:{client}\n"
            f"advertise-client-urls: https://127.0.0.1:{client}\n"
            f"listen-peer-urls: http://127.0.0.1:{peer}\n"
            f"initial-advertise-peer-urls: http://127.0.0.1:{peer}\n"
            f"initial-cluster: default=http://127.0.0.1:{peer}\n"
            "client-transport-security: {auto-tls: true}\n"
            f"cipher-suites: [{', '.join(suites)}]\n"
        )
    with open("log", "w") as log:
        argv = ["timeout", "60", "./etcd", "--config-file", "etcd.yaml"]
        server = subprocess.Popen(argv, stderr=log, env=os.environ | {"NOTIFY_SOCKET": os.path.abspath("notify")})
    try:
        report = notified.recv(4096).decode().strip()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if server.poll() is not None:
                with open("log") as log:
                    reason = MISSING if MISSING in log.read() else "another reason"
                return f"{report}, then status {server.returncode}: {reason}"
            if serves():
                return f"{report}, then serves"
            time.sleep(0.1)
        return f"{report}, then neither serves nor exits"
    finally:
        server.terminate()
        server.wait()


alone = start([STRONG])
print(f"AES_256_GCM alone:        {alone}", flush=True)
both = start([STRONG, NEEDED])
print(f"AES_256_GCM, AES_128_GCM: {both}")
sys.exit((alone, both) != (f"READY=1, then status 1: {MISSING}", "READY=1, then serves"))
PYTHON
python3 main.py
