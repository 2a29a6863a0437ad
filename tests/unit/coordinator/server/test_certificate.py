"""A certificate that is renewed while it is served."""

from __future__ import annotations

import shutil
import ssl
from contextlib import suppress
from pathlib import Path

from tandem.coordinator.server.certificate import Certificate
from tandem.security import ServiceCertificate, load_or_create_service_certificate


def shown_by(certificate: Certificate) -> bytes | None:
    """The certificate that a client gets to see now, in a handshake without a network."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(down, up)
    server = certificate.context.wrap_bio(up, down, server_side=True)
    for side in (client, server, client):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client.getpeercert(binary_form=True)


def der(made: ServiceCertificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(made.certificate_path.read_text())


def test_a_renewed_certificate_is_taken_in(tmp_path: Path) -> None:
    made = load_or_create_service_certificate(tmp_path, ["a"])
    certificate = Certificate(made.certificate_path, made.key_path)
    assert not certificate.renew()
    load_or_create_service_certificate(tmp_path, ["b"])
    assert certificate.renew()
    assert shown_by(certificate) == der(made)
    assert not certificate.renew()


def test_one_that_is_half_there_leaves_the_old_one_in_place(tmp_path: Path) -> None:
    made = load_or_create_service_certificate(tmp_path, ["a"])
    whole, old = made.certificate_path.read_text(), der(made)
    certificate = Certificate(made.certificate_path, made.key_path)
    made.certificate_path.write_text(whole[:200])
    assert not certificate.renew()
    assert shown_by(certificate) == old
    made.certificate_path.write_text(whole)
    assert certificate.renew()


def test_one_whose_key_has_not_come_yet_leaves_the_old_one_in_place(tmp_path: Path) -> None:
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    made = load_or_create_service_certificate(tmp_path / "old", ["a"])
    new, old = load_or_create_service_certificate(tmp_path / "new", ["a"]), der(made)
    certificate = Certificate(made.certificate_path, made.key_path)
    shutil.copy(new.certificate_path, made.certificate_path)
    assert not certificate.renew()
    assert shown_by(certificate) == old
    shutil.copy(new.key_path, made.key_path)
    assert certificate.renew()
    assert shown_by(certificate) == der(new)
