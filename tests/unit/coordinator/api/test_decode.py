"""From bytes to a request: at worst an error that names the field."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.coordinator.api.decode import RequestDecoder
from tandem.errors import InvalidRequest


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    size: int


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parts: list[Inner] = []


DECODER = RequestDecoder(Outer)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": 1}, "name"),
        ({"name": "n", "nmae": 1}, "nmae"),
        ({"name": "n", "parts": [{"size": "big"}]}, "parts[].size"),
        ({"name": "n", "parts": [{}]}, "parts[].size"),
        ({"name": "n", "parts": [{"size": 1, "colour": 2}]}, "parts[].colour"),
        ([], None),
    ],
)
def test_the_field_is_named(body: object, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        DECODER.decode(json.dumps(body).encode())
    found = refused.value.param
    assert (found and found.replace("[0]", "[]")) == (param and param.replace("[0]", "[]"))
    assert refused.value.message.startswith(found or "the body")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'"\xff"', b"[" * 100_000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the body"):
        DECODER.decode(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_an_error(body: bytes) -> None:
    try:
        DECODER.decode(body)
    except InvalidRequest:
        return


@given(st.text(), st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_what_is_right_comes_through(name: str, sizes: list[int]) -> None:
    body = json.dumps({"name": name, "parts": [{"size": size} for size in sizes]}).encode()
    assert DECODER.decode(body) == Outer(name, [Inner(size) for size in sizes])
