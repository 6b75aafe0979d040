"""The pyinfra child: `python -m deploy.child`, one JSON document in, one out.

It is a process of its own because gevent must patch the standard library before anything else is
imported, and must never do so in a process that speaks gRPC (Pulumi's, etcd3's). It runs inside the
lab's network namespace, and ends with whoever started it (deploy.runner). Logs go to standard error.

Exit status: 0 all went well, 1 a host or the cluster failed, 2 the request was no good.
"""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402 - after the patch, as everything

from pydantic import ValidationError  # noqa: E402

from deploy.protocol import Request, Response  # noqa: E402
from deploy.run import Run, ssh_inventory  # noqa: E402
from infra.cluster import Cluster  # noqa: E402
from machine.process import exclusive  # noqa: E402


def perform(request: Request) -> Response:
    """Run against the real nodes, alone: two runs on one lab would undo each other's work."""
    inside = request.manifest.hypervisor.model_copy(update={"netns": None})  # where this process is already
    manifest = request.manifest.model_copy(update={"hypervisor": inside})
    with exclusive(request.paths.run_dir / "deploy.lock"):
        return Run(request, ssh_inventory(request), Cluster(manifest, request.paths))()


def main() -> int:
    """Read the request, perform it, write the response."""
    try:
        request = Request.model_validate_json(sys.stdin.buffer.read())
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        print(f"The request is no good: {first['loc']}: {first['msg']}", file=sys.stderr)  # noqa: T201
        return 2
    response = perform(request)
    sys.stdout.write(response.model_dump_json() + "\n")
    return 0 if response.ok else 1


if __name__ == "__main__":
    sys.exit(main())
