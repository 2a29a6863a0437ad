"""Stop strings end a text before them, wherever the pieces of it are cut."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine.text.stops import StopMatcher, StopStrings

words = st.text("abc ", min_size=1, max_size=4)


@settings(max_examples=500, deadline=None)
@given(pieces=st.lists(st.text("abc ", max_size=5), max_size=12), stops=st.lists(words, max_size=9))
def test_text_ends_before_the_first_stop_string(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(StopStrings(stops))
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


@given(st.text("ab", min_size=1, max_size=8), st.lists(st.text("ab", min_size=1, max_size=6)))
def test_the_longest_that_ends_and_whether_any_begins(text: str, stops: list[str]) -> None:
    found = StopStrings(stops)
    for end in range(1, len(text) + 1):
        assert found.ending(text, end) == max(
            (len(stop) for stop in stops if text[:end].endswith(stop)), default=0
        )
        assert found.begin_with(text[:end]) == any(stop.startswith(text[:end]) for stop in stops)


class _Counted(StopStrings):
    """Counts how often it is searched."""

    searches = 0

    def ending(self, text: str, end: int) -> int:
        self.searches += 1
        return super().ending(text, end)

    def begin_with(self, text: str) -> bool:
        self.searches += 1
        return super().begin_with(text)


@given(st.lists(st.text("ab", max_size=6), max_size=60), st.lists(words, max_size=5))
def test_a_character_costs_three_searches_however_many_strings_there_are(
    pieces: list[str], stops: list[str]
) -> None:
    """One for what ends there, and over the whole text two for what is held back."""
    found = _Counted([*stops, "a" * 40, "ab" * 20])
    matcher = StopMatcher(found)
    for piece in pieces:
        if not matcher.stopped:
            matcher.feed(piece)
    assert found.searches <= 3 * len("".join(pieces)) + len(pieces)
