"""Every token is taken from what the key has left before it is delivered."""

from __future__ import annotations

import pytest

from tandem.coordinator.requests.meter import Meter
from tandem.coordinator.requests.produced import Produced
from tandem.errors import BudgetExhausted
from tandem.protocol import Delta, FinishReason


class Purse:
    def __init__(self, left: int) -> None:
        self.left: int | None = left

    def take(self, tokens: int) -> bool:
        assert self.left is not None
        if tokens > self.left:
            return False
        self.left -= tokens
        return True


def delta(index: int, tokens: int, finish: FinishReason | None = None) -> Delta:
    return Delta(index, "", [7] * tokens, None, finish)


def test_what_there_is_nothing_left_for_is_not_delivered() -> None:
    meter = Meter(Purse(10))
    meter.take_prompt(4)
    first, second = delta(0, 3), delta(1, 3)
    assert meter.deliverable([first, second]) == [first, second]
    assert not meter.exhausted
    last = delta(0, 0, FinishReason.STOP)
    assert meter.deliverable([last]) == [last], "that it ends costs nothing"
    assert meter.deliverable([delta(1, 1), delta(1, 0)]) == []
    assert meter.exhausted


def test_a_prompt_is_paid_once_and_refused_when_it_alone_is_too_much() -> None:
    meter = Meter(Purse(10))
    meter.take_prompt(6)
    meter.take_prompt(6)
    assert meter.deliverable([delta(0, 4)])
    with pytest.raises(BudgetExhausted, match="the prompt has 11 tokens, and this key has 10 left"):
        Meter(Purse(10)).take_prompt(11)


def test_without_a_budget_everything_is_delivered() -> None:
    meter = Meter(None)
    meter.take_prompt(10**9)
    deltas = [delta(0, 10**6)]
    assert meter.deliverable(deltas) == deltas
    assert meter.most_output(None, Produced(1), 5) is None
    assert meter.most_output(7, Produced(1), 5) == 7


def test_a_provider_is_asked_for_what_is_left_over_the_choices() -> None:
    meter, produced = Meter(Purse(100)), Produced(4)
    assert meter.most_output(1000, produced, 20) == 20
    assert meter.most_output(5, produced, 20) == 5
    assert meter.most_output(None, produced, 20) is None
    meter.take_prompt(40)
    moved = [delta(0, 10), delta(1, 2, FinishReason.STOP)]
    produced.add(meter.deliverable(moved))
    assert meter.most_output(1000, produced, 20) == 10 + 48 // 3
    assert Meter(Purse(0)).most_output(9, Produced(1), 20) == 1
