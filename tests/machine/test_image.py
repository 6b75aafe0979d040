"""machine.image: downloads from a server on loopback, paths, cache; building is an integration matter."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from machine import guest
from machine.errors import LabError, RequirementError, SettingsError, ToolError
from machine.image import cached, ensure_image

CONTENT = b"QFI\xfb" + bytes(range(256)) * 64
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    hits = 0
    short = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/image.qcow2"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.hits += 1
        if self.path != "/image.qcow2":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.server.short else CONTENT)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def quiet(_line: str) -> None:
    pass


def left_in(cache: Path) -> list[str]:
    """What a failure left in the cache, lock file apart."""
    return [str(path) for path in cache.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_download_is_checked_and_kept(server: Server) -> None:
    assert not cached(server.url, SHA256)
    image = ensure_image(server.url, SHA256.upper(), quiet)
    assert image.path.read_bytes() == CONTENT
    assert (image.digest, image.kernel, image.cmdline) == (SHA256, None, None)
    assert cached(server.url, SHA256)
    assert ensure_image(server.url, SHA256, quiet) == image
    assert server.hits == 1


def test_two_at_once_download_once(server: Server) -> None:
    with ThreadPoolExecutor(2) as pool:
        images = list(pool.map(lambda _: ensure_image(server.url, SHA256, quiet), range(2)))
    assert images[0] == images[1]
    assert server.hits == 1


def test_a_wrong_checksum_is_refused_and_nothing_stays(server: Server, cache: Path) -> None:
    with pytest.raises(SettingsError, match=SHA256) as caught:
        ensure_image(server.url, "0" * 64, quiet)
    assert "etcd-lab:image-sha256" in str(caught.value)
    assert left_in(cache) == []


def test_a_download_cut_short_is_told_from_a_wrong_checksum(server: Server, cache: Path) -> None:
    server.short = True
    with pytest.raises(LabError, match="ended after"):
        ensure_image(server.url, SHA256, quiet)
    assert left_in(cache) == []


def test_an_address_without_checksum_is_refused(server: Server) -> None:
    with pytest.raises(SettingsError, match="needs its SHA-256"):
        ensure_image(server.url, None, quiet)
    assert server.hits == 0


@pytest.mark.parametrize("word", ["", "abc", "g" * 64, "0" * 63])
def test_a_word_that_is_no_checksum_is_refused(server: Server, word: str) -> None:
    with pytest.raises(SettingsError, match="64 hexadecimal digits"):
        ensure_image(server.url, word, quiet)


def test_a_server_that_is_not_there_is_named(server: Server, cache: Path) -> None:
    for url in (server.url.replace("image", "other"), "http://127.0.0.1:1/image.qcow2"):
        with pytest.raises(RequirementError, match="cannot be fetched") as caught:
            ensure_image(url, SHA256, quiet)
        assert url in str(caught.value)
    assert left_in(cache) == []


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.qcow2"
    path.write_bytes(CONTENT)
    assert ensure_image(str(path), None, quiet).path == path
    assert ensure_image(str(path), SHA256, quiet).digest == SHA256
    with pytest.raises(SettingsError, match="another checksum"):
        ensure_image(str(path), "0" * 64, quiet)


def test_a_path_that_is_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="There is no image"):
        ensure_image(str(tmp_path / "none"), None, quiet)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(SettingsError, match="no qcow2 image"):
        ensure_image(str(tmp_path / "text"), None, quiet)


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ToolError("qemu-img ended with status 1", tail="error while writing: No space left on device"),
        ToolError("mke2fs ended", tail="Could not allocate block in ext2 filesystem"),
    ],
)
def test_a_full_disk_is_said_in_one_paragraph_and_nothing_stays(
    failure: Exception, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(into: Path, _say: object) -> None:
        (into / guest.DISK).write_bytes(b"half")
        raise failure

    monkeypatch.setattr(guest, "build", build)
    with pytest.raises(RequirementError, match=r"The disk is full: \d+ MiB are free.*XDG_CACHE_HOME") as caught:
        ensure_image("build", None, quiet)
    assert "\n" not in str(caught.value)
    assert left_in(cache) == []
    assert not cached("build")


def test_what_a_killed_build_left_is_removed_by_the_next(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = cache / "etcd-lab" / "images" / ".making-dead"
    (left / "tree").mkdir(parents=True)
    parts = (guest.DISK, guest.KERNEL, guest.INITRD)
    monkeypatch.setattr(guest, "build", lambda into, _say: [(into / part).touch() for part in parts])
    image = ensure_image("build", None, quiet)
    assert not left.exists()
    assert image.kernel is not None
    assert image.kernel.exists()
    assert image.cmdline is not None
    assert "root=LABEL=root" in image.cmdline
