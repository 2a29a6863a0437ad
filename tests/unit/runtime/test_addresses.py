"""Addresses as people write them and as the kernel names them, of both families."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.runtime import (
    address_text,
    free_port,
    host_of,
    is_link_local,
    is_loopback,
    is_own_network,
    listen_on,
    parse_address,
)

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="a machine without IPv6")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.2:7700", ("10.0.0.2", 7700)),
        ("box.local:0", ("box.local", 0)),
        (":7700", ("", 7700)),
        ("[::]:7700", ("::", 7700)),
        ("[::1]:7700", ("::1", 7700)),
        ("[fe80::1%eth0]:7700", ("fe80::1%eth0", 7700)),
    ],
)
def test_an_address_is_read_as_it_is_written(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address
    assert address_text(*address) == text


@pytest.mark.parametrize(
    "text",
    ["", "7700", "host", "host:", "host:x", "host:65536", "::1:7700", "[::1]", "[host]:1", "[]:1",
     "h[:1", "host:\u0661"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_address(text)


@given(st.text(max_size=40))
def test_whatever_is_written_is_an_address_or_refused(text: str) -> None:
    try:
        host, port = parse_address(text)
    except ValueError:
        return
    assert parse_address(address_text(host, port)) == (host, port)


@pytest.mark.parametrize(
    ("name", "host"),
    [
        (("10.0.0.2", 1), "10.0.0.2"),
        (("::1", 1, 0, 0), "::1"),
        (("fe80::1", 1, 0, 3), "fe80::1%3"),
        (("fe80::1%eth0", 1, 0, 3), "fe80::1%eth0"),
        (("::ffff:10.0.0.2", 1, 0, 0), "10.0.0.2"),
    ],
)
def test_a_sockets_name_is_a_host_that_can_be_dialled(
    name: tuple[str | int, ...], host: str
) -> None:
    assert host_of(name) == host


def test_link_local_hosts_are_known_as_such() -> None:
    assert is_link_local("fe80::1%eth0")
    assert is_link_local("169.254.1.1")
    assert not is_link_local("10.0.0.2")
    assert not is_link_local("box.local")


@needs_ipv6
@pytest.mark.parametrize("host", ["", "::"])
def test_all_addresses_are_those_of_both_families(host: str) -> None:
    with listen_on(host, 0) as listener:
        port = listener.getsockname()[1]
        for own in ("127.0.0.1", "::1"):
            socket.create_connection((own, port)).close()
            accepted, name = listener.accept()
            accepted.close()
            assert host_of(name) == own


@needs_ipv6
def test_one_ipv6_address_is_listened_on() -> None:
    port = free_port("::1")
    with listen_on("::1", port):
        socket.create_connection(("::1", port)).close()
        with pytest.raises(OSError, match=r".*"):
            socket.create_connection(("127.0.0.1", port))


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(OSError, match=r".*"):
        listen_on("192.0.2.77", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "a.localhost"])
def test_this_machine_is_known_by_its_own_addresses(host: str) -> None:
    assert is_loopback(host)
    assert is_own_network(host)


@pytest.mark.parametrize(
    "host",
    [
        *("10.1.2.3", "192.168.0.9", "100.64.0.7", "fe80::1%eth0", "fd00::2", "::ffff:10.0.0.2"),
        *("box", "gpu.local", "nas.lan"),
    ],
)
def test_machines_of_this_network_need_no_proxy(host: str) -> None:
    assert is_own_network(host)
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1111", "llm.example.org"])
def test_the_world_outside_is_told_apart(host: str) -> None:
    assert not is_own_network(host)
