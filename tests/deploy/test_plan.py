"""Renderings, against expectations typed from etcd's documentation and the brief, not from the templates."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deploy.loopback import on_loopback
from deploy.plan import NodePlan, PkiBundle, desired_state, differences, etcd_file, etcd_settings, render
from infra.manifest import Manifest
from tests.manifests import manifest as a_manifest


def content(plan: NodePlan, path: str) -> str:
    return next(file.content for file in plan.files if file.path == path)


def config(manifest: Manifest, pki: PkiBundle, node: str = "etcd2") -> dict[str, object]:
    document = yaml.safe_load(content(render(manifest, pki)[node], "/etc/etcd/etcd.yaml"))
    assert isinstance(document, dict)
    return document


def test_members_by_address(manifest: Manifest, pki: PkiBundle) -> None:
    found = config(manifest, pki)
    assert found["name"] == "etcd2"
    assert found["initial-cluster"] == (
        "etcd1=https://192.168.93.11:2380,etcd2=https://192.168.93.12:2380,etcd3=https://192.168.93.13:2380"
    )
    assert found["initial-advertise-peer-urls"] == "https://192.168.93.12:2380"
    assert found["advertise-client-urls"] == "https://192.168.93.12:2379"


@pytest.mark.parametrize("peers", ["hosts", "dns"])
def test_members_by_name_still_listen_on_addresses(manifest: Manifest, pki: PkiBundle, peers: str) -> None:
    found = config(manifest.model_copy(update={"peers": peers}), pki)
    assert found["initial-cluster"] == "etcd1=https://etcd1:2380,etcd2=https://etcd2:2380,etcd3=https://etcd3:2380"
    assert found["initial-advertise-peer-urls"] == "https://etcd2:2380"
    assert found["listen-peer-urls"] == "https://192.168.93.12:2380"  # etcd refuses to listen on a name


def test_clients_and_peers_need_certificates_and_metrics_do_not(manifest: Manifest, pki: PkiBundle) -> None:
    found = config(manifest, pki)
    for role, section in (("server", "client-transport-security"), ("peer", "peer-transport-security")):
        assert found[section] == {
            "cert-file": f"/etc/etcd/pki/{role}.crt",
            "key-file": f"/etc/etcd/pki/{role}.key",
            "trusted-ca-file": "/etc/etcd/pki/ca.crt",
            "client-cert-auth": True,
        }
    assert str(found["listen-metrics-urls"]).startswith("http://192.168.93.12:2381")
    assert "http://" not in str(found["listen-client-urls"])


def test_timing_token_and_gateway(manifest: Manifest, pki: PkiBundle) -> None:
    found = config(manifest, pki)
    assert (found["heartbeat-interval"], found["election-timeout"]) == (300, 3000)
    assert "0a1b2c3d" in str(found["initial-cluster-token"])
    assert found["enable-grpc-gateway"] is True


def test_only_3_4_has_to_be_told_its_logger_and_lacks_etcdutl(manifest: Manifest, pki: PkiBundle) -> None:
    old = manifest.model_copy(update={"etcd_version": "3.4.37"})
    assert config(old, pki)["logger"] == "zap"
    assert render(old, pki)["etcd1"].binaries == ("etcd", "etcdctl")
    assert "logger" not in config(manifest, pki)
    assert render(manifest, pki)["etcd1"].binaries == ("etcd", "etcdctl", "etcdutl")


def test_extra_settings_arrive_with_their_types(manifest: Manifest, pki: PkiBundle) -> None:
    extra = {"quota-backend-bytes": 4294967296, "pre-vote": False, "auto-compaction-retention": "1h"}
    found = config(manifest.model_copy(update={"etcd_extra": extra}), pki)
    assert {key: found[key] for key in extra} == extra


def test_lists_and_mappings_arrive_as_they_are(manifest: Manifest, pki: PkiBundle) -> None:
    extra = {"cipher-suites": ["TLS_A", "TLS_B"], "socket-options": {"reuse-port": True}, "log-outputs": ["/var/log/x"]}
    found = config(manifest.model_copy(update={"etcd_extra": extra}), pki)
    assert {key: found[key] for key in extra} == extra


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = TEXTS | st.integers() | st.booleans() | st.floats(-1000, 1000).filter(lambda number: "e" not in repr(number))
KEYS = st.from_regex(r"[a-z][a-z0-9-]{0,9}x", fullmatch=True)
SETTINGS = st.dictionaries(
    KEYS, st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))
)


@given(SETTINGS)
def test_whatever_a_setting_holds_yaml_reads_it_back(settings: dict[str, object]) -> None:
    text = etcd_file(settings)
    assert text.isascii()
    assert (yaml.safe_load(text) or {}) == settings


@given(
    st.dictionaries(KEYS, st.integers() | st.booleans() | st.from_regex(r"[ -%(-;=?-~]*", fullmatch=True), max_size=3)
)
def test_labs_built_before_keep_their_file(settings: dict[str, object]) -> None:
    before = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, autoescape=False).from_string(  # noqa: S701 - no HTML
        "{% for key, value in settings.items() %}\n{{ key }}: {{ value | tojson }}\n{% endfor %}\n"
    )
    assert etcd_file(settings).partition("\n")[2].strip() == before.render(settings=settings).strip()


ADDRESSED = (
    "data-dir", "listen-peer-urls", "listen-client-urls", "listen-metrics-urls", "initial-advertise-peer-urls",
    "advertise-client-urls", "initial-cluster", "client-transport-security", "peer-transport-security",
    "heartbeat-interval", "election-timeout",
)  # fmt: skip


@given(SETTINGS, st.sampled_from(["address", "hosts", "dns"]), st.sampled_from(["3.4.23", "3.6.16"]))
def test_a_trial_changes_what_is_the_nodes_own_and_nothing_else(
    extra: dict[str, object], peers: str, version: str
) -> None:
    lab = a_manifest(peers=peers, etcd_version=version)
    given_ = {**etcd_settings(lab, lab.nodes[1]), **extra}
    tried = on_loopback(given_, Path("/t/1"), Path("/t"), client=1, peer=2, metrics=3)
    assert {key for key in tried if key not in given_ or tried[key] != given_[key]} == set(ADDRESSED)
    left = json.dumps({key: tried[key] for key in ADDRESSED})
    assert "192.168." not in left
    assert "/etc/" not in left
    assert "/var/" not in left


def test_a_trial_writes_no_log_where_the_node_would() -> None:
    given_ = {"name": "a", "log-outputs": ["stderr", "/var/log/a", "systemd/journal", ["x"]]}
    tried = on_loopback(given_, Path("/t/1"), Path("/t"), client=1, peer=2, metrics=3)
    assert tried["log-outputs"] == ["stderr", "/t/1/output-1", ["x"]]


def test_private_keys_are_for_root_alone(manifest: Manifest, pki: PkiBundle) -> None:
    for plan in render(manifest, pki).values():
        for file in plan.files:
            assert ("PRIVATE KEY" in file.content) == file.path.endswith(".key")
            if "PRIVATE KEY" in file.content:
                assert file.mode == 0o600


def test_each_node_gets_its_own_certificates(manifest: Manifest, pki: PkiBundle) -> None:
    plans = render(manifest, pki)
    assert content(plans["etcd1"], "/etc/etcd/pki/server.key") == pki.nodes["etcd1"].server_key
    assert content(plans["etcd3"], "/etc/etcd/pki/peer.crt") == pki.nodes["etcd3"].peer_certificate


def test_unit_waits_for_quorum_and_never_gives_up(manifest: Manifest, pki: PkiBundle) -> None:
    unit = content(render(manifest, pki)["etcd1"], "/etc/systemd/system/etcd.service").splitlines()
    for line in (
        "Type=notify",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "Requires=etcd-data.service",
        "RequiresMountsFor=/var/lib/etcd",
        "ExecStart=/usr/local/bin/etcd --config-file=/etc/etcd/etcd.yaml",
        "WantedBy=multi-user.target",
    ):
        assert line in unit


def test_names_resolve_by_hosts_file_unless_dns_is_the_point(manifest: Manifest, pki: PkiBundle) -> None:
    hosts = content(render(manifest, pki)["etcd1"], "/etc/hosts")
    assert "192.168.93.13 etcd3" in hosts.splitlines()
    with_dns = content(render(manifest.model_copy(update={"peers": "dns"}), pki)["etcd1"], "/etc/hosts")
    assert "etcd1" in with_dns
    assert "etcd3" not in with_dns


@pytest.mark.parametrize("path", ["/usr/local/lib/etcd-lab/etcd-data", "/etc/profile.d/etcdctl.sh"])
def test_scripts_are_shell(manifest: Manifest, pki: PkiBundle, path: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(content(render(manifest, pki)["etcd1"], path))
    shell = shutil.which("sh")
    assert shell is not None
    assert subprocess.run([shell, "-n", str(script)], check=False, capture_output=True).returncode == 0


def test_profile_gives_etcdctl_its_certificates(manifest: Manifest, pki: PkiBundle, tmp_path: Path) -> None:
    plan = render(manifest, pki)["etcd1"]
    env = tmp_path / "etcdctl.env"
    env.write_text(content(plan, "/etc/etcd/etcdctl.env"))
    profile = content(plan, "/etc/profile.d/etcdctl.sh").replace("/etc/etcd/etcdctl.env", str(env))
    shell = ["sh", "-euc", f"{profile}\nexec env"]
    said = subprocess.run(
        shell, check=True, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
    ).stdout.splitlines()
    assert "ETCDCTL_CERT=/etc/etcd/pki/client.crt" in said
    # etcdctl refuses an --endpoints option beside ETCDCTL_ENDPOINTS (pkg/flags: "conflicting environment variable")
    assert not any(line.startswith("ETCDCTL_ENDPOINTS") for line in said)


def test_state_holds_the_digest_of_each_file(manifest: Manifest, pki: PkiBundle) -> None:
    plan = render(manifest, pki)["etcd1"]
    key = hashlib.sha256(pki.nodes["etcd1"].server_key.encode()).hexdigest()
    assert plan.state["/etc/etcd/pki/server.key"] == key
    assert plan.state["/usr/local/bin/etcdctl"] == "etcd 3.6.16"


def test_rendering_is_the_same_each_time(manifest: Manifest, pki: PkiBundle) -> None:
    assert desired_state(manifest, pki) == desired_state(Manifest.model_validate_json(manifest.model_dump_json()), pki)


def test_a_new_heartbeat_changes_one_file_per_node_and_what_runs(manifest: Manifest, pki: PkiBundle) -> None:
    before = desired_state(manifest, pki)
    faster = manifest.model_copy(update={"timeouts": manifest.timeouts.model_copy(update={"heartbeat_ms": 200})})
    found = differences(desired_state(faster, pki), before)
    assert [line for line in found if line.startswith("etcd2")] == [
        "etcd2: /etc/etcd/etcd.yaml",
        "etcd2: /etc/etcd/generation",
        "etcd2: etcd.service, running process",
    ]


def test_a_new_version_is_named_without_asking_for_binaries(manifest: Manifest, pki: PkiBundle) -> None:
    newer = manifest.model_copy(update={"etcd_version": "3.6.17"})
    found = differences(desired_state(newer, pki), desired_state(manifest, pki))
    assert "etcd1: /usr/local/bin/etcd (etcd 3.6.16, not etcd 3.6.17)" in found


def test_client_certificate_restarts_nothing(manifest: Manifest, pki: PkiBundle) -> None:
    other = pki.model_copy(update={"client_certificate": "another"})
    assert render(manifest, pki)["etcd1"].generation == render(manifest, other)["etcd1"].generation


def test_differences_name_node_and_path() -> None:
    wanted = {"etcd1": {"/a": "a" * 64, "etcd.service": "active, enabled"}, "etcd2": {"/a": "a" * 64}}
    seen = {"etcd1": {"/a": "b" * 64, "etcd.service": "failed, enabled"}}
    assert differences(wanted, seen) == [
        "etcd1: /a",
        "etcd1: etcd.service (failed, enabled, not active, enabled)",
        "etcd2: everything",
    ]
    assert differences(wanted, wanted) == []
