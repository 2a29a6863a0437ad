"""From bytes to a request: at worst an error that names the field."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.coordinator.api import decode
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


class Loose(msgspec.Struct):
    texts: list[str] = []
    lists: list[list[int]] = []
    numbers: list[int] = []


@pytest.mark.parametrize(
    ("field", "part", "most", "what"),
    [
        ("texts", b'"a"', 65_536, "texts"),
        ("lists", b"[   ]", 16_384, "lists and objects"),
        ("other", b"{   }", 16_384, "lists and objects"),
        ("numbers", b"300", 512 * 1024, "values"),
        ("other", b"0", 512 * 1024, "values"),
    ],
)
def test_a_body_of_too_many_parts_is_not_decoded(
    field: str, part: bytes, most: int, what: str
) -> None:
    decoder = RequestDecoder(Loose)

    def body(count: int) -> bytes:
        return b'{"%s":[' % field.encode() + b",".join([part] * count) + b"]}"

    decoder.decode(body(most - 10))
    with pytest.raises(InvalidRequest, match=f"{what}, more than {most}"):
        decoder.decode(body(most + 10))


def test_what_stands_in_a_text_is_none_of_a_bodys_parts() -> None:
    decoder = RequestDecoder(Loose)
    text = '[{"a": "\\"}, [1,2,3]], ' * 60_000 + "\\"
    body = json.dumps({"texts": [text, text]}).encode()
    assert decoder.decode(body) == Loose([text, text])


@given(st.lists(st.text(alphabet='\\"[{,a'), max_size=20))
def test_parts_are_counted_outside_of_texts_alone(texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_SMALL_BODY", 0), ("_MAX_CONTAINERS", 2), ("_MAX_VALUES", 19)):
            patch.setattr(decode, name, value)
        patch.setattr(decode, "_MAX_TEXTS", len(texts) + 1)
        body = json.dumps({"texts": texts}).encode()
        assert RequestDecoder(Loose).decode(body) == Loose(texts)


def test_an_unknown_field_is_named_in_short() -> None:
    with pytest.raises(InvalidRequest) as refused:
        DECODER.decode(json.dumps({"name": "n", "x" * 100_000: 1}).encode())
    assert len(refused.value.message) < 200
