"""A certificate that is renewed while it is served."""

from __future__ import annotations

import ssl
from pathlib import Path

from tandem.coordinator.server.certificate import Certificate
from tandem.security import load_or_create_service_certificate


def test_a_renewed_certificate_is_taken_in(tmp_path: Path) -> None:
    made = load_or_create_service_certificate(tmp_path, ["a"])
    certificate = Certificate(
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), made.certificate_path, made.key_path
    )
    assert not certificate.renew()
    load_or_create_service_certificate(tmp_path, ["b"])
    assert certificate.renew()
    assert not certificate.renew()


def test_one_that_is_half_there_leaves_the_old_one_in_place(tmp_path: Path) -> None:
    made = load_or_create_service_certificate(tmp_path, ["a"])
    whole = made.certificate_path.read_text()
    certificate = Certificate(
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), made.certificate_path, made.key_path
    )
    made.certificate_path.write_text(whole[:200])
    assert not certificate.renew()
    made.certificate_path.write_text(whole)
    assert certificate.renew()
