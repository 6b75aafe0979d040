"""The picture of an offending window: well-formed, with the guilty operations framed and the others of the key."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import orjson

from chaos.checker.history_reader import read_history
from chaos.checker.picture import draw
from chaos.checker.verdict import check

SVG = "{http://www.w3.org/2000/svg}"


def line(process: int, at: int, **fields: Any) -> dict[str, Any]:
    return {"process": process, "invoke_ns": at, "return_ns": at + 1000, "outcome": "ok", "member": "etcd<1>"} | fields


LINES = [
    line(0, 1000, op="put", key="x", value="a<b", revision=2),
    line(1, 3000, op="put", key="x", value="new", revision=3),
    line(2, 5000, op="get", key="x", value="a<b", revision=3),
    line(3, 4000, op="put", key="other", value="1", revision=4),
    line(4, 3500, op="put", key="x", value="2", outcome="unknown", return_ns=None),
]


def test_the_guilty_are_framed_and_names_are_escaped() -> None:
    history = read_history([orjson.dumps(one) for one in LINES], "h")
    wrong = check(history).violation
    assert wrong is not None
    root = ET.fromstring(draw(history, wrong))  # noqa: S314 - our own
    bars = [group.find(f"{SVG}rect") for group in root.iter(f"{SVG}g")]
    framed = [bar for bar in bars if bar is not None and bar.get("stroke") == "#cb181d"]
    assert len(framed) == len(wrong.lines) >= 2
    titles = " ".join(title.text or "" for title in root.iter(f"{SVG}title"))
    assert "a<b" in titles
    assert "put other" not in titles
    words = " ".join("".join(text.itertext()) for text in root.iter(f"{SVG}text"))
    assert wrong.rule in words
    assert "(etcd<1>)" in words


def test_bars_stay_within_the_picture() -> None:
    history = read_history([orjson.dumps(one) for one in LINES], "h")
    wrong = check(history).violation
    assert wrong is not None
    root = ET.fromstring(draw(history, wrong))  # noqa: S314 - our own
    width = float(root.get("width") or 0)
    for group in root.iter(f"{SVG}g"):
        bar = group.find(f"{SVG}rect")
        assert bar is not None
        assert float(bar.get("x") or 0) >= 0
        assert float(bar.get("x") or 0) + float(bar.get("width") or 0) <= width
