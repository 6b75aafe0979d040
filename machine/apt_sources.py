"""apt's sources on this machine, and which of them is a Debian mirror that a guest can be built from.

Read are both formats of sources.list(5), and what `mirror+file` names (apt-transport-mirror(1), as on Debian's cloud
images). An entry counts when its suite is the guest's and it has `main`, since Docker and others name the guest's suite
too. Some vendors even have `main` in it; what apt last fetched from an entry says who made it (Origin), and where it
has fetched nothing yet, the keyring tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

SOURCES: Final = Path("/etc/apt")
LISTS: Final = Path("/var/lib/apt/lists")

_NO: Final = frozenset({"no", "false", "without", "off", "disable", "0"})
"""What apt takes for false (apt-pkg/contrib/strutl.cc, StringToBool)."""
_ONE_LINE: Final = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<parts>[^#]*)")
_NEVER: Final = 9


@dataclass(frozen=True, slots=True)
class Entry:
    """One place that apt fetches binary packages from."""

    uri: str
    """As it is written."""
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""
    """Path of a keyring, or the key itself; "" for apt's own trust."""


def debian_mirror(suite: str, *, sources: Path = SOURCES, lists: Path = LISTS) -> str | None:
    """The mirror that this machine fetches Debian's `suite` from, without a slash at the end; None when it has none.

    A mirror of another suite of Debian's counts after all those, since mirrors hold several.
    """
    ranked: list[tuple[int, str]] = []
    for entry in entries(sources):
        rank = _rank(entry, suite, lists)
        ranked += [(rank, address.rstrip("/")) for address in _addresses(entry.uri, sources)]
    rank, mirror = min(ranked, key=lambda one: one[0], default=(_NEVER, ""))
    return mirror if rank < _NEVER else None


def entries(sources: Path = SOURCES) -> Iterator[Entry]:
    """Everything that is switched on, in the order in which it is read."""
    parts = sources / "sources.list.d"
    for path in [*sorted(parts.glob("*.sources")), sources / "sources.list", *sorted(parts.glob("*.list"))]:
        if path.is_file():
            text = path.read_text(errors="replace")
            yield from _stanzas(text) if path.suffix == ".sources" else _lines(text)


def without_password(uri: str) -> str:
    """`uri` as it may be shown.

    >>> without_password("https://me:secret@mirror.example/debian")
    'https://mirror.example/debian'
    """
    split = urlsplit(uri)
    return urlunsplit(split._replace(netloc=split.netloc.rpartition("@")[2]))


def _lines(text: str) -> Iterator[Entry]:
    for line in text.splitlines():
        if found := _ONE_LINE.match(line.strip()):
            signed = re.search(r"signed-by=(\S+)", found["options"] or "", re.IGNORECASE)
            yield Entry(found["uri"], found["suite"], tuple(found["parts"].split()), signed[1] if signed else "")


def _stanzas(text: str) -> Iterator[Entry]:
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", kept):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1].isspace():
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            else:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields.get("enabled", "yes").strip().lower() in _NO or "deb" not in fields.get("types", "").split():
            continue
        components = tuple(fields.get("components", "").split())
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Entry(uri, suite, components, fields.get("signed-by", "").strip())


def _addresses(uri: str, sources: Path) -> Sequence[str]:
    """The http addresses that an entry leads to."""
    if uri.startswith(("http://", "https://")):
        return [uri]
    if not uri.startswith("mirror+file:"):
        return []  # of a disk, of a list that lies elsewhere: nothing that a build could use as it is
    named = "/" + uri.removeprefix("mirror+file:").lstrip("/")
    if sources != SOURCES:  # another root, as tests have
        named = named.replace(str(SOURCES), str(sources), 1)
    try:
        lines = Path(named).read_text(errors="replace").splitlines()
    except OSError:
        return []
    # each line is an address, then what tells when it is to be used
    words = [line.split()[0] for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return [word for word in words if word.startswith(("http://", "https://"))]


def _rank(entry: Entry, suite: str, lists: Path) -> int:
    """How far down an entry comes, 0 is best; _NEVER when it is none of Debian's own, or not of a whole release."""
    if "main" not in entry.components:
        return _NEVER
    release = _release(entry, lists)
    if release and (release.get("origin"), release.get("label")) != ("Debian", "Debian"):
        return _NEVER
    same = suite in (entry.suite, release.get("codename"))
    named = urlsplit(entry.uri).path.rstrip("/").endswith("/debian")
    usual = not entry.signed_by or "debian-archive" in entry.signed_by
    if same:
        rank = 0 if release else 1 if named or usual else 2
    elif "-" in entry.suite or not (release or named):
        rank = _NEVER
    else:
        rank = 3 if release else 4
    return rank


def _release(entry: Entry, lists: Path) -> dict[str, str]:
    """Fields of the Release file that apt fetched last, lower-case names; empty when it has none."""
    place = without_password(entry.uri).partition(":")[2].rstrip("/")
    place = place.removeprefix("//") if not entry.uri.startswith("mirror+file:") else "/" + place.lstrip("/")
    # apt-pkg/contrib/strutl.cc, URItoFileName
    place = re.sub(r"[\\|{}\[\]<>\"^~_=!@#$%&*]", lambda found: f"%{ord(found[0]):02x}", place).replace("/", "_")
    for kind in ("InRelease", "Release"):
        try:
            text = (lists / f"{place}_dists_{entry.suite.replace('/', '_')}_{kind}").read_text(errors="replace")
        except OSError:
            continue
        found = re.findall(r"^(Origin|Label|Codename):[ \t]*(.*)$", text[:4000], re.MULTILINE)
        return {name.lower(): value.strip() for name, value in found}
    return {}
