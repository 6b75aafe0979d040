"""Other settings for one member, until it starts anew without them.

etcd takes its settings from one file (flags are ignored beside it, E server/etcdmain/config.go), so a changed copy and
a drop-in that points there go under /run; a reboot forgets both.
"""

from __future__ import annotations

from collections.abc import Mapping

from chaos.lab.scripts import DIRECTORY
from chaos.member.unit import UNIT
from infra.layout import CONFIG_FILE, ETCD_PROGRAM

DROP_IN = f"/run/systemd/system/{UNIT}.d/etcdlab-settings.conf"

START_SECONDS = 120
"""For etcd to be ready again; a start takes 3-10 s under TCG alone, and much longer beside other work."""


def changed_settings(fault_id: str, settings: Mapping[str, str | int]) -> str:
    """Script that has etcd start anew with some settings changed, and waits until it is ready."""
    copy = f"{DIRECTORY}/{fault_id}/etcd.yaml"
    names = "|".join(settings)
    lines = "\\n".join(f"{name}: {value}" for name, value in settings.items())
    unit = f"[Service]\\nExecStart=\\nExecStart={ETCD_PROGRAM} --config-file={copy}\\n"
    return (
        f"grep -vE '^({names}):' {CONFIG_FILE} >{copy}; printf '{lines}\\n' >>{copy}\n"
        f"mkdir -p {DROP_IN.rpartition('/')[0]}; printf '{unit}' >{DROP_IN}\n"
        f"systemctl daemon-reload; timeout {START_SECONDS} systemctl restart {UNIT}"
    )


def usual_settings() -> str:
    """Script that has etcd start anew with its own settings, and waits until it is ready; nothing when it has them."""
    return (
        f"if [ -e {DROP_IN} ]; then rm -f {DROP_IN}; systemctl daemon-reload &&\n"
        f"timeout {START_SECONDS} systemctl restart {UNIT}; fi"
    )
