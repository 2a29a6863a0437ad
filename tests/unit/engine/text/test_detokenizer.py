"""Streaming text: no half characters, and nothing lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine import Tokenizer, resolve_model
from tandem.engine.text.detokenizer import StreamDetokenizer

tokenizer = Tokenizer(resolve_model("tandem-demo"))


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        st.characters(exclude_categories=["Cs"]) | st.sampled_from("é漢🎉👨‍👩‍👧 \n"), max_size=30
    )
)
def test_pieces_of_a_text_are_whole_characters_and_add_up(text: str) -> None:
    ids = tokenizer.encode(text)
    detokenizer = StreamDetokenizer(tokenizer.decode)
    pieces = [detokenizer.feed(token) for token in ids] + [detokenizer.flush()]
    assert "".join(pieces) == tokenizer.decode(ids)
    if "\ufffd" not in text:
        assert all("\ufffd" not in piece for piece in pieces)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 2047), max_size=30))
def test_pieces_of_any_tokens_add_up(ids: list[int]) -> None:
    detokenizer = StreamDetokenizer(tokenizer.decode)
    pieces = [detokenizer.feed(token) for token in ids] + [detokenizer.flush()]
    assert "".join(pieces) == tokenizer.decode(ids)
