from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.client.sse import MAX_EVENT_BYTES, SseDecoder
from tandem.errors import ProtocolError

_LINE_ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
#: Anything that may stand on one line; U+0085 and U+2028 are text here, though not to splitlines.
_TEXT = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]))


def _cut(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(body) + 1) for cut in cuts})
    edges = [0, *places, len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


def _decode(pieces: list[bytes]) -> list[bytes]:
    decoder = SseDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


@given(st.lists(_TEXT, max_size=8), _LINE_ENDS, st.lists(st.integers(min_value=0)))
def test_events_survive_any_line_end_and_any_cut(
    payloads: list[str], line_end: bytes, cuts: list[int]
) -> None:
    body = b"".join(b"data: " + text.encode() + line_end * 2 for text in payloads)
    assert _decode(_cut(body, cuts)) == [text.encode() for text in payloads]


@given(st.binary(max_size=400), st.lists(st.integers(min_value=0)))
def test_the_cut_never_changes_what_is_decoded(body: bytes, cuts: list[int]) -> None:
    assert _decode(_cut(body, cuts)) == _decode([body])


def test_data_lines_of_one_event_are_joined() -> None:
    assert _decode([b"data: one\ndata: two\n\n"]) == [b"one\ntwo"]


def test_comments_and_other_fields_are_dropped() -> None:
    assert _decode([b": ping\n\nevent: x\nid: 1\ndata:no space\nretry: 5\n\n"]) == [b"no space"]


def test_who_wants_comments_is_told_each_as_it_comes() -> None:
    comments: list[bytes] = []
    decoder = SseDecoder(comments.append)
    assert decoder.feed(b": ping\n:two\ndata: x\n: three") == []
    assert comments == [b" ping", b"two"]
    assert decoder.feed(b"\n\n") == [b"x"]
    assert comments == [b" ping", b"two", b" three"]


def test_an_event_without_its_empty_line_is_not_delivered() -> None:
    assert _decode([b"data: half"]) == []


def test_a_crlf_cut_in_the_middle_ends_one_line() -> None:
    assert _decode([b"data: one\r", b"\ndata: two\r", b"\n\r", b"\n"]) == [b"one\ntwo"]


@pytest.mark.parametrize(
    "endless", [b"data: " + b"x" * MAX_EVENT_BYTES, b"data: xxxxxxxx\n" * 600_000]
)
def test_an_endless_event_is_refused(endless: bytes) -> None:
    with pytest.raises(ProtocolError, match="event over"):
        SseDecoder().feed(endless)
