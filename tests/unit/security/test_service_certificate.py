"""A service's certificate, and connections that go by its pin alone."""

from __future__ import annotations

import asyncio
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tandem.errors import ConfigurationError
from tandem.security import (
    PinnedContext,
    ServiceCertificate,
    is_pin,
    load_or_create_service_certificate,
    pin_in,
)

_NAMES = ["localhost", "127.0.0.1", "::1", "box"]


@contextmanager
def _served(made: ServiceCertificate) -> Iterator[tuple[int, list[bytes]]]:
    """A TLS server for one connection: its port, and what it was sent after the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate_path, made.key_path)
    received: list[bytes] = []

    def serve() -> None:
        plain, _ = listener.accept()
        with plain:
            try:
                with context.wrap_socket(plain, server_side=True) as connection:
                    received.append(connection.recv(100))
            except OSError:
                return  # the client has left

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], received
        thread.join()


def _send(port: int, context: ssl.SSLContext, name: str = "whatever") -> None:
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        connection.sendall(b"secret")


def test_it_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    assert pin_in(tmp_path) is None
    made = load_or_create_service_certificate(tmp_path, _NAMES)
    before = made.certificate_path.read_bytes()
    assert load_or_create_service_certificate(tmp_path, _NAMES[::-1]) == made
    assert made.certificate_path.read_bytes() == before
    assert stat.S_IMODE(made.key_path.stat().st_mode) == 0o600
    assert is_pin(made.pin)
    assert pin_in(tmp_path) == made.pin


def test_other_names_leave_the_pin_as_it_is(tmp_path: Path) -> None:
    made = load_or_create_service_certificate(tmp_path, _NAMES)
    before = made.certificate_path.read_bytes()
    assert load_or_create_service_certificate(tmp_path, ["other"]).pin == made.pin
    assert made.certificate_path.read_bytes() != before


def test_the_pinned_service_is_talked_to_under_any_name(tmp_path: Path) -> None:
    made = load_or_create_service_certificate(tmp_path, _NAMES)
    with _served(made) as (port, received):
        _send(port, PinnedContext(made.pin))
    assert received == [b"secret"]


def test_another_service_is_told_nothing(tmp_path: Path) -> None:
    other = load_or_create_service_certificate(tmp_path, _NAMES)
    refused = pytest.raises(ssl.SSLCertVerificationError, match="another key than the pinned")
    with _served(other) as (port, received), refused:
        _send(port, PinnedContext("0" * 64))
    assert received in ([], [b""])


def test_an_event_loop_is_as_strict(tmp_path: Path) -> None:
    made = load_or_create_service_certificate(tmp_path, _NAMES)

    async def send(port: int, pin: str) -> None:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=PinnedContext(pin), server_hostname="x"
        )
        writer.write(b"secret")
        await writer.drain()
        writer.close()

    with _served(made) as (port, received):
        asyncio.run(send(port, made.pin))
    assert received == [b"secret"]
    with _served(made) as (port, received), pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(send(port, "0" * 64))
    assert received in ([], [b""])


@pytest.mark.parametrize("name", _NAMES)
def test_the_file_is_an_authority_for_clients_that_check_names(tmp_path: Path, name: str) -> None:
    made = load_or_create_service_certificate(tmp_path, _NAMES)
    context = ssl.create_default_context(cafile=str(made.certificate_path))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with _served(made) as (port, received):
        _send(port, context, name)
    assert received == [b"secret"]


@pytest.mark.parametrize("name", ["tls-key.pem", "tls-certificate.pem"])
def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path, name: str) -> None:
    load_or_create_service_certificate(tmp_path, _NAMES)
    (tmp_path / name).write_text("?")
    with pytest.raises(ConfigurationError, match=rf"{name} is.*: remove it"):
        load_or_create_service_certificate(tmp_path, _NAMES)
