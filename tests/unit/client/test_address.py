from __future__ import annotations

import errno
import socket

import pytest

from tandem.client.address import (
    api_base_url,
    cannot_listen,
    choose_port,
    http_url,
    is_beside_us,
    local_host,
    split_pin,
    websocket_url,
    with_pin,
)
from tandem.errors import ConfigurationError
from tandem.runtime import DEFAULT_PORT


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("localhost:8000", "http://localhost:8000/v1"),
        ("http://10.0.0.1:8000", "http://10.0.0.1:8000/v1"),
        ("http://10.0.0.1:8000/v1/", "http://10.0.0.1:8000/v1"),
        (" https://llm.example.org/tandem/v1 ", "https://llm.example.org/tandem/v1"),
        ("[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_base_urls_are_taken_as_people_write_them(written: str, meant: str) -> None:
    assert api_base_url(written) == meant


@pytest.mark.parametrize("written", ["", "ftp://x", "http://", "http://host:port", "http://[::1"])
def test_other_base_urls_are_refused_with_an_example(written: str) -> None:
    with pytest.raises(ConfigurationError, match=r"use one like http://"):
        api_base_url(written)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("192.168.1.10:8000", "ws://192.168.1.10:8000"),
        ("http://host:1/", "ws://host:1"),
        ("HTTPS://host", "wss://host"),
        ("wss://host/path", "wss://host/path"),
    ],
)
def test_coordinator_addresses_become_websocket_urls(written: str, meant: str) -> None:
    assert websocket_url(written) == meant


@pytest.mark.parametrize("written", ["", "://", "ftp://x", "ws://", "ws:///"])
def test_other_coordinator_addresses_are_refused(written: str) -> None:
    with pytest.raises(ConfigurationError, match="no address of a coordinator"):
        websocket_url(written)


def test_hosts_become_urls_and_wildcards_are_reached_locally() -> None:
    assert http_url("::1", 80) == "http://[::1]:80"
    assert http_url(local_host("0.0.0.0"), 80) == "http://127.0.0.1:80"
    assert local_host("10.0.0.1") == "10.0.0.1"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:1", True),
        ("http://[::1]:1/v1", True),
        ("https://10.0.0.1", True),
        ("https://gpu-box:8000/v1", True),
        ("http://example.org", False),
        ("http://8.8.8.8", False),
    ],
)
def test_machines_of_this_network_are_recognised(url: str, *, expected: bool) -> None:
    assert is_beside_us(url) is expected


_DIGITS = "0123456789abcdef" * 4


def test_an_address_carries_a_pin() -> None:
    written = with_pin("https://box:8000/v1", _DIGITS)
    assert split_pin(f" {written} ") == ("https://box:8000/v1", _DIGITS)
    assert with_pin("http://box", None) == "http://box"
    assert split_pin("http://box") == ("http://box", None)


def test_a_cut_pin_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not whole"):
        split_pin(with_pin("https://box", _DIGITS[:40]))


def test_who_has_a_pin_speaks_tls() -> None:
    assert api_base_url("box:8000", tls=True) == "https://box:8000/v1"
    assert api_base_url("HTTP://box:8000", tls=True) == "https://box:8000/v1"
    assert websocket_url("box:8000", tls=True) == "wss://box:8000"
    assert websocket_url("http://box:8000", tls=True) == "wss://box:8000"


def test_a_busy_port_that_was_asked_for_is_an_error_that_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} .* in use.*--port"):
            choose_port("127.0.0.1", port)
    assert choose_port("127.0.0.1", port) == port


def test_a_busy_default_port_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr("tandem.client.address.DEFAULT_PORT", server.getsockname()[1])
        assert choose_port("127.0.0.1", None) == 0
    assert DEFAULT_PORT == 8000


def test_a_host_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="--host"):
        choose_port("no such host", 0)


def test_other_listening_problems_name_the_options() -> None:
    assert "--host" in cannot_listen("10.0.0.1", 80, errno.EACCES).message
