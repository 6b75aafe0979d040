"""What the user's environment may and may not do to what the lab starts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from machine import surroundings
from machine.paths import CHECKOUT

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

DISTURBING = {
    "PYTEST_ADDOPTS": "-n auto",
    "PYTEST_PLUGINS": "not.here",
    "PYTHONPATH": "/opt/other",
    "PYTHONHOME": "/opt/python2",
    "PYTHONSTARTUP": "/opt/startup.py",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PULUMI_STACK": "prod",
    "PULUMI_CONFIG": "{}",
    "PULUMI_DEBUG_PROVIDERS": "aws:1",
    "GRPC_VERBOSITY": "DEBUG",
    "ETCDCTL_ENDPOINTS": "https://prod:2379",
    "ETCD_NAME": "prod",
    "LIBVIRT_DEFAULT_URI": "qemu+ssh://prod/system",
    "GIT_DIR": "/srv/other.git",
    "GOFLAGS": "-mod=vendor",
    "GOOS": "darwin",
    "PIP_TARGET": "/opt/target",
    "SSH_AUTH_SOCK": "/run/agent",
    "BASH_ENV": "/root/.bash_env",
    "BASH_FUNC_ls%%": "() { :; }",
    "LANGUAGE": "de",
    "LC_MESSAGES": "de_DE.UTF-8",
}

KEPT = {
    "PATH": "/usr/bin",
    "HOME": "/root",
    "TERM": "xterm",
    "TMPDIR": "/srv/" + "x" * 90,
    "XDG_CACHE_HOME": "/srv/cache",
    "PULUMI_ACCESS_TOKEN": "pul-1",
    "PULUMI_BACKEND_URL": "file:///srv",
    "PULUMI_CONFIG_PASSPHRASE": "",
    "ETCD_LAB_STACK": "mine",
    "GOPROXY": "https://modules.example.org",
    "PIP_INDEX_URL": "https://pypi.example.org",
    "SSL_CERT_FILE": "/etc/ca.pem",
    "GOMAXPROCS": "2",
    "AWS_PROFILE": "states",
}


def test_what_is_another_projects_goes_no_further_and_what_is_the_users_does() -> None:
    assert {name: value for name, value in surroundings.for_all({**DISTURBING, **KEPT}).items() if name in KEPT} == KEPT
    left = surroundings.for_all({**DISTURBING, **KEPT}).keys() & DISTURBING.keys()
    assert left == set()
    assert surroundings.for_all({"LC_ALL": "tr_TR.ISO-8859-9"})["LC_ALL"] == "C.UTF-8"


@pytest.mark.parametrize("name", PROXIES)
def test_downloads_keep_the_proxy_and_what_speaks_with_the_lab_has_none(name: str) -> None:
    given = {name: "http://proxy.example.org:3128", "no_proxy": "intranet"}
    assert surroundings.for_all(given)[name] == given[name]
    assert surroundings.for_the_lab(given).keys() & {*PROXIES, "no_proxy", "no_grpc_proxy"} == set()


def test_grpc_within_this_machine_goes_by_no_proxy_and_the_users_exceptions_hold() -> None:
    assert surroundings.local_grpc({"no_proxy": "intranet, 127.0.0.1"}) == {
        "no_grpc_proxy": "localhost,127.0.0.1,::1,intranet"
    }
    once = surroundings.for_all({"no_proxy": "intranet"})
    assert surroundings.for_all(once) == once, "the same when decided twice"


def test_a_process_that_adopts_it_remembers_names_for_plain_commands() -> None:
    environment = {**DISTURBING, **KEPT}
    surroundings.adopt(environment)
    names = {"PYTEST_ADDOPTS", "PYTHONPATH", "PULUMI_STACK", "ETCDCTL_ENDPOINTS"}
    assert names <= set(surroundings.in_the_way(environment))
    assert not set(surroundings.in_the_way(environment)) & {"LANGUAGE", "SSH_AUTH_SOCK", "BASH_ENV", "GOFLAGS"}
    first = dict(environment)
    surroundings.adopt(environment)
    assert environment == first


def test_every_rule_says_why_and_stands_in_the_documentation() -> None:
    text = (CHECKOUT / "docs" / "environment.md").read_text()
    for rule in (*surroundings.NEVER, *surroundings.NOT_TO_THE_LAB):
        assert len(rule.why) > 20
        for name in (*rule.names, *rule.but):
            assert f"`{name}`" in text, f"docs/environment.md says nothing of {name}"


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """An HTTP proxy that refuses all, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


CALL = """
import sys, grpc
sys.path.insert(0, sys.argv[2])
options = []
if sys.argv[3] == "ours":
    from chaos.workload.calls import CHANNEL_OPTIONS as options
channel = grpc.insecure_channel(sys.argv[1], options=list(options))
try:
    channel.unary_unary("/x/y")(b"", timeout=3)
except grpc.RpcError as error:
    print(error.code().name, error.details())
"""


def called(environment: dict[str, str], options: str) -> str:
    words = [sys.executable, "-c", CALL, "127.0.0.1:9", str(CHECKOUT), options]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


def test_a_client_that_records_reaches_its_member_whatever_proxy_is_set(proxy: tuple[str, list[str]]) -> None:
    address, asked = proxy
    given = {**os.environ, "no_grpc_proxy": "", "https_proxy": address, "http_proxy": address}
    assert "UNAVAILABLE" in called(given, "theirs")
    assert asked, "gRPC itself takes the proxy for loopback too"
    asked.clear()
    called(given, "ours")
    called(surroundings.for_the_lab(given), "theirs")
    called(surroundings.for_all(given), "theirs")  # the engine's calls to our code
    assert asked == []


@pytest.mark.parametrize("starter", [[str(CHECKOUT / "lab")], [sys.executable, "-P", "-m", "cli"]])
def test_the_command_line_starts_in_an_environment_made_for_another_project(tmp_path: Path, starter: list[str]) -> None:
    """A module of that project shadows one of the standard library's, and PYTHONHOME holds no library at all."""
    (tmp_path / "json.py").write_text("raise ImportError('another json')\n")
    environment = {**os.environ, **DISTURBING, "PYTHONPATH": str(tmp_path), "PYTHONHOME": str(tmp_path)}
    if starter[0] == sys.executable:
        environment.pop("PYTHONHOME")
        environment.pop("PYTHONPATH")
        environment.pop("PYTHONWARNINGS")
    words = [*starter, "report", "--list"]
    done = subprocess.run(words, env=environment, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode in {0, 2}, done.stderr


def test_pytest_on_the_scenarios_names_the_variable_that_it_stumbles_over() -> None:
    environment = {**os.environ, "PYTEST_ADDOPTS": "-n auto"}
    words = [sys.executable, "-m", "pytest", "chaos/", "--collect-only", "-q"]
    done = subprocess.run(words, env=environment, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "PYTEST_ADDOPTS: -n auto" in done.stderr


def test_scenarios_do_not_run_without_assertions() -> None:
    environment = {**os.environ, "PYTHONOPTIMIZE": "1"}
    words = [sys.executable, "-m", "pytest", "chaos/", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(words, env=environment, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "PYTHONOPTIMIZE" in done.stderr
