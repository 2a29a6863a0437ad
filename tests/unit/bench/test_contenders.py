"""Contenders take turns, each in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem.bench import BenchmarkFailed, Contender, Job, Times
from tandem.bench.contenders import Running, take_turns

JOB = Job(Path(), Path(), 1)


class Counting:
    """Says how often it was asked."""

    def __init__(self, _: Job) -> None:
        self._asked = 0

    def generate(self, prompts: list[list[int]], tokens: int) -> Times:
        self._asked += 1
        return Times(float(self._asked), float(len(prompts) * tokens))


class Failing(Counting):
    def generate(self, prompts: list[list[int]], tokens: int) -> Times:
        raise SystemExit(len(prompts) + tokens)


def _measure(one: Running, salt: int) -> tuple[str, Times]:
    return f"{one.contender.title} {salt}", one.generate([[1]], salt)


def test_each_is_asked_once_a_round_in_turn() -> None:
    contenders = [Contender(name, "kind", "sys", Counting) for name in ("first", "second")]
    said: list[str] = []
    turns = take_turns(contenders, JOB, 2, _measure, said.append)
    assert said == [
        "loading first kind",
        "loading second kind",
        "round 1 of 2: first kind",
        "round 1 of 2: second kind",
        "round 2 of 2: first kind",
        "round 2 of 2: second kind",
    ]
    for one in turns:
        title = one.contender.title
        assert one.taken == [(f"{title} 0", Times(1, 0)), (f"{title} 1", Times(2, 1))]
        assert one.memory_mib > 0


def test_one_that_ends_without_an_answer_fails_the_benchmark() -> None:
    with pytest.raises(BenchmarkFailed, match="without an answer"):
        take_turns([Contender("a", "b", "sys", Failing)], JOB, 1, _measure, lambda _: None)
