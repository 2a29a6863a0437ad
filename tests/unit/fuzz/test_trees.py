"""Changes of a message: they parse, and the same draw makes the same change."""

from __future__ import annotations

import random

import msgspec
import pytest

from fuzz.trees import CODECS, changed

_MESSAGE = {"a": [1, {"b": "text"}], "c": None}


@pytest.mark.parametrize("name", list(CODECS))
def test_what_is_changed_still_parses(name: str) -> None:
    codec = CODECS[name]
    before = codec.encode(_MESSAGE)
    after = [changed(before, codec, random.Random(seed), ("x",)) for seed in range(500)]
    kept = [data for data in after if data is not None]
    assert len(set(kept)) > 100
    for data in kept:
        codec.decode(data)


def test_a_draw_repeats() -> None:
    codec = CODECS["json"]
    first, second = (
        changed(msgspec.json.encode(_MESSAGE), codec, random.Random(7), ()) for _ in range(2)
    )
    assert first == second


def test_what_is_no_message_is_left_to_libfuzzer() -> None:
    assert changed(b"{", CODECS["json"], random.Random(1), ()) is None
