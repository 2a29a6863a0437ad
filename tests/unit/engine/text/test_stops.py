"""Stop strings end a text before them, wherever the pieces of it are cut."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine.text.stops import StopMatcher

words = st.text("abc ", min_size=1, max_size=4)


@settings(max_examples=500, deadline=None)
@given(pieces=st.lists(st.text("abc ", max_size=5), max_size=12), stops=st.lists(words, max_size=3))
def test_text_ends_before_the_first_stop_string(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    emitted, whole = "", ""
    for piece in pieces:
        whole += piece
        emitted += matcher.feed(piece)
        assert whole.startswith(emitted)
        assert not any(stop in emitted for stop in stops)
        if matcher.stopped:
            break
    found = [whole.find(stop) for stop in stops if stop in whole]
    assert matcher.stopped == bool(found)
    if found:
        assert emitted == whole[: min(found)]
    else:
        assert emitted + matcher.flush() == whole
