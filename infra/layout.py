"""The layout of a node: where things lie on it, under which names. Shared by what deploys etcd and what breaks it.

Ports of etcd are in `infra.manifest`, since the manifest's endpoints are made of them.
"""

from __future__ import annotations

from typing import Final

CONFIG_FILE: Final = "/etc/etcd/etcd.yaml"
ENV_FILE: Final = "/etc/etcd/etcdctl.env"
"""Settings of etcdctl, as shell assignments."""
PKI_DIR: Final = "/etc/etcd/pki"
UNIT_DIR: Final = "/etc/systemd/system"
BIN_DIR: Final = "/usr/local/bin"
ETCD_PROGRAM: Final = f"{BIN_DIR}/etcd"

DATA_DIR: Final = "/var/lib/etcd"
"""Where the data volume is mounted, and etcd's data lies."""
DATA_DEVICE: Final = "/dev/vdb"
DATA_TARGET: Final = "etcd-data"
"""Device-mapper target (and label of the file system) between the device and the mount."""

NIC: Final = "eth0"
"""The network card, as the kernel names it with `net.ifnames=0`."""
SSH_PORT: Final = 22

ETCDCTL_ENVIRONMENT: Final = f"set -a; . {ENV_FILE}; set +a"
"""Shell command after which etcdctl finds the member."""
