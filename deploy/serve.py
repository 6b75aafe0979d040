"""A file server that lives as long as its parent wants: `python -m deploy.serve ADDRESS NAME=PATH…`.

Serves the named files and nothing else, over plain HTTP, on a port that the kernel picks and that is
printed as the first line on standard output; ends at the end of standard input. It is started
inside the lab's network namespace, so nothing outside can reach it. Only the standard library is
imported, because it is started on every run that has binaries to install.
"""

from __future__ import annotations

import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar


class Handler(BaseHTTPRequestHandler):
    """Answers GET /NAME with the file of that name."""

    files: ClassVar[dict[str, Path]] = {}

    def do_GET(self) -> None:
        """Send the file, by sendfile(2) so that large ones cost this host little."""
        path = self.files.get(self.path.lstrip("/"))
        if path is None:
            self.send_error(404)
            return
        with path.open("rb") as content:
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            self.wfile.flush()
            self.connection.sendfile(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the nodes report what they fetched."""


class Server(ThreadingHTTPServer):
    """One thread per node that fetches."""

    daemon_threads = True
    address_family = socket.AF_INET


def main(words: list[str]) -> int:
    """Serve until standard input ends."""
    address, *named = words
    Handler.files = {name: Path(path) for name, _, path in (word.partition("=") for word in named)}
    server = Server((address, 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)  # noqa: T201 - the answer to whoever started us
    sys.stdin.buffer.read()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
