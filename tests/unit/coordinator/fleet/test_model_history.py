"""Which models were ever named, and when one was last served."""

from __future__ import annotations

import math

import pytest

from tandem.coordinator.fleet import model_history as module
from tandem.coordinator.fleet.model_history import ModelHistory
from tandem.protocol import ModelName

X, Y = frozenset({"x"}), frozenset({"y"})
A, B, C = (ModelName(name) for name in "abc")


def test_a_model_is_known_from_when_it_is_named_and_served_from_when_somebody_is_ready() -> None:
    history = ModelHistory()
    assert not history.knows(A)
    history.saw("x", [A], 1.0, served=False)
    assert history.knows(A)
    assert history.served_at(A, X) == -math.inf
    history.saw("x", [A], 2.0, served=True)
    history.saw("x", [A], 3.0, served=False)
    assert history.served_at(A, X) == 2.0


def test_only_what_is_served_is_remembered_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 1)
    history = ModelHistory()
    history.saw("x", [A, B], 1.0, served=False)
    assert (history.knows(A), history.knows(B)) == (True, False)
    history.saw("x", [C], 2.0, served=True)
    assert history.knows(C)


def test_what_one_account_names_another_does_not_know() -> None:
    history = ModelHistory()
    history.saw("x", [A], 1.0, served=True)
    assert (history.knows(A, X), history.knows(A, Y)) == (True, False)
    assert (history.served_at(A, X), history.served_at(A, Y)) == (1.0, -math.inf)
    history.saw("y", [A], 2.0, served=True)
    assert history.served_at(A, X | Y) == 2.0
