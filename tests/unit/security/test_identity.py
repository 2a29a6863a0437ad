"""A node's identity: made once, checked whenever it is read."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509

from tandem.errors import ConfigurationError
from tandem.security import load_or_create_identity, node_id_of


def test_an_identity_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    first, again = (load_or_create_identity(tmp_path / "node") for _ in range(2))
    assert first == again
    assert node_id_of(first.certificate) == first.node_id
    assert stat.S_IMODE(first.key_path.stat().st_mode) == 0o600
    assert load_or_create_identity(tmp_path / "other").node_id != first.node_id


def test_no_clock_finds_a_certificate_out_of_date(tmp_path: Path) -> None:
    own = load_or_create_identity(tmp_path / "node")
    certificate = x509.load_pem_x509_certificate(own.certificate.encode())
    assert certificate.not_valid_before_utc.year == 2000
    assert certificate.not_valid_after_utc.year == 9999


def test_a_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    one, other = (load_or_create_identity(tmp_path / name) for name in ("one", "other"))
    one.certificate_path.write_text(other.certificate)
    with pytest.raises(ConfigurationError, match="does not belong"):
        load_or_create_identity(tmp_path / "one")
    one.key_path.write_text("nonsense")
    with pytest.raises(ConfigurationError, match="private key"):
        load_or_create_identity(tmp_path / "one")
