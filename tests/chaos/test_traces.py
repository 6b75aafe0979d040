"""The sweep's script on this host's own shell, with stand-ins for what only a guest has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from chaos.heal.residue import GUEST, Residue, read, script


def run(text: str) -> str:
    return subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False).stdout


def traces(tmp_path: Path) -> tuple[Residue, ...]:
    return (
        Residue("file", f"for f in {tmp_path}/*; do [ ! -e $f ] || tell ${{f##*/}}; done", f"rm {tmp_path}/*"),
        Residue("stubborn", "tell 'a  b'; tell c", "false"),
        Residue("nothing", ":", "exit 3"),
    )


def test_looking_changes_nothing_and_tells_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    (tmp_path / "two").touch()
    kinds = traces(tmp_path)
    found, clock = read(run(script(kinds, mend=False)), kinds)
    assert [str(one) for one in found] == ["file one two", "stubborn a b c"]
    assert clock > 1.7e9
    assert (tmp_path / "one").exists()


def test_mending_mends_and_tells_what_could_not_be_mended(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    kinds = traces(tmp_path)
    found, _ = read(run(script(kinds, mend=True)), kinds)
    assert [(one.trace.name, one.mended) for one in found] == [("file", True), ("stubborn", False)]
    assert not list(tmp_path.iterdir())
    found, _ = read(run(script(kinds, mend=True)), kinds)
    assert [one.trace.name for one in found] == ["stubborn"]


def test_an_output_that_was_cut_off_is_no_all_clear(tmp_path: Path) -> None:
    whole = run(script(traces(tmp_path), mend=False))
    with pytest.raises(ValueError, match="did not end"):
        read(whole.removesuffix("end\n"), traces(tmp_path))
    with pytest.raises(ValueError, match="did not end"):
        read("", traces(tmp_path))


@pytest.mark.parametrize("mend", [True, False])
def test_the_scripts_for_guests_are_good_shell(mend: bool) -> None:
    done = subprocess.run(["sh", "-n"], input=script(GUEST, mend=mend), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_stopped_process_of_etcd_is_found_by_its_state(tmp_path: Path) -> None:
    trace = next(one for one in GUEST if one.name == "stopped process")
    with subprocess.Popen(["sleep", "60"]) as child:
        procs = tmp_path / "procs"
        procs.write_text(f"{child.pid}\n")

        def found(*, mend: bool) -> list[str]:
            text = script([trace], mend=mend)
            here = text.replace("/sys/fs/cgroup/system.slice/etcd.service/cgroup.procs", str(procs))
            return [one.what for one in read(run(here), [trace])[0]]

        assert found(mend=False) == []
        subprocess.run(["kill", "-STOP", str(child.pid)], check=True)
        assert found(mend=True) == [f"(sleep) {child.pid}"]
        assert found(mend=False) == []
        child.kill()
