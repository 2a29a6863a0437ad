"""Secrets that people carry around."""

from __future__ import annotations

from tandem.security import new_api_key, new_join_token, same_secret


def test_tokens_are_long_and_never_twice_the_same() -> None:
    made = {make() for make in (new_api_key, new_join_token) for _ in range(100)}
    assert len(made) == 200
    assert all(len(token) >= 45 for token in made)
    assert same_secret("a", "a")
    assert not same_secret("a", "b")
