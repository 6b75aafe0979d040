"""The one home of versions: what the lab is built from, and the checksums that go with it."""

from __future__ import annotations

from typing import Final

PULUMI: Final = "3.250.0"
"""Pulumi CLI; the newest whose Go module (`pulumi/pkg/v3`) builds without a network of its own."""

PULUMI_LANGUAGE_PYTHON: Final = "3.68.0"
"""`pulumi/sdk/v3` that still holds the Python language host as part of the module."""

LIBVIRT_PLUGIN: Final = "0.5.4"
"""Release of pulumi-libvirt; the Python SDK of the same version is in requirements."""

TERRAFORM_LIBVIRT: Final = "0.8.3"
"""terraform-provider-libvirt inside the plugin that we build."""

ETCD_DEFAULT: Final = "3.6.16"
"""etcd that a lab runs when its configuration does not say."""

ETCD_SUPPORTED: Final = ("3.4", "3.5", "3.6", "3.7")
"""Minor versions of etcd whose rules the lab knows."""

DEBIAN_SUITE: Final = "bookworm"
"""Debian release of the guest image that we build."""
