"""etcd's reason for not starting, out of logs as each version writes them, here and through the nodes' filter."""

from __future__ import annotations

import json
import subprocess

import pytest

from deploy.words import LOG_FILTER, reasons

STACK = """
goroutine 1 [running]:
go.etcd.io/etcd/client/pkg/v3/logutil.ConvertToZapLevel({0xaeedb953e8c?, 0x0?})
\tgo.etcd.io/etcd/client/pkg/v3@v3.6.16/logutil/log_level.go:27 +0x51
go.etcd.io/etcd/server/v3/embed.(*Config).setupLogging(0xaeedba8b508)
\tgo.etcd.io/etcd/server/v3@v3.6.16/embed/config_logging.go:109 +0xbfe
main.main()
\tgo.etcd.io/etcd/server/v3@v3.6.16/main.go:31 +0x28
"""
OLD = (
    '2026-11-30 09:10:03.2835 I | etcdmain: Loading server configuration from "/etc/etcd/etcd.yaml".\n'
    "2026-11-30 09:10:03.2836 "
)
RUNNING = '{"level":"info","caller":"etcdmain/etcd.go:64","msg":"Running: ","args":["etcd"]}\n'
NOISE = (
    '{"level":"warn","caller":"embed/config.go:1207","msg":"Running http and grpc server on single port."}\n'
    '{"level":"warn","caller":"rafthttp/probing_status.go:68","msg":"prober detected unhealthy status",'
    '"error":"dial tcp 192.168.93.12:2380: connect: connection refused"}\n'
)
SYSTEMD = "etcd.service: Main process exited, code=exited, status=1/FAILURE\n"


UNMARSHAL = "json: cannot unmarshal number into Go struct field configYAML.Config.x of type string"
CIPHER = 'unexpected TLS cipher suite "foo"'


def line(level: str, caller: str, msg: str, error: str = "", stacktrace: str = "") -> str:
    """As zap writes it."""
    fields = {"level": level, "caller": caller, "msg": msg, "error": error, "stacktrace": stacktrace}
    return json.dumps({name: text for name, text in fields.items() if text}, separators=(",", ":")) + "\n"


WRAPPED = f"error unmarshaling JSON: while decoding JSON: {UNMARSHAL}"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            OLD + "E | etcdmain: error verifying flags, unknown auto-compaction-mode \"x\". See 'etcd --help'.\n",
            'unknown auto-compaction-mode "x"',
        ),
        (
            "2026-11-30 09:10:04.145 I | unexpected error setting up proxyFlag: invalid value\n",
            "unexpected error setting up proxyFlag: invalid value",
        ),
        (RUNNING + line("warn", "etcdmain/etcd.go:66", "failed to verify flags", WRAPPED), UNMARSHAL),
        (line("fatal", "etcdmain/etcd.go:183", "discovery failed", CIPHER, "go.etcd.io/x\n\tgo.etcd.io/y"), CIPHER),
        (f'panic: unrecognized level: "loud"\n{STACK}', 'unrecognized level: "loud"'),
        (line("fatal", "etcdserver/raft.go:1", "tocommit(9) is out of range"), "tocommit(9) is out of range"),
    ],
)
def test_the_reason_is_found_whatever_its_level(log: str, reason: str) -> None:
    everything = NOISE + log.rstrip("\n") + "\n" + SYSTEMD
    assert reasons(everything) == reason
    shown = subprocess.run(
        ["sh", "-euc", f"{LOG_FILTER} | tail -n 8"], input=everything, capture_output=True, text=True, check=True
    ).stdout
    assert reason.replace('"', '\\"') in shown or reason in shown
    assert SYSTEMD.strip() in shown
    assert not [
        part
        for part in ("rafthttp", "single port", "goroutine", "log_level.go", "stacktrace", '"info"')
        if part in shown
    ]


def test_what_led_to_the_end_is_told_before_it() -> None:
    log = line("error", "auth/jwt.go:135", "problem loading JWT options", "open /x: no such file")
    log += line("fatal", "etcdmain/etcd.go:183", "discovery failed", "auth: invalid auth options")
    assert reasons(log) == "open /x: no such file; auth: invalid auth options"


@pytest.mark.parametrize("log", ["", RUNNING, "hello\n", "[1]\n", '{"level":"info","error":1}\n'])
def test_where_nothing_is_said_nothing_is_made_up(log: str) -> None:
    assert reasons(log) in ("", "1")
