"""What all tests share: no secrets of the user in the environment, and quiet, repeatable hypothesis."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# A failed assertion may print the environment; a test that needs a passphrase makes its own. And a test says itself
# which stack it is about, whatever the shell that starts it is set to.
for name in ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_ACCESS_TOKEN", "PULUMI_STACK", "ETCD_LAB_STACK"):
    os.environ.pop(name, None)

settings.register_profile("lab", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lab")


def pytest_configure() -> None:
    """A script's background job ignores SIGINT, and hands that on: what the tests interrupt would never notice."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
