"""Certificates, judged by cryptography's own verifier and by what etcd asks of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from deploy.certificates import KeyPair, fingerprint, issue, make_authority

ADDRESS = IPv4Address("192.168.93.11")


def load(pair: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.encode())


def store(authority: KeyPair) -> PolicyBuilder:
    return PolicyBuilder().store(Store([load(authority)]))


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    return make_authority("test")


@pytest.fixture(scope="module")
def leaf(authority: KeyPair) -> KeyPair:
    return issue(authority, "etcd1", names=["etcd1"], addresses=[ADDRESS])


@pytest.mark.parametrize(
    "subject",
    [
        x509.DNSName("etcd1"),
        x509.DNSName("localhost"),
        x509.IPAddress(ADDRESS),
        x509.IPAddress(IPv4Address("127.0.0.1")),
    ],
)
def test_a_node_is_trusted_under_every_name_it_is_called_by(
    authority: KeyPair, leaf: KeyPair, subject: x509.verification.Subject
) -> None:
    chain = store(authority).build_server_verifier(subject).verify(load(leaf), [])
    assert chain[-1] == load(authority)


def test_a_node_is_not_trusted_under_another_name(authority: KeyPair, leaf: KeyPair) -> None:
    verifier = store(authority).build_server_verifier(x509.DNSName("etcd2"))
    with pytest.raises(VerificationError):
        verifier.verify(load(leaf), [])


def test_a_leaf_of_another_authority_is_not_trusted(leaf: KeyPair) -> None:
    verifier = store(make_authority("test")).build_server_verifier(x509.DNSName("etcd1"))
    with pytest.raises(VerificationError):
        verifier.verify(load(leaf), [])


def test_a_leaf_may_serve_and_call(authority: KeyPair, leaf: KeyPair) -> None:
    store(authority).build_client_verifier().verify(load(leaf), [])
    usages = load(leaf).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


@pytest.mark.parametrize("years", [-9, 9])
def test_valid_nine_years_ago_and_in_nine_years(authority: KeyPair, leaf: KeyPair, years: int) -> None:
    moment = datetime.now(UTC) + timedelta(days=365 * years)
    store(authority).time(moment).build_server_verifier(x509.DNSName("etcd1")).verify(load(leaf), [])


def test_not_valid_forever(authority: KeyPair, leaf: KeyPair) -> None:
    moment = datetime.now(UTC) + timedelta(days=365 * 11)
    verifier = store(authority).time(moment).build_server_verifier(x509.DNSName("etcd1"))
    with pytest.raises(VerificationError):
        verifier.verify(load(leaf), [])


def test_keys_are_p256_and_belong_to_their_certificates(authority: KeyPair, leaf: KeyPair) -> None:
    for pair in (authority, leaf):
        key = serialization.load_pem_private_key(pair.key.encode(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp256r1"
        assert key.public_key() == load(pair).public_key()


def test_a_leaf_cannot_sign_certificates(leaf: KeyPair) -> None:
    forged = issue_unchecked(leaf)
    with pytest.raises(VerificationError):
        store(leaf).build_server_verifier(x509.DNSName("etcd9")).verify(forged, [])


def issue_unchecked(signer: KeyPair) -> x509.Certificate:
    return load(issue(signer, "etcd9", names=["etcd9"]))


def test_the_key_never_shows_in_a_repr(leaf: KeyPair) -> None:
    assert "PRIVATE KEY" not in repr(leaf)


def test_fingerprints_tell_authorities_apart(authority: KeyPair) -> None:
    assert fingerprint(authority.certificate) == load(authority).fingerprint(hashes.SHA256()).hex()
    assert fingerprint(authority.certificate) != fingerprint(make_authority("test").certificate)
