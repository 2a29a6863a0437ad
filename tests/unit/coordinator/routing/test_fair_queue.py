"""Deficit round robin: nobody is starved, nobody overtakes within a key, and the bound holds."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.coordinator.routing.fair_queue import FairQueue, QueueFull

QUANTUM = 100
Item = tuple[str, int, int]  # key, number within the key, cost


def take(queue: FairQueue[Item]) -> Item:
    shown = queue.peek()
    assert shown is not None
    taken = queue.pop()
    assert taken is shown
    return taken


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 400)), min_size=1, max_size=120))
def test_busy_keys_get_the_same_number_of_tokens(requests: list[tuple[str, int]]) -> None:
    """As long as two keys have something waiting, neither is ahead by more than the bound."""
    queue: FairQueue[Item] = FairQueue(limit=1000, quantum=QUANTUM)
    left: Counter[str] = Counter()
    for number, (key, cost) in enumerate(requests):
        queue.push(key, (key, number, cost), cost)
        left[key] += 1
    served: Counter[str] = Counter()
    last: dict[str, int] = {}
    bound = 2 * (QUANTUM + 400)
    while len(queue):
        key, number, cost = take(queue)
        assert number > last.get(key, -1), "a key's own requests keep their order"
        last[key] = number
        served[key] += cost
        left[key] -= 1
        busy = [k for k in left if left[k]]
        for one in busy:
            for other in busy:
                assert abs(served[one] - served[other]) <= bound
    assert sum(served.values()) == sum(cost for _, cost in requests)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["push", "pop", "discard"])),
        max_size=80,
    )
)
def test_the_queue_never_grows_over_its_limit_and_loses_nothing(
    steps: list[tuple[str, str]],
) -> None:
    queue: FairQueue[Item] = FairQueue(limit=6, quantum=QUANTUM)
    inside: list[Item] = []
    for number, (key, what) in enumerate(steps):
        if what == "push":
            item = (key, number, 10)
            try:
                evicted = queue.push(key, item, 10)
            except QueueFull:
                counts = Counter(entry[0] for entry in inside)
                assert len(inside) == 6
                assert max(counts.values()) <= counts[key] + 1
                continue
            inside.append(item)
            if evicted is not None:
                inside.remove(evicted)
        elif what == "pop" and len(queue):
            inside.remove(take(queue))
        elif what == "discard":
            mine = next((entry for entry in inside if entry[0] == key), None)
            if mine is not None:
                assert queue.discard(key, mine)
                inside.remove(mine)
        assert len(queue) == len(inside) <= 6
    assert sorted(take(queue) for _ in range(len(queue))) == sorted(inside)


def test_one_key_cannot_keep_others_out() -> None:
    queue: FairQueue[Item] = FairQueue(limit=4, quantum=QUANTUM)
    greedy = [("greedy", number, 10) for number in range(4)]
    for item in greedy:
        assert queue.push("greedy", item, 10) is None
    with pytest.raises(QueueFull):
        queue.push("greedy", ("greedy", 9, 10), 10)
    modest = ("modest", 0, 10)
    assert queue.push("modest", modest, 10) is greedy[-1]
    assert modest in [take(queue), take(queue)]


def test_an_item_that_is_not_there_is_not_discarded() -> None:
    queue: FairQueue[Item] = FairQueue(limit=4)
    assert not queue.discard("a", ("a", 0, 1))
    assert queue.peek() is None
