"""Settings: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from infra import settings
from infra.settings import from_mapping, from_stack_file
from machine.errors import SettingsError
from machine.paths import CHECKOUT

REFUSED = [
    ("nodes", 0, "below 1"),
    ("nodes", "10", "above 9"),
    ("nodes", "three", "no whole number"),
    ("nodes", 2.5, "no whole number"),
    ("nodes", True, "no whole number"),
    ("names", ["a", "a", "b"], "'a' more than once"),
    ("names", '["Etcd1","b","c"]', "'Etcd1'"),
    ("names", ["-a", "b", "c"], "'-a'"),
    ("names", ["a" * 32, "b", "c"], "RFC 1123"),
    ("names", ["1", "2", "3"], "taken for something else"),
    ("names", ["a", "b"], "2 names for 3 nodes"),
    ("names", "[1", "JSON"),
    ("memory", 100, "below 256"),
    ("vcpus", 17, "above 16"),
    ("subnet", "8.8.8.0/24", "RFC 1918"),
    ("subnet", "172.32.0.0/16", "RFC 1918"),
    ("subnet", "192.168.93.1/24", "host bits"),
    ("subnet", "fd00::/64", "no IPv4 network"),
    ("subnet", "10.0.0.0/30", "too small for 3 nodes"),
    ("etcd-version", "latest", "no release number"),
    ("etcd-version", "3.3.25", "does not know"),
    ("etcd-version", "/nonexistent", "without the program etcd"),
    ("election-ms", 60000, "above 50000"),
    ("heartbeat-ms", -1, "below 0"),
    ("heartbeat-ms", 6000, "60000 ms"),
    ("peers", "name", "none of the choices"),
    ("etcd-extra", {"data-dir": "/x"}, "disk faults work on it"),
    ("etcd-extra", {"datadir": "/x"}, "disk faults work on it"),
    ("etcd-extra", {"discovery-srv": "x"}, "the lab names all members"),
    ("etcd-extra", {"force-new-cluster": True}, "a cluster of its own"),
    ("etcd-extra", {"election-timeout": 5000}, "etcd-lab:election-ms"),
    ("etcd-extra", {"peer-transport-security": {}}, "the lab makes certificates"),
    ("etcd-extra", {"log-outputs": ["stderr", None]}, "no value, or with none in it"),
    ("etcd-extra", {"socket-options": {"reuse-port": None}}, "no value, or with none in it"),
    ("etcd-extra", {"Quota": 1}, "not how etcd spells"),
    ("etcd-extra", [1], "no mapping"),
    ("image", "/nonexistent.qcow2", "nor a file that exists"),
    ("image-sha256", "abc", "no SHA-256"),
    ("hypervisor", "qemu+ssh://root@far/system", "remote hypervisor"),
    ("hypervisor", "qemu+tcp:///system", "remote hypervisor"),
    ("hypervisor", "xen:///system", "no libvirt URI of a QEMU"),
    ("hypervisor", "qemu:///session", "only that one can make networks"),
]


@pytest.mark.parametrize(("key", "value", "reason"), REFUSED)
def test_a_wrong_value_is_refused_with_key_value_reason_and_remedy(key: str, value: object, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        from_mapping({key: value}, where="Pulumi.lab.yaml")
    said = str(caught.value)
    assert said.startswith(f"etcd-lab:{key} = {value!r} ")
    assert reason in said
    assert "(Pulumi.lab.yaml)" in said
    assert caught.value.next.startswith("Give ")
    assert "\n" not in said
    assert caught.value.exit_code == 2


def test_an_election_timeout_below_five_heartbeats_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"etcd-lab:election-ms = 499 is below five heartbeats of 100 ms"):
        from_mapping({"heartbeat-ms": 100, "election-ms": 499})
    assert from_mapping({"heartbeat-ms": 100, "election-ms": 500}).timeouts("kvm").election_ms == 500


def test_an_unknown_key_is_refused_and_the_near_one_named() -> None:
    with pytest.raises(SettingsError, match=r"etcd-lab:node is no setting.*Did you mean etcd-lab:nodes\?"):
        from_mapping({"node": 3})


def test_an_image_from_the_network_needs_its_checksum() -> None:
    with pytest.raises(SettingsError, match="etcd-lab:image-sha256 is missing"):
        from_mapping({"image": "https://example.org/debian.qcow2"})
    good = from_mapping({"image": "https://example.org/debian.qcow2", "image-sha256": "AB" * 32})
    assert good.image_sha256 == "ab" * 32


def test_text_from_pulumi_and_native_values_mean_the_same() -> None:
    native = {"nodes": 5, "names": ["a", "b", "c", "d", "e"], "etcd-extra": {"max-txn-ops": 200}, "heartbeat-ms": 50}
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in native.items()}
    assert from_mapping(native) == from_mapping(text)


@pytest.mark.parametrize(
    "extra",
    [
        {"cipher-suites": ["TLS_A", "TLS_B"]},
        {"socket-options": {"reuse-port": True}},
        {"initial-election-tick-advance": False},
        {"peer-skip-client-san-verification": True},
        {"proxy-refresh-interval": 5},
        {"log-level": "warn", "log-outputs": ["stderr"]},
        {"host-whitelist": "etcd1"},
    ],
)
def test_what_only_etcd_can_judge_is_left_to_it(extra: dict[str, object]) -> None:
    assert from_mapping({"etcd-extra": extra}).etcd_extra == extra
    assert from_mapping({"etcd-extra": json.dumps(extra)}).etcd_extra == extra


@pytest.mark.parametrize(
    ("quota", "words"),
    [(2 << 30, None), (0, None), ((2 << 30) + 1, "is 2048 MiB"), (8 << 30, "is 8192 MiB"), (-1, "is unlimited")],
)
def test_a_quota_that_the_data_volume_cannot_hold_is_warned_about(quota: int, words: str | None) -> None:
    said = from_mapping({"etcd-extra": {"quota-backend-bytes": quota}}).warnings
    assert (words is None) == (not said)
    assert words is None or words in said[0]


def test_without_timeouts_the_accelerator_decides_and_one_brings_the_other() -> None:
    plain = from_mapping({})
    assert (plain.timeouts("kvm").heartbeat_ms, plain.timeouts("kvm").election_ms) == (100, 1000)
    assert (plain.timeouts("tcg").heartbeat_ms, plain.timeouts("tcg").election_ms) == (300, 3000)
    assert from_mapping({"heartbeat-ms": 40}).timeouts("tcg").election_ms == 400
    assert from_mapping({"election-ms": 7000}).timeouts("kvm").heartbeat_ms == 700


@pytest.mark.parametrize(("nodes", "warned"), [(1, False), (2, True), (3, False), (4, True)])
def test_an_even_number_of_nodes_is_allowed_with_a_warning(nodes: int, warned: bool) -> None:
    assert any("even" in warning for warning in from_mapping({"nodes": nodes}).warnings) is warned


@pytest.mark.parametrize(("euid", "kind"), [(0, "embedded"), (1000, "system")])
def test_auto_means_embedded_for_root_and_the_system_for_others(
    monkeypatch: pytest.MonkeyPatch, euid: int, kind: str
) -> None:
    monkeypatch.setattr("infra.settings.os.geteuid", lambda: euid)
    assert from_mapping({"hypervisor": "auto"}).kind == kind


def test_a_socket_uri_of_this_machine_is_a_system_hypervisor() -> None:
    found = from_mapping({"hypervisor": "qemu+unix:///system?socket=/run/x/libvirt-sock"})
    assert (found.kind, found.system_uri) == ("system", "qemu+unix:///system?socket=/run/x/libvirt-sock")


def private_networks() -> st.SearchStrategy[IPv4Network]:
    roots = st.sampled_from([IPv4Network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")])

    def within(root: IPv4Network) -> st.SearchStrategy[IPv4Network]:
        prefix = st.integers(max(root.prefixlen, 16), 30)
        return prefix.flatmap(
            lambda length: st.integers(0, 2 ** (length - root.prefixlen) - 1).map(
                lambda index: IPv4Network((int(root.network_address) + index * 2 ** (32 - length), length))
            )
        )

    return roots.flatmap(within)


@given(subnet=private_networks(), nodes=st.integers(1, 9))
def test_addresses_are_distinct_inside_the_subnet_and_nobody_elses(subnet: IPv4Network, nodes: int) -> None:
    try:
        found = from_mapping({"subnet": str(subnet), "nodes": nodes})
    except SettingsError:
        assert len(list(subnet.hosts())) < nodes + 1
        return
    taken = [*found.addresses, found.gateway]
    assert len(found.addresses) == nodes
    assert len(set(taken)) == nodes + 1
    assert all(address in subnet for address in taken)
    assert not {subnet.network_address, subnet.broadcast_address} & set(taken)


@given(heartbeat=st.integers(0, 12_000), election=st.integers(0, 60_000))
def test_what_is_accepted_is_what_etcd_accepts(heartbeat: int, election: int) -> None:
    try:
        found = from_mapping({"heartbeat-ms": heartbeat, "election-ms": election})
    except SettingsError:
        if heartbeat and election:  # etcd server/embed/config.go, Validate
            assert election > 50_000 or 5 * heartbeat > election
        return
    for accelerator in ("kvm", "tcg"):
        chosen = found.timeouts(accelerator)
        assert 0 < 5 * chosen.heartbeat_ms <= chosen.election_ms <= 50_000


@given(
    values=st.dictionaries(
        st.sampled_from([name.replace("_", "-") for name in settings.LabSettings.model_fields]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=5), max_size=4),
        max_size=3,
    )
)
def test_any_value_is_either_accepted_or_refused_by_name(values: dict[str, object]) -> None:
    said = "etcd-lab:none "
    try:
        from_mapping(values)
    except SettingsError as error:
        said = str(error)
    assert re.match(r"etcd-lab:[a-z0-9-]+ ", said)


def test_a_stack_file_is_read_without_the_engine(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.lab.yaml"
    path.write_text("config:\n  etcd-lab:nodes: 5\n  etcd-lab:etcd-extra: {max-txn-ops: 9}\n  other:key: 1\n")
    found = from_stack_file(path)
    assert (found.nodes, found.etcd_extra) == (5, {"max-txn-ops": 9})
    assert from_stack_file(tmp_path / "none.yaml") == from_mapping({})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("config: {etcd-lab:nodes: {secure: abc}}", "is encrypted"),
        ("config: [", "no YAML"),
        ("config: {etcd-lab:nodes: 0}", r"\(Pulumi.lab.yaml\)"),
    ],
)
def test_a_wrong_stack_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "Pulumi.lab.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=said):
        from_stack_file(path)


def test_the_project_file_declares_every_key_with_type_default_and_description() -> None:
    declared = yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())["config"]
    assert set(declared) == {name.replace("_", "-") for name in settings.LabSettings.model_fields}
    assert all({"type", "default", "description"} <= set(entry) for entry in declared.values())
    assert from_mapping({key: entry["default"] for key, entry in declared.items()}) == from_mapping({})
