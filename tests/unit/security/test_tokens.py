"""Secrets that people carry around."""

from __future__ import annotations

import pytest

from tandem.errors import ConfigurationError
from tandem.security import new_api_key, new_join_token, same_secret, split_pin, with_pin


def test_tokens_are_long_and_never_twice_the_same() -> None:
    made = {make() for make in (new_api_key, new_join_token) for _ in range(100)}
    assert len(made) == 200
    assert all(len(token) >= 45 for token in made)
    assert same_secret("a", "a")
    assert not same_secret("a", "b")


def test_a_join_token_carries_a_pin() -> None:
    token, pin = new_join_token(), "0123456789abcdef" * 4
    assert split_pin(with_pin(token, pin)) == (token, pin)
    assert split_pin(f" {token}\n") == (token, None)
    with pytest.raises(ConfigurationError, match="not whole"):
        split_pin(with_pin(token, pin)[:-1])
