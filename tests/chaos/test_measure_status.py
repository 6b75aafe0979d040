"""The status message against bytes that a member of etcd 3.6 really sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.measure.samples import Sample, read_samples, sample_of
from chaos.measure.status import decode, fields
from infra.cluster import EndpointStatus

SENT = bytes.fromhex(
    "0a1a08e3b9bae6b3d0f2f7e00110f38aebe2d6c1afa08901180120031206332e362e31361880a00120f38aebe2d6c1afa08901280130033810"
    "488080015a05332e362e306080808080086a00"
)
"""Answer of a member of a 3.6.16 cluster in term 3, at revision 1, with an empty store."""


def test_a_real_answer_reads_as_etcdctl_showed_it() -> None:
    status = decode("etcd3", SENT)
    assert (status.version, status.storage_version) == ("3.6.16", "3.6.0")
    assert (status.raft_term, status.raft_applied_index, status.revision) == (3, 16, 1)
    assert f"{status.member_id:x}" == "8940be0d6c5ac573"
    assert status.leader
    assert (status.db_size, status.db_size_in_use) == (20480, 16384)
    assert status.db_size_quota == 2 * 1024**3


@pytest.mark.parametrize("length", [1, 10, len(SENT) - 1])
def test_an_answer_cut_short_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="protobuf"):
        decode("etcd1", SENT[:length])


@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_refused(message: bytes) -> None:
    try:
        found = list(fields(message))
    except ValueError:
        return
    assert all(isinstance(value, int | bytes) for _, value in found)


def test_alarms_are_told_apart_from_complaints(tmp_path: Path) -> None:
    told = ("memberID:7 alarm:NOSPACE ", "etcdserver: no leader")
    status = EndpointStatus("etcd1", ok=True, leader_id=5, errors=told)
    sample = sample_of(status, 7, 0.5)
    assert sample.alarms == ("NOSPACE",)
    assert sample.errors == ("etcdserver: no leader",)
    assert not sample.well
    path = tmp_path / "samples.jsonl"
    path.write_text(sample.line() + sample.line()[:40])
    assert list(read_samples(path)) == [sample]
    assert isinstance(sample, Sample)
