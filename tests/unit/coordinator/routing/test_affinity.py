"""Which provider has seen the beginning of a prompt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.coordinator.routing import affinity as module
from tandem.coordinator.routing.affinity import Affinity, Cached
from tandem.protocol import (
    ChatMessage,
    ChatPrompt,
    ModelName,
    Prompt,
    ProviderId,
    TextPrompt,
    TokenPrompt,
)

MODEL = ModelName("m")
ONE, OTHER = ProviderId("one"), ProviderId("other")


def chat(*texts: str) -> ChatPrompt:
    return ChatPrompt([ChatMessage("user", text) for text in texts])


def test_another_account_has_other_digests_of_the_same_prompt() -> None:
    affinity = Affinity()
    affinity.remember(affinity.prefixes(MODEL, chat("a" * 90), "alice"), ONE)
    assert affinity.cached(affinity.prefixes(MODEL, chat("a" * 90), "bob")) is None
    assert affinity.cached(affinity.prefixes(MODEL, chat("a" * 90), "alice")) is not None


def test_the_next_turn_finds_who_had_the_turns_before() -> None:
    affinity = Affinity()
    affinity.remember(affinity.prefixes(MODEL, chat("a" * 90), "default"), ONE)
    found = affinity.cached(affinity.prefixes(MODEL, chat("a" * 90, "b" * 90), "default"))
    assert found is not None
    assert found.provider == ONE
    assert found.share == pytest.approx(0.5, abs=0.01)
    assert affinity.cached(affinity.prefixes(MODEL, chat("b" * 90, "a" * 90), "default")) is None
    assert affinity.cached(affinity.prefixes(ModelName("n"), chat("a" * 90), "default")) is None
    assert affinity.cached([]) is None


def test_the_longest_beginning_counts_and_the_newest_provider() -> None:
    affinity = Affinity()
    long, short = (
        affinity.prefixes(MODEL, chat(*texts), "default") for texts in (("a", "b"), ("a",))
    )
    affinity.remember(long, ONE)
    affinity.remember(short, OTHER)
    assert affinity.cached(long) == Cached(ONE, 1.0)
    assert affinity.cached(short) == Cached(OTHER, 1.0)
    affinity.remember(long, OTHER)
    assert affinity.cached(long) == Cached(OTHER, 1.0)


@pytest.mark.parametrize(
    ("whole", "beginning"),
    [
        (TextPrompt("x" * 2000), TextPrompt("x" * 1024)),
        (TokenPrompt(list(range(600))), TokenPrompt(list(range(256)))),
    ],
    ids=["text", "tokens"],
)
def test_text_is_remembered_in_blocks(whole: Prompt, beginning: Prompt) -> None:
    affinity = Affinity()
    affinity.remember(affinity.prefixes(MODEL, beginning, "default"), ONE)
    found = affinity.cached(affinity.prefixes(MODEL, whole, "default"))
    assert found is not None
    assert 0.4 < found.share < 0.6


def test_nothing_of_a_prompt_can_be_looked_up_without_the_processs_own_key() -> None:
    one, other = Affinity(), Affinity()
    assert one.prefixes(MODEL, chat("secret"), "default") != other.prefixes(
        MODEL, chat("secret"), "default"
    )


@given(st.lists(st.text(st.characters(), max_size=20), max_size=80))
def test_shares_grow_to_the_whole(texts: list[str]) -> None:
    """Also of text that is no valid Unicode; the longest prefixes are kept."""
    prefixes = Affinity().prefixes(MODEL, chat(*texts), "default")
    shares = [share for _, share in prefixes]
    assert shares == sorted(shares)
    assert len(prefixes) == min(64, len(texts))
    assert not texts or shares[-1] == 1.0


def test_what_was_used_longest_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 2)
    affinity = Affinity()
    first, second, third = (affinity.prefixes(MODEL, chat(text), "default") for text in "abc")
    affinity.remember(first, ONE)
    affinity.remember(second, ONE)
    affinity.remember(first, ONE)
    affinity.remember(third, ONE)
    assert [affinity.cached(p) is not None for p in (first, second, third)] == [True, False, True]


@pytest.mark.parametrize(
    "prompt",
    [
        chat("a" * 8_000_000),
        chat(*["a" * 4000] * 2000),
        TextPrompt("a" * 8_000_000),
        TokenPrompt([7] * 2_000_000),
    ],
    ids=["one message", "messages", "text", "tokens"],
)
def test_of_a_long_prompt_the_beginning_is_looked_at(prompt: Prompt) -> None:
    """The end is not even read: it may be anything."""
    affinity = Affinity()
    digests = affinity.prefixes(MODEL, prompt, "default")
    assert 0 < len(digests) <= 64
    affinity.remember(digests, ONE)
    found = affinity.cached(digests)
    assert found is not None
    assert 0.03 <= found.share <= 0.15
