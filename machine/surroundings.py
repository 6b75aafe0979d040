"""The environment that the lab gives to what it starts: which of the user's variables go on, and which do not.

The one list of them, with reasons; docs/environment.md is the same for users. Standard library only, since the launcher
decides before there is a Python environment. What is not named here goes on unchanged: PATH, HOME, TERM, XDG_*, TMPDIR,
TZ, certificates for downloads, the credentials of a Pulumi backend, limits such as GOMAXPROCS.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """Variables, by shell pattern, that are not handed on, and why."""

    names: tuple[str, ...]
    why: str
    but: tuple[str, ...] = ()
    """Patterns of those that go on all the same."""
    plain: bool = True
    """Whether `./lab env` unsets them too: plain pulumi and pytest suffer from them, and the user's shell does not
    need them for itself."""

    def holds_for(self, name: str) -> bool:
        """Whether the variable is one of these."""
        return _matches(name, self.names) and not _matches(name, self.but)


NEVER: Final = (
    Rule(
        ("PYTEST_*",),
        "options of another project's tests: -n auto without its plugin, a filter, a plugin that is not here",
        but=("PYTEST_CURRENT_TEST",),  # pytest's own, which it takes away itself
    ),
    Rule(
        ("PYTHON*",),
        "another project's modules or standard library before ours; without assertions (PYTHONOPTIMIZE) no scenario"
        " fails; warnings as errors",
    ),
    Rule(
        ("PULUMI_*",),
        "another project's stack, configuration, debugged providers and options of the engine",
        but=(
            # a login, a backend and a passphrase of the user's own are used by design
            "PULUMI_ACCESS_TOKEN",
            "PULUMI_API",
            "PULUMI_BACKEND_URL",
            "PULUMI_CONFIG_PASSPHRASE",
            "PULUMI_CONFIG_PASSPHRASE_FILE",
            "PULUMI_CREDENTIALS_PATH",
            "PULUMI_DIY_BACKEND_*",
            "PULUMI_HOME",
            "PULUMI_SELF_MANAGED_STATE_*",
        ),
    ),
    Rule(
        ("GRPC_*",),
        "traces on standard error, another resolver or polling: what a recorded client does would be another thing",
    ),
    Rule(
        ("ETCDCTL_*", "ETCD_*"),
        "etcd and etcdctl take settings and endpoints of another cluster from them",
        but=("ETCD_LAB_*",),
    ),
    Rule(("LIBVIRT_*", "VIRSH_*"), "another hypervisor; debug output where an answer is read"),
    Rule(("PYINFRA_*", "MYPYPATH", "MYPY_CACHE_DIR", "RUFF_*"), "settings of these tools for another project"),
    Rule(
        ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_NAMESPACE"),
        "another repository, as in a git hook: Pulumi and Go look at the repository they are in",
    ),
    Rule(
        (
            "GOFLAGS",
            "GOWORK",
            "GOOS",
            "GOARCH",
            "GOARM",
            "GOAMD64",
            "GO386",
            "GOEXPERIMENT",
            "GOROOT",
            "GODEBUG",
            "GO111MODULE",
            "GOBIN",
            "CGO_*",
        ),
        "programs for another machine or by other rules; where modules come from (GOPROXY, GOPRIVATE, GOSUMDB, …) is"
        " the user's",
        plain=False,
    ),
    Rule(
        ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_DRY_RUN", "PIP_CONSTRAINT", "PIP_NO_BINARY", "PIP_ONLY_BINARY"),
        "pip would install elsewhere, nothing, or something else; its index, proxy and certificates are the user's",
        plain=False,
    ),
    Rule(("SSH_AUTH_SOCK", "SSH_ASKPASS*"), "the lab's key alone opens its machines; no agent is asked", plain=False),
    Rule(
        ("BASH_ENV", "ENV", "BASHOPTS", "SHELLOPTS", "BASH_FUNC_*", "CDPATH", "POSIXLY_CORRECT", "GREP_OPTIONS"),
        "shells and tools that we start would read files, options and functions that are meant for the user's own",
        plain=False,
    ),
    Rule(("LANGUAGE", "LC_*"), "what tools say is read by us: LC_ALL is C.UTF-8 instead", plain=False),
)
"""Not handed on to anything that we start."""

NOT_TO_THE_LAB: Final = (
    Rule(
        (
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "ftp_proxy",
            "no_proxy",
            "grpc_proxy",
            "no_grpc_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "FTP_PROXY",
            "NO_PROXY",
        ),
        "the lab's machines are reached directly, from inside its network; downloads go by the user's proxy",
        plain=False,
    ),
    Rule(("SSLKEYLOGFILE",), "secrets of the lab's connections are not for a file of another purpose", plain=False),
)
"""Nor, beside those, to what speaks with the lab's machines: recording clients, sampler, deployment."""

SET: Final[Mapping[str, str]] = {
    "LC_ALL": "C.UTF-8",  # messages as we read them; every file of ours is UTF-8
    "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "",  # the engine starts our code several times: compiled once is enough
}
"""What has a value of ours in all that we start."""

TAKEN: Final = "ETCD_LAB_TAKEN"
"""Names of the variables that `adopt` took away and that disturb plain commands, for `./lab env`, which unsets them."""

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def local_grpc(environment: Mapping[str, str]) -> dict[str, str]:
    """What keeps gRPC within this machine off a proxy: the engine speaks with our code over loopback.

    gRPC's C core, which Python uses, excepts no address by itself, as Go does; it reads no_grpc_proxy before no_proxy
    (gRPC src/core/client_channel/http_proxy_mapper.cc), so that downloads keep the user's.
    """
    wanted = environment.get("no_grpc_proxy") or environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    others = [name for name in (one.strip() for one in wanted.split(",")) if name and name not in LOOPBACK]
    return {"no_grpc_proxy": ",".join([*LOOPBACK, *others])}


def for_all(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of whatever we start, from `environment` (None: this process's)."""
    given = os.environ if environment is None else environment
    return {**_without(given, NEVER), **SET, **local_grpc(given)}


def for_the_lab(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of what speaks with the lab's machines: as `for_all`, and without proxies."""
    return _without(for_all(environment), NOT_TO_THE_LAB)


def adopt(environment: MutableMapping[str, str] | None = None) -> None:
    """Make `for_all` the environment of this process (or change the one given), so that all it starts has it."""
    given = os.environ if environment is None else environment
    wanted = for_all(given)
    if names := in_the_way(given):
        wanted[TAKEN] = " ".join(names)
    for name in [name for name in given if name not in wanted]:
        del given[name]
    given.update(wanted)


def in_the_way(environment: Mapping[str, str] | None = None) -> list[str]:
    """Variables that are set and disturb plain `pulumi` and `pytest`, or were before `adopt`; their names."""
    given = os.environ if environment is None else environment
    rules = [rule for rule in NEVER if rule.plain]
    now = {name for name in given if name not in SET and any(rule.holds_for(name) for rule in rules)}
    return sorted(now | set(given.get(TAKEN, "").split()))


def _without(environment: Mapping[str, str], rules: tuple[Rule, ...]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not any(rule.holds_for(name) for rule in rules)}


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
