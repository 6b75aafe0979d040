#!/bin/bash
# grpcio 1.71.2 (PyPI): a Python client of gRPC goes to the proxy of `http_proxy` even for 127.0.0.1.
#
# Go's HTTP and gRPC clients (etcdctl, kubectl) leave loopback addresses alone, so with one and the same environment
# etcdctl works and a Python client of the same etcd does not. And the rules are gRPC's own, unlike curl's and Python's:
#   - `https_proxy` counts too, for a connection without TLS; HTTP_PROXY and HTTPS_PROXY in capitals do not count at all;
#   - `no_proxy` takes names and networks (127.0.0.0/8), but `*` in it means nothing, and NO_PROXY is not read.
# `grpc.enable_http_proxy` = 0 among the channel's options turns all of it off.
#
# Output seen, with a proxy of a port where nothing listens:
#   no variable                                answered
#   http_proxy                                 UNAVAILABLE
#   https_proxy                                UNAVAILABLE
#   HTTP_PROXY                                 answered
#   HTTPS_PROXY                                answered
#   http_proxy, no_proxy=127.0.0.1             answered
#   http_proxy, no_proxy=127.0.0.0/8           answered
#   http_proxy, no_proxy=*                     UNAVAILABLE
#   http_proxy, NO_PROXY=127.0.0.1             UNAVAILABLE
#   http_proxy, grpc.enable_http_proxy=0       answered
#
# Needs: bash, python3 with venv. Exits 1 when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check grpcio==1.71.2

cat >client.py <<'PYTHON'
import sys

import grpc

channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.enable_http_proxy", 0)] if sys.argv[2:] else [])
try:
    print(channel.unary_unary("/lab.Echo/Say")(b"", timeout=10).decode())
except grpc.RpcError as error:
    print(error.code().name)
PYTHON
cat >main.py <<'PYTHON'
import os
import socket
import subprocess
import sys
from concurrent import futures

import grpc


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"answered")


server = grpc.server(futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((Handler(),))
address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
server.start()
held = socket.socket()  # bound and not listening: connections are refused, and the port is nobody else's
held.bind(("127.0.0.1", 0))
proxy = f"http://127.0.0.1:{held.getsockname()[1]}"
clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
cases = [
    ("no variable", {}, "answered"),
    ("http_proxy", {"http_proxy": proxy}, "UNAVAILABLE"),
    ("https_proxy", {"https_proxy": proxy}, "UNAVAILABLE"),
    ("HTTP_PROXY", {"HTTP_PROXY": proxy}, "answered"),
    ("HTTPS_PROXY", {"HTTPS_PROXY": proxy}, "answered"),
    ("http_proxy, no_proxy=127.0.0.1", {"http_proxy": proxy, "no_proxy": "127.0.0.1"}, "answered"),
    ("http_proxy, no_proxy=127.0.0.0/8", {"http_proxy": proxy, "no_proxy": "127.0.0.0/8"}, "answered"),
    ("http_proxy, no_proxy=*", {"http_proxy": proxy, "no_proxy": "*"}, "UNAVAILABLE"),
    ("http_proxy, NO_PROXY=127.0.0.1", {"http_proxy": proxy, "NO_PROXY": "127.0.0.1"}, "UNAVAILABLE"),
    ("http_proxy, grpc.enable_http_proxy=0", {"http_proxy": proxy}, "answered"),
]
changed = 0
for what, variables, expected in cases:
    more = ["off"] if "enable_http_proxy" in what else []
    argv = [sys.executable, "client.py", address, *more]
    seen = subprocess.run(argv, env=clean | variables, capture_output=True, text=True, timeout=60).stdout.strip()
    print(f"{what:42} {seen}", flush=True)
    changed += seen != expected
server.stop(0)
sys.exit(bool(changed))
PYTHON
venv/bin/python main.py
