"""Which of apt's sources the guest is built from: those that hosts really have, side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.apt_sources import debian_mirror, entries, without_password

DOCKER = (
    "deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc] https://download.docker.com/linux/debian bookworm stable\n"
)
POSTGRES = "deb https://apt.postgresql.org/pub/repos/apt bookworm-pgdg main\n"
HASHICORP = "deb [signed-by=/usr/share/keyrings/hashicorp.gpg] https://apt.releases.example bookworm main\n"
GRAFANA = "deb [signed-by=/etc/apt/keyrings/grafana.gpg] https://apt.grafana.example stable main\n"
SECURITY = "deb http://security.debian.org/debian-security bookworm-security main\n"
DEBIAN = "deb http://mirror.example/debian bookworm main contrib # ours\n"
CLOUD = """\
Types: deb deb-src
URIs: mirror+file:///etc/apt/mirrors/debian.list
Suites: bookworm bookworm-updates bookworm-backports
Components: main

Types: deb deb-src
URIs: mirror+file:///etc/apt/mirrors/debian-security.list
Suites: bookworm-security
Components: main
"""
ARTIFACTORY = """\
# made by the company's installer
Types: deb
URIs: https://artifactory.example/artifactory/debian-remote/
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
NEXUS = "deb [signed-by=/etc/apt/trusted.gpg.d/company.gpg] https://nexus.example/repository/apt-proxy bookworm main\n"
SWITCHED_OFF = """\
Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://on.example/debian
Suites: bookworm
Components: main
"""


def machine(root: Path, **files: str) -> Path:
    """An /etc/apt with these files; `_` in a name stands for the point before its ending."""
    (root / "sources.list.d").mkdir(parents=True)
    for name, text in files.items():
        stem, _, ending = name.rpartition("_")
        place = root if name == "sources_list" else root / "sources.list.d"
        (place / f"{stem}.{ending}").write_text(text)
    return root


def fetched(lists: Path, name: str, *, origin: str, codename: str = "bookworm", label: str = "") -> None:
    lists.mkdir(exist_ok=True)
    text = f"-----BEGIN PGP SIGNED MESSAGE-----\n\nOrigin: {origin}\nLabel: {label or origin}\nCodename: {codename}\n"
    (lists / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"docker_list": DOCKER, "sources_list": DEBIAN}, "http://mirror.example/debian"),
        ({"a_list": POSTGRES, "b_list": GRAFANA, "sources_list": SECURITY + DEBIAN}, "http://mirror.example/debian"),
        ({"sources_list": HASHICORP + DEBIAN}, "http://mirror.example/debian"),
        ({"docker_list": DOCKER, "sources_list": SECURITY}, None),
        ({"artifactory_sources": ARTIFACTORY}, "https://artifactory.example/artifactory/debian-remote"),
        ({"docker_list": DOCKER, "sources_list": NEXUS}, "https://nexus.example/repository/apt-proxy"),
        ({"debian_sources": SWITCHED_OFF}, "http://on.example/debian"),
        ({"debian_sources": SWITCHED_OFF.replace("Enabled: no", "Enabled: off")}, "http://on.example/debian"),
        ({"debian_sources": SWITCHED_OFF.replace("Enabled: no", "Enabled: yes")}, "http://off.example/debian"),
        ({"sources_list": DEBIAN.replace("deb ", "deb-src ")}, None),
        ({"sources_list": "# " + DEBIAN}, None),
        ({"sources_list": DEBIAN.replace("bookworm", "trixie")}, "http://mirror.example/debian"),
        ({"sources_list": DEBIAN.replace("bookworm", "trixie") + NEXUS}, "https://nexus.example/repository/apt-proxy"),
        ({"sources_list": "deb http://archive.ubuntu.example/ubuntu noble main universe\n"}, None),
        ({"sources_list": "deb cdrom:[Debian 12]/ bookworm main\n" + DEBIAN}, "http://mirror.example/debian"),
        ({"sources_list": "deb https://me:word@in.example/x/ bookworm main\n"}, "https://me:word@in.example/x"),
        ({}, None),
    ],
)
def test_the_entry_with_the_guests_suite_and_main_is_taken(
    tmp_path: Path, files: dict[str, str], expected: str | None
) -> None:
    assert debian_mirror("bookworm", sources=machine(tmp_path / "apt", **files), lists=tmp_path / "lists") == expected


def test_what_a_mirror_file_names_is_followed(tmp_path: Path) -> None:
    apt = machine(tmp_path / "apt", debian_sources=CLOUD, docker_list=DOCKER)
    (apt / "mirrors").mkdir()
    named = "# nearest first\nhttps://cloud.example/debian/\tpriority:1\nhttps://deb.debian.org/debian\n"
    (apt / "mirrors" / "debian.list").write_text(named)
    (apt / "mirrors" / "debian-security.list").write_text("https://cloud.example/debian-security\n")
    assert debian_mirror("bookworm", sources=apt, lists=tmp_path) == "https://cloud.example/debian"


def test_a_mirror_file_that_is_gone_leads_nowhere(tmp_path: Path) -> None:
    apt = machine(tmp_path / "apt", debian_sources=CLOUD, sources_list=DEBIAN)
    assert debian_mirror("bookworm", sources=apt, lists=tmp_path) == "http://mirror.example/debian"


def test_what_apt_fetched_tells_a_vendor_from_debian(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    apt = machine(tmp_path / "apt", sources_list="deb http://vendor.example/debian bookworm main\n" + NEXUS)
    assert debian_mirror("bookworm", sources=apt, lists=lists) == "http://vendor.example/debian"
    fetched(lists, "vendor.example_debian_dists_bookworm_InRelease", origin="Vendor")
    assert debian_mirror("bookworm", sources=apt, lists=lists) == "https://nexus.example/repository/apt-proxy"


def test_a_suite_by_another_name_is_the_one_that_its_release_tells(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    apt = machine(tmp_path / "apt", sources_list="deb http://a_b.example/x/y_z oldstable main\n")
    assert debian_mirror("bookworm", sources=apt, lists=lists) is None
    fetched(lists, "a%5fb.example_x_y%5fz_dists_oldstable_InRelease", origin="Debian")
    assert debian_mirror("bookworm", sources=apt, lists=lists) == "http://a_b.example/x/y_z"


def test_security_updates_are_no_release(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    apt = machine(tmp_path / "apt", sources_list="deb http://s.example/debian stable-security main\n")
    fetched(
        lists,
        "s.example_debian_dists_stable-security_InRelease",
        origin="Debian",
        label="Debian-Security",
        codename="bookworm-security",
    )
    assert debian_mirror("bookworm", sources=apt, lists=lists) is None


def test_no_password_is_shown() -> None:
    assert without_password("https://me:word@mirror.example:8443/debian") == "https://mirror.example:8443/debian"


WORDS = st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True)


@given(st.lists(st.tuples(WORDS, WORDS, st.lists(WORDS, max_size=3)), max_size=4), st.booleans())
def test_both_formats_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[str, str, list[str]]], tail: bool
) -> None:
    lines = "".join(f"deb http://{host}/ {suite} {' '.join(parts)}{' # x' * tail}\n" for host, suite, parts in told)
    stanzas = "\n".join(
        f"Types: deb\nURIs: http://{host}/\n# a comment\nSuites: {suite}\nComponents: {' '.join(parts)}\n"
        for host, suite, parts in told
    )
    one = machine(tmp_path_factory.mktemp("one") / "apt", sources_list=lines)
    other = machine(tmp_path_factory.mktemp("other") / "apt", debian_sources=stanzas)
    assert list(entries(one)) == list(entries(other))
