"""What has come of a request: what is left of it, and what it is billed."""

from __future__ import annotations

from tandem.coordinator.requests.produced import Produced
from tandem.protocol import Delta, FinishReason, Usage


def delta(index: int, *tokens: int, finish: FinishReason | None = None) -> Delta:
    return Delta(index, "", list(tokens), finish=finish)


def test_before_the_first_token_there_is_nothing_to_go_on_with() -> None:
    produced = Produced(2)
    assert produced.so_far(produced.next_turn(9)) == []
    assert produced.usage() == Usage(0, 0, 0)
    assert not produced.complete


def test_a_choice_that_has_finished_is_not_asked_for_again() -> None:
    produced = Produced(2)
    produced.add([delta(0, 1, 2), delta(1, 3, finish=FinishReason.STOP)])
    assert produced.so_far(produced.next_turn(9)) == [[1, 2], None]
    assert produced.unfinished == {0}
    produced.add([delta(0, finish=FinishReason.LENGTH)])
    assert produced.complete
    assert produced.tokens == 3
    assert (produced.of(0), produced.of(1)) == (2, 1)


def test_the_bill_counts_every_token_once_and_the_last_providers_cache() -> None:
    produced = Produced(1)
    assert produced.saw_prompt(7)
    produced.add([delta(0, 1, 2)])
    assert produced.usage() == Usage(7, 2, 0)
    # It found the prompt and what another had produced in its cache.
    assert produced.usage(Usage(7, 1, 9)) == Usage(7, 2, 7)


def test_where_providers_disagree_the_consumer_pays_for_the_fewer() -> None:
    produced = Produced(1)
    assert produced.saw_prompt(7)
    assert produced.saw_prompt(7)
    assert not produced.saw_prompt(9)
    assert not produced.saw_prompt(5)
    assert produced.usage(Usage(9, 0, 9)) == Usage(5, 0, 5)


def test_of_no_choices_nobody_can_tell_that_they_are_complete() -> None:
    assert not Produced(0).complete


def test_a_turn_has_those_that_have_begun_first_and_the_others_look_finished() -> None:
    produced = Produced(5)
    assert produced.next_turn(2) == {0, 1}
    assert produced.so_far(frozenset({0, 1})) == [[], [], None, None, None]
    produced.add([Delta(3, "", [7]), Delta(0, "", [1], finish=FinishReason.STOP)])
    turn = produced.next_turn(2)
    assert turn == {1, 3}
    assert produced.so_far(turn) == [None, [], None, [7], None]
    assert not produced.has_ended(turn)
    produced.add([Delta(i, "", [], finish=FinishReason.STOP) for i in turn])
    assert produced.has_ended(turn)
    assert not produced.complete
