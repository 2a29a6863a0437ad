"""Whoever has had least is next: by tokens used, in few steps, and nobody is starved."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulation.steps import lines

from tandem.coordinator.routing.fair_queue import FairQueue, QueueFull
from tandem.coordinator.routing.shares import Charge, Share

Item = tuple[str, int]  # key, number within the key


class Served:
    """A queue with the shares of its keys, and what is under way: at most `places` at once."""

    def __init__(self, places: int = 1, limit: int = 10_000) -> None:
        self.queue: FairQueue[Item] = FairQueue(limit)
        self.shares: dict[str, Share] = defaultdict(Share)
        self.places = places
        self.running: list[tuple[Charge, int]] = []
        self.got: Counter[str] = Counter()

    def push(self, key: str, number: int) -> Item | None:
        return self.queue.push(key, self.shares[key], (key, number))

    def serve(self, estimated: int, used: int) -> Item:
        """The next one gets its place; when there is none left the oldest ends before."""
        if len(self.running) == self.places:
            charge, total = self.running.pop(0)
            charge.settle(total)
        ((share, item),) = self.queue.heads(1)
        self.queue.take(item[0], item)
        self.running.append((share.charge(estimated), used))
        self.got[item[0]] += used
        return item


sizes = st.integers(1, 400) | st.integers(1, 2**50)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(0, 400)), min_size=1, max_size=200),
    st.integers(1, 5),
)
def test_busy_keys_get_the_same_number_of_tokens_whatever_was_estimated(
    requests: list[tuple[int, int]], places: int
) -> None:
    """As long as keys have something waiting, none is ahead by more than what is under way."""
    served = Served(places)
    for key in "abcd":
        for number in range(len(requests)):
            served.push(key, number)
    # One request's estimate, and on both sides the errors of all that are under way.
    bound = (2 * places + 1) * 400
    last: dict[str, int] = {}
    for estimated, used in requests:
        key, number = served.serve(estimated, used)
        assert number == last.get(key, -1) + 1, "a key's own requests keep their order"
        last[key] = number
        got = [served.got[k] for k in "abcd"]
        assert max(got) - min(got) <= bound


def test_long_answers_and_short_ones_get_the_same() -> None:
    """The length is nobody's promise: both ask alike, and one gets 1,900 tokens each time."""
    served = Served(places=8, limit=20_000)
    for key in "HL":
        for number in range(10_000):
            served.push(key, number)
    for _ in range(9_000):
        ((_, (key, _number)),) = served.queue.heads(1)
        served.serve(200, 1900 if key == "H" else 16)
    assert 0.9 < served.got["H"] / served.got["L"] < 1.2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), sizes, sizes), min_size=1, max_size=60))
def test_something_is_always_next_and_everything_is_served_once(
    requests: list[tuple[str, int, int]],
) -> None:
    served = Served(places=2)
    for number, (key, _, _) in enumerate(requests):
        served.push(key, number)
    taken = []
    while len(served.queue):
        (_, (_, number)), *_ = served.queue.heads(1)
        _, estimated, used = requests[number]
        taken.append(served.serve(estimated, used))
    assert sorted(taken) == sorted((key, n) for n, (key, _, _) in enumerate(requests))


