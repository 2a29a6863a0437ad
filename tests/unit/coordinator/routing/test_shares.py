"""What each key has had: charged by estimate, settled by use, never saved up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tandem.coordinator.routing import shares
from tandem.coordinator.routing.shares import Share, Shares


def test_in_the_end_a_request_is_charged_with_what_it_used() -> None:
    share = Share()
    charges = [share.charge(100), share.charge(100)]
    assert share.used == 200
    charges[0].at_least(50)
    assert share.used == 200, "an estimate stands until more is used"
    charges[0].at_least(300)
    assert share.used == 400, "more counts at once"
    charges[0].settle(310)
    charges[1].settle(7)
    assert share.used == 317


@given(st.lists(st.tuples(st.integers(0, 2**64), st.integers(0, 2**64))))
def test_whatever_was_estimated_what_was_used_is_what_counts(
    requests: list[tuple[int, int]],
) -> None:
    share = Share()
    under_way = [(share.charge(estimated), used) for estimated, used in requests]
    for charge, used in under_way:
        charge.settle(used)
    assert share.used == sum(used for _, used in requests)


def test_a_key_that_comes_back_has_saved_nothing_and_still_owes_what_it_had_too_much() -> None:
    modest, greedy = Share(), Share()
    before = modest.charge(500)
    greedy.charge(5000)
    modest.lift(1000)
    greedy.lift(1000)
    assert (modest.used, greedy.used) == (1000, 5000)
    before.settle(1)
    assert modest.used == 1000, "what was charged before it was lifted is no credit"
    late = greedy.charge(10)
    late.settle(0)
    assert greedy.used == 5000
    greedy.lift(4990)
    greedy.charge(0).settle(0)
    greedy.give_back(500)
    assert greedy.used == 4990, "nobody falls behind the level at which they came back"


def test_only_so_many_keys_and_models_are_remembered() -> None:
    known = Shares()
    for number in range(shares._MAX_MODELS + 5):
        known.of(f"model {number}")
    assert len(known._models) == shares._MAX_MODELS
    of_model = known.of("m")
    for number in range(shares._MAX_KEYS + 5):
        of_model.of(f"key {number}")
    assert len(of_model._shares) == shares._MAX_KEYS


def test_who_waits_is_not_forgotten() -> None:
    of_model = Shares().of("m")
    kept = [of_model.of(f"key {number}") for number in range(shares._MAX_KEYS)]
    for share in kept:
        share.on_less["queue"] = lambda: None
    newest = of_model.of("one more")
    assert of_model.of("one more") is newest
    del kept[7].on_less["queue"]
    of_model.of("and another")
    assert [of_model.of(f"key {number}") is share for number, share in enumerate(kept)].count(
        False
    ) == 1
