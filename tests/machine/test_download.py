"""A download counts only when the release's checksum file vouches for it."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from machine.download import ChecksumError, Unreachable, fetch_verified, unpack


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture
def release(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory served on loopback, and its address."""
    served = tmp_path / "release"
    served.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield served, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def publish(directory: Path, content: bytes, said: bytes | None = None) -> None:
    (directory / "tool.tar.gz").write_bytes(content)
    digest = hashlib.sha256(content if said is None else said).hexdigest()
    (directory / "SHA256SUMS").write_text(f"{'0' * 64}  other.tar.gz\n{digest}  tool.tar.gz\n")


def test_what_the_checksum_file_vouches_for_is_kept(release: tuple[Path, str], tmp_path: Path) -> None:
    directory, address = release
    publish(directory, b"archive")

    fetch_verified(f"{address}/tool.tar.gz", f"{address}/SHA256SUMS", tmp_path / "got", print)

    assert (tmp_path / "got").read_bytes() == b"archive"


def test_a_changed_archive_is_refused_and_removed(release: tuple[Path, str], tmp_path: Path) -> None:
    directory, address = release
    publish(directory, b"tampered", said=b"archive")

    with pytest.raises(ChecksumError) as refused:
        fetch_verified(f"{address}/tool.tar.gz", f"{address}/SHA256SUMS", tmp_path / "got", print)

    assert hashlib.sha256(b"tampered").hexdigest() in str(refused.value)
    assert refused.value.exit_code == 2
    assert not (tmp_path / "got").exists()


def test_an_archive_that_the_checksum_file_does_not_name_is_not_used(release: tuple[Path, str], tmp_path: Path) -> None:
    directory, address = release
    publish(directory, b"archive")

    with pytest.raises(Unreachable, match="names no"):
        fetch_verified(f"{address}/more.tar.gz", f"{address}/SHA256SUMS", tmp_path / "got", print)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
def test_a_host_that_does_not_answer_is_unreachable(address: str, tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        fetch_verified(f"{address}/tool.tar.gz", f"{address}/SHA256SUMS", tmp_path / "got", print)


def test_only_the_named_programs_leave_an_archive(tmp_path: Path) -> None:
    """Wherever in the archive they lie: a path in it must not choose the place on our disk."""
    archive = tmp_path / "archive"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("release-1/bin/tool", "../../evil", "release-1/README"):
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"text"))

    assert unpack(archive, {"tool": tmp_path / "out" / "tool", "absent": tmp_path / "out" / "absent"}) == ["tool"]
    assert (tmp_path / "out" / "tool").stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["archive", "tool"]
