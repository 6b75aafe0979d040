"""The provider of faults as a process that lives as long as the run, and serves one update after the other.

    python -m chaos.stack.provider_main CHECKOUT STACK

Where the engine starts a provider for each update, every step waits a second for its imports. The engine attaches to
this one instead (PULUMI_DEBUG_PROVIDERS; pulumi pkg/v3, resource/plugin/provider_plugin.go). It tells its port in one
line. Its standard input's end is the order to end at once, so it never outlives the run, however that ends; a line
there names shells that the coming update needs: `{"open": [["etcd1", "probe"], …]}`.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import threading
import traceback
from pathlib import Path
from typing import Final

from chaos.lab import shell_pool
from chaos.lab.shell_pool import ShellPool
from infra.access import shell_for
from infra.manifest import load
from machine.errors import LabError
from machine.paths import StackPaths

SDK: Final = "pulumi.dynamic"
"""The SDK's own server of dynamic providers, as a program."""


def obey(paths: StackPaths, kept: ShellPool) -> None:
    """Open what is asked for, until standard input ends; then end this process, whatever it does."""
    try:
        for line in sys.stdin:
            try:
                prepare(paths, kept, json.loads(line)["open"])
            except Exception:  # noqa: BLE001 - to open ahead only saves time, and must not end what is at work
                traceback.print_exc()
    finally:
        os._exit(0)


def prepare(paths: StackPaths, kept: ShellPool, wanted: list[tuple[str, str]]) -> None:
    """Begin to open the shells that are wanted; where the lab is not to be had, the fault meets that, and tells."""
    try:
        manifest = load(paths)
        kept.prepare([(shell_for(manifest, paths, node), use) for node, use in wanted])
    except LabError:
        kept.prepare(())


def serve() -> None:
    """Serve the engine; all that this needs is loaded while shells are being opened."""
    from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped] # noqa: PLC0415 - it ships no types
    from pulumi.runtime.proto import ResourceProviderServicer  # noqa: PLC0415 - the SDK, a second

    import chaos.stack.resource  # noqa: F401, PLC0415 - for the first update: a provider's pickle is a name in there

    def attach(_self: ResourceProviderServicer, _request: object, _context: object) -> Empty:
        """What the engine calls first, to tell where it is: providers like ours ask it nothing."""
        return Empty()

    ResourceProviderServicer.Attach = attach  # type: ignore[method-assign, assignment] # the SDK's server has none
    runpy.run_module(SDK, run_name="__main__")


def main() -> None:
    """Obey and serve."""
    shell_pool.KEPT = ShellPool()
    paths = StackPaths(Path(sys.argv[1]), sys.argv[2])
    threading.Thread(target=obey, args=(paths, shell_pool.KEPT), daemon=True).start()
    serve()


if __name__ == "__main__":
    main()
