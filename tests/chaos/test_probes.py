"""What probes of a guest mean, and what members say of each other."""

from __future__ import annotations

from chaos.inside import Attempt
from chaos.probes import Reach, classify_refusal, meaning, received_from


def test_an_attempt_means_what_came_back() -> None:
    assert meaning(Attempt(tried=True, opened=True)) is Reach.ANSWERED
    assert meaning(Attempt(tried=True, said="Connection refused")) is Reach.ANSWERED
    assert meaning(Attempt(tried=True, said="No route to host")) is Reach.SILENT
    assert meaning(Attempt(tried=True)) is Reach.SILENT


def test_an_attempt_that_was_not_made_says_nothing() -> None:
    assert meaning(Attempt(tried=False)) is Reach.UNKNOWN
    assert classify_refusal("Permission denied") is Reach.UNKNOWN


def test_what_was_received_is_told_by_sender_without_the_keep_alives() -> None:
    text = (
        "# TYPE etcd_network_peer_received_bytes_total counter\n"
        'etcd_network_peer_received_bytes_total{From="0"} 280\n'
        'etcd_network_peer_received_bytes_total{From="1c3dbc1266e7b820"} 1.5759e+06\n'
        'etcd_network_peer_sent_bytes_total{To="1c3dbc1266e7b820"} 9\n'
    )
    assert received_from(text) == {"1c3dbc1266e7b820": 1575900.0}
