"""Calibration: reading what the probes print, the worst of all nodes, and the advice."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from chaos.measure.calibration import summed
from chaos.measure.node_probe import PHASE, SLEEPS, NodeFigures, figures_of, probe_script, read_probe
from infra import metrics
from tests.manifests import manifest

PAGE = """\
# TYPE etcd_disk_wal_fsync_duration_seconds histogram
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.008"} 30
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.016"} 97
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.032"} 99
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.064"} 100
etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 100
etcd_disk_wal_fsync_duration_seconds_sum 1.2
etcd_disk_wal_fsync_duration_seconds_count 100
etcd_network_peer_round_trip_time_seconds_bucket{To="b6",le="0.4096"} 50
etcd_network_peer_round_trip_time_seconds_bucket{To="b6",le="+Inf"} 52
etcd_network_peer_round_trip_time_seconds_sum{To="b6"} 5.2
etcd_network_peer_round_trip_time_seconds_count{To="b6"} 52
etcd_network_peer_round_trip_time_seconds_bucket{To="bf",le="+Inf"} 10
etcd_network_peer_round_trip_time_seconds_sum{To="bf"} 0.5
etcd_network_peer_round_trip_time_seconds_count{To="bf"} 10
etcd_network_peer_sent_bytes_total{To="b6"} 100
etcd_network_peer_sent_bytes_total{To="bf"} 1.5e+06
go_goroutines 77
"""


MANIFEST = manifest("a")


def test_a_metrics_page_gives_quantiles_means_and_sums() -> None:
    page = metrics.parse(PAGE)
    (fsync,) = page.histogram(metrics.FSYNC)
    assert fsync.quantile(0.5) == 0.016
    assert fsync.quantile(0.99) == 0.032
    assert fsync.mean == pytest.approx(0.012)
    assert max(one.mean for one in page.histogram(metrics.ROUND_TRIP)) == pytest.approx(0.1)
    assert page.number(metrics.SENT) == 1_500_100


def test_probe_lines_become_overruns_in_seconds() -> None:
    found = read_probe("sleep 10500\nsleep 30000\nconnect 2000\ndd 0.025\ndd x\nnoise\n")
    assert found["sleep"] == pytest.approx([0.0005, 0.02])
    assert found["connect"] == [0.002]
    assert found["dd"] == [0.025]


def test_what_was_not_reached_is_named() -> None:
    figures = figures_of("sleep 12000\nsleep 13000\nsleep 90000\nscript 1500000\n", 1.7)
    assert figures.scheduling_worst == pytest.approx(0.003)
    assert figures.ssh == pytest.approx(0.2)
    assert "connect, flush, metrics" in figures.problem


def test_the_worst_node_counts_and_the_advice_names_it() -> None:
    nodes = {
        "a": NodeFigures(fsync_p99=0.9, fsync_median=0.01, flush=0.005),
        "b": NodeFigures(flush=0.5, scheduling_worst=0.001),
    }
    found = summed(MANIFEST, nodes, (0.1, 0.05))
    assert found.machine.fsync == 0.5
    assert "fsync" in found.advice
    assert "election-ms to 5000" in found.advice
    assert summed(MANIFEST, {"a": nodes["a"]}, (0.1, 0.05)).advice == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_probe_runs_in_a_real_bash_and_is_bounded(tmp_path: Path) -> None:
    script = probe_script("127.0.0.1", ["127.0.0.1"]).replace("/var/lib/etcd/", f"{tmp_path}/")
    started = time.monotonic()
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert time.monotonic() - started < 5 * PHASE + 5
    found = read_probe(done.stdout)
    slept = found["sleep"]
    assert len(found["dd"]) == len(found["script"]) == 1
    assert not list(tmp_path.iterdir())
    assert 1 <= len(slept) <= SLEEPS
    assert all(0 <= overrun < 5 for overrun in slept)


def test_a_machine_on_which_no_probe_ends_is_too_slow_and_not_praised() -> None:
    found = summed(MANIFEST, {"a": NodeFigures(stuck=6.1, problem="no probe ended within 6 s")}, (0.0, 0.0))
    assert found.slow
    assert "a: no probe ended" in str(found)
