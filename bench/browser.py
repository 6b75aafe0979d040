"""A real browser without a window, for the report's tests and bench: W3C WebDriver over HTTP to chromedriver.

Needs Debian's chromium and chromium-driver; `./lab test browser` installs them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens addresses of this machine only, whatever proxy the environment names."""

QUIET = ("--disable-background-networking", "--disable-component-update", "--no-first-run", "--hide-scrollbars")


class BrowserError(Exception):
    """The browser could not be started, or refused a command."""


class Browser:
    """One session; commands as in https://www.w3.org/TR/webdriver2/ and, for `devtools`, Chrome's own protocol."""

    def __init__(self, address: str, session: str) -> None:
        self._base = f"{address}/session/{session}"

    def _post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever the browser says
        return call(f"{self._base}/{path}", body)

    def open(self, page: Path) -> None:
        """Load a file and wait until it is loaded."""
        self._post("url", {"url": page.resolve().as_uri()})

    def run(self, script: str, *arguments: object) -> Any:  # noqa: ANN401
        """Run a function body in the page; what it returns."""
        return self._post("execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str) -> Any:  # noqa: ANN401
        """Run a function body that calls its last argument when it is done."""
        return self._post("execute/async", {"script": script, "args": []})

    def press(self, keys: str) -> None:
        """Type keys where the focus is, one after the other."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._post("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def hover(self, x: int, y: int) -> None:
        """Put the pointer on a place of the window."""
        move = {"type": "pointerMove", "duration": 0, "x": x, "y": y}
        self._post("actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def devtools(self, command: str, **parameters: object) -> Any:  # noqa: ANN401
        """One command of Chrome's DevTools protocol."""
        return self._post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Entries of the `browser` (console) or `performance` (network) log since the last look."""
        entries: list[dict[str, Any]] = self._post("se/log", {"type": kind})
        return entries

    def requests(self) -> list[str]:
        """Addresses that the page asked for since the last look."""
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent]

    def theme(self, name: str) -> None:
        """`light` or `dark`, as the user's system would prefer."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.devtools("Emulation.setEmulatedMedia", features=[feature])

    def size(self, width: int, height: int) -> None:
        """The window's, in CSS pixels."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def ready(self) -> int:
        """Wait until every time line is drawn; how many there are."""
        return int(
            self.wait(
                "const done = arguments[arguments.length - 1];"
                "(function look() { const n = document.documentElement.dataset.ready;"
                " n === undefined ? requestAnimationFrame(look) : done(n); })()"
            )
        )

    def settle(self) -> None:
        """Wait until the page has been laid out and painted anew."""
        self.wait("requestAnimationFrame(() => requestAnimationFrame(arguments[arguments.length - 1]))")

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG file."""
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))


def call(address: str, body: dict[str, Any] | None) -> Any:  # noqa: ANN401
    """One command; raises BrowserError with the browser's words."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})  # noqa: S310 - our own
    try:
        with HERE.open(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise BrowserError(f"{address}: {error.read().decode(errors='replace')[:600]}") from error


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser of its own with an empty profile, ended afterwards."""
    driver = shutil.which("chromedriver")
    chromium = shutil.which("chromium")
    if driver is None or chromium is None:
        raise BrowserError("chromium and chromedriver are not installed; ./lab test browser installs them")
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            [driver, "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "HOME": home},
        )
        try:
            address = f"http://127.0.0.1:{_port(process)}"
            options = {
                "binary": chromium,
                "args": ["--headless=new", f"--user-data-dir={home}/profile", *QUIET, *_root_options()],
            }
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            session = call(f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            try:
                yield Browser(address, session)
            finally:
                request = urllib.request.Request(f"{address}/session/{session}", method="DELETE")  # noqa: S310
                with contextlib.suppress(OSError), HERE.open(request, timeout=30):
                    pass
        finally:
            process.terminate()
            process.wait(timeout=30)


def _root_options() -> list[str]:
    return ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to work for root


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None  # noqa: S101 - for mypy
    for line in process.stdout:
        if found := re.search(r"started successfully on port (\d+)", line):
            return int(found[1])
    raise BrowserError("chromedriver ended without saying its port")