def test_a_key_that_was_away_has_saved_nothing() -> None:
    served = Served()
    for number in range(300):
        served.push("busy", number)
    for _ in range(100):
        served.serve(100, 100)
    for number in range(300):
        served.push("new", number)
    served.got.clear()
    for _ in range(100):
        served.serve(100, 100)
    assert abs(served.got["new"] - served.got["busy"]) <= 200


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["push", "serve", "discard", "ahead"])),
        max_size=80,
    )
)
def test_the_queue_never_grows_over_its_limit_and_loses_nothing(
    steps: list[tuple[str, str]],
) -> None:
    served = Served(limit=6)
    inside: list[Item] = []
    ahead: list[Item] = []
    for number, (key, what) in enumerate(steps):
        if what == "push":
            try:
                evicted = served.push(key, number)
            except QueueFull:
                counts = Counter(entry[0] for entry in inside)
                assert len(inside) == 6
                assert max(counts.values()) <= counts[key] + 1
                continue
            inside.append((key, number))
            if evicted is not None:
                inside.remove(evicted)
        elif what == "ahead":
            served.queue.push_ahead(served.shares[key], (key, number))
            ahead.append((key, number))
        elif what == "serve" and len(served.queue):
            taken = served.serve(10, 10)
            if ahead:
                assert taken == ahead.pop(0)
            else:
                inside.remove(taken)
        elif what == "discard":
            mine = next((entry for entry in inside + ahead if entry[0] == key), None)
            if mine is not None:
                assert served.queue.discard(key, mine)
                (ahead if mine in ahead else inside).remove(mine)
        assert len(inside) <= 6
        assert sorted(served.queue.items()) == sorted(inside + ahead)
        assert len(served.queue) == len(inside) + len(ahead)
        assert served.queue.keys == len({key for key, _ in inside})


def test_the_heads_are_one_a_key_and_those_ahead_come_first() -> None:
    served = Served()
    for key, had in (("a", 30), ("b", 10), ("c", 20)):
        served.shares[key].charge(had)
        for number in range(2):
            served.push(key, number)
    served.queue.push_ahead(served.shares["a"], ("a", 9))
    heads = [item for _, item in served.queue.heads(3)]
    assert heads == [("a", 9), ("b", 0), ("c", 0)]
    assert [item for _, item in served.queue.heads(9)] == [*heads, ("a", 0)]


def test_what_is_given_back_counts_at_once() -> None:
    served = Served()
    charge = served.shares["a"].charge(100)
    served.shares["b"].charge(50)
    for key in "ab":
        served.push(key, 0)
    assert served.queue.heads(1)[0][1] == ("b", 0)
    charge.settle(10)
    assert served.queue.heads(1)[0][1] == ("a", 0)


def test_one_key_cannot_keep_others_out() -> None:
    served = Served(limit=4)
    for number in range(4):
        assert served.push("greedy", number) is None
    with pytest.raises(QueueFull):
        served.push("greedy", 9)
    assert served.push("modest", 0) == ("greedy", 3)
    assert ("modest", 0) in [served.serve(10, 10), served.serve(10, 10)]


def test_an_item_that_is_not_there_is_not_discarded() -> None:
    queue: FairQueue[Item] = FairQueue(limit=4)
    assert not queue.discard("a", ("a", 0))
    assert queue.heads(1) == []


def test_what_waits_and_what_it_costs_takes_no_more_steps() -> None:
    """Lines of Python that ran, for all that may happen to a queue, and for its worst moments."""
    few, many = _steps(items=16, cost=1), _steps(items=4096, cost=2**62)
    for what, steps in few.items():
        # Twelve levels of a heap in place of four, which run in C.
        assert many[what] <= 2 * steps + 20, what


def _steps(*, items: int, cost: int) -> dict[str, int]:
    served, draw = Served(limit=items), random.Random(5)
    for number in range(items):
        served.shares[f"key {number}"].charge(draw.randrange(cost))
        served.push(f"key {number % (items // 4)}", number)
    charge = served.shares["key 0"].charge(cost)
    served.queue.heads(1)
    return {
        "next": lines(lambda: served.queue.heads(1)),
        "some": lines(lambda: served.queue.heads(4)),
        "serve": lines(lambda: served.serve(cost, cost)),
        "settle": lines(lambda: charge.settle(0)),
        "discard": lines(lambda: served.queue.discard("key 1", ("key 1", 1))),
        "push": lines(lambda: served.push("key 1", -1)),
        "evict": lines(lambda: [served.push("other", -n) for n in range(1, 3)]),
    }


def test_that_all_are_cancelled_at_once_takes_each_the_same_steps() -> None:
    def steps(items: int) -> int:
        served = Served(limit=items)
        for number in range(items):
            served.push(f"key {number % 3}", number)
        return lines(
            lambda: [
                served.queue.discard(f"key {n % 3}", (f"key {n % 3}", n)) for n in range(items)
            ]
        )

    assert steps(1024) <= 1.1 * 16 * steps(64)
