"""Labs on paper, for tests that need the description of one."""

from __future__ import annotations

from infra.manifest import Manifest

LAB_ID = "0a1b2c3d"


def manifest(*names: str, heartbeat_ms: int = 300, **fields: object) -> Manifest:
    """An emulated lab of these members, etcd1 to etcd3 when none is named, on the subnet that labs have by default.

    The election timeout is ten heartbeats, the versions and settings are usual ones; `fields` of the manifest replace
    what stands here.
    """
    usual = {
        "lab_id": LAB_ID,
        "stack": "lab",
        "nodes": [
            {
                "name": name,
                "address": f"192.168.93.{10 + number}",
                "mac": f"52:54:00:00:00:{number:02x}",
                "domain": f"etcdlab-{LAB_ID}-{name}",
                "memory_mib": 512,
                "vcpus": 1,
            }
            for number, name in enumerate(names or ("etcd1", "etcd2", "etcd3"), 1)
        ],
        "subnet": "192.168.93.0/24",
        "gateway": "192.168.93.1",
        "hypervisor": {
            "kind": "embedded",
            "uri": "qemu+unix:///system",
            "netns": None,
            "bridge": f"el{LAB_ID}",
            "accelerator": "tcg",
        },
        "etcd_version": "3.6.16",
        "timeouts": {"heartbeat_ms": heartbeat_ms, "election_ms": 10 * heartbeat_ms},
        "peers": "address",
    }
    return Manifest.model_validate(usual | fields)
