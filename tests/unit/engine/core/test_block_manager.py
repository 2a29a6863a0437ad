"""Blocks of the KV cache: counted, shared by prefix, forgotten when they cannot be trusted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine import SamplingParams
from tandem.engine.core import block_manager
from tandem.engine.core.block_manager import BlockManager, _chain
from tandem.engine.core.sequence import Sequence

SIZE = 4


def sequence(tokens: list[int], number: int = 0, scope: bytes = b"") -> Sequence:
    return Sequence(number, number, 0, tokens, SamplingParams(max_tokens=9), len(tokens), scope)


def computed(
    blocks: BlockManager, tokens: list[int], number: int = 0, scope: bytes = b""
) -> Sequence:
    """A sequence whose tokens are all in the cache."""
    found = sequence(tokens, number, scope)
    blocks.match_prefix(found)
    blocks.grow(found, len(tokens))
    found.computed = found.planned = len(tokens)
    blocks.remember(found)
    return found


def test_room_is_counted_in_blocks() -> None:
    blocks = BlockManager(3, SIZE)
    assert [blocks.blocks_for(tokens) for tokens in (0, 1, 4, 5)] == [0, 1, 1, 2]
    one = sequence([1])
    assert blocks.can_hold(one, 12)
    assert not blocks.can_hold(one, 13)
    assert not blocks.can_hold(one, 12, spare=1)
    blocks.grow(one, 5)
    assert (len(one.blocks), blocks.free) == (2, 1)
    blocks.release(one)
    assert (one.blocks, blocks.free) == ([], 3)


def test_a_known_prefix_is_shared_while_it_is_in_use_and_after() -> None:
    blocks = BlockManager(6, SIZE)
    prompt = list(range(9))
    first = computed(blocks, prompt, 1)
    second = sequence([*prompt[:8], 77], 2)
    blocks.match_prefix(second)
    assert second.blocks == first.blocks[:2]
    assert second.computed == second.planned == 8
    blocks.check([first, second])
    shared = list(second.blocks)
    blocks.release(first)
    blocks.release(second)
    blocks.check([])
    third = sequence(prompt, 3)
    blocks.match_prefix(third)
    assert third.blocks == shared


def test_a_prefix_is_known_in_its_own_scope_alone() -> None:
    blocks = BlockManager(20, SIZE)
    prompt = list(range(9))
    scopes = [b"", b"one", b"another", bytes(16)]
    for number, scope in enumerate(scopes):
        found = sequence(prompt, number, scope)
        blocks.match_prefix(found)
        assert (found.blocks, found.computed) == ([], 0), "nobody of this scope has asked yet"
        blocks.release(computed(blocks, prompt, number, scope))
    for number, scope in enumerate(scopes):
        found = sequence(prompt, number, scope)
        blocks.match_prefix(found)
        assert found.computed == 8
        blocks.release(found)
    blocks.check([])


@given(st.lists(st.binary(max_size=20), max_size=12))
def test_a_guess_from_another_scope_never_hits(asked: list[bytes]) -> None:
    blocks = BlockManager(8, SIZE)
    for scope in asked:
        found = computed(blocks, [1, 2, 3, 4, 5], scope=scope)
        known = sequence([1, 2, 3, 4, 5], scope=scope)
        blocks.match_prefix(known)
        assert known.computed == 4
        blocks.release(known)
        stranger = sequence([1, 2, 3, 4, 5], scope=b"longer than any of those" + scope)
        blocks.match_prefix(stranger)
        assert not stranger.blocks
        blocks.release(found)


def test_the_last_token_is_always_left_to_compute() -> None:
    blocks = BlockManager(4, SIZE)
    blocks.release(computed(blocks, [1, 2, 3, 4]))
    again = sequence([1, 2, 3, 4])
    blocks.match_prefix(again)
    assert (again.blocks, again.computed) == ([], 0)
    assert [blocks.reusable(tokens) for tokens in (1, 4, 5, 8, 9)] == [0, 0, 4, 4, 8]


def test_a_block_depends_on_all_tokens_before_it() -> None:
    blocks = BlockManager(6, SIZE)
    blocks.release(computed(blocks, [1, 2, 3, 4, 5, 6, 7, 8, 9]))
    other = sequence([0, 2, 3, 4, 5, 6, 7, 8, 9])
    blocks.match_prefix(other)
    assert other.blocks == []


def test_a_prompt_that_waits_is_digested_once(monkeypatch: pytest.MonkeyPatch) -> None:
    digested: list[int] = []

    def counted(previous: bytes, tokens: list[int]) -> bytes:
        digested.append(len(tokens))
        return _chain(previous, tokens)

    monkeypatch.setattr(block_manager, "_chain", counted)
    blocks = BlockManager(6, SIZE)
    blocks.release(computed(blocks, list(range(13)), 1))
    digested.clear()
    waiting = sequence(list(range(13)), 2)
    for _ in range(5):
        blocks.match_prefix(waiting)
        assert waiting.computed == 12
        blocks.release(waiting)
    blocks.match_prefix(waiting)
    blocks.grow(waiting, 17)
    waiting.tokens += [7, 7, 7, 7]
    waiting.computed = waiting.planned = 17
    blocks.remember(waiting)
    assert digested == [SIZE] * 4  # three of the prompt, and one with what came


def test_the_oldest_free_block_is_taken_and_a_prefix_loses_its_end_first() -> None:
    blocks = BlockManager(3, SIZE)
    blocks.release(computed(blocks, list(range(9))))
    taker = sequence([50])
    blocks.grow(taker, 2 * SIZE)
    again = sequence(list(range(9)))
    blocks.match_prefix(again)
    assert again.computed == SIZE  # of the prefix its first block is left


def test_poisoned_blocks_are_forgotten_and_zeroed_once_they_are_free() -> None:
    blocks = BlockManager(4, SIZE)
    poisoned = computed(blocks, list(range(9)), 1)
    sharer = sequence(list(range(9)), 2)
    blocks.match_prefix(sharer)
    shared, own = list(sharer.blocks), poisoned.blocks[2]
    blocks.release(poisoned, poisoned=True)
    assert blocks.take_dirty() == [own]  # somebody still reads the others
    blocks.release(sharer)
    assert blocks.take_dirty() == sorted(shared)
    assert blocks.take_dirty() == []
    again = sequence(list(range(9)), 3)
    blocks.match_prefix(again)
    assert again.blocks == []


def test_after_a_lost_step_no_prefix_is_known() -> None:
    blocks = BlockManager(4, SIZE)
    blocks.release(computed(blocks, list(range(9))))
    blocks.forget_all()
    again = sequence(list(range(9)))
    blocks.match_prefix(again)
    assert again.blocks == []


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 12)), max_size=40))
def test_references_are_those_of_the_sequences(steps: list[tuple[int, int]]) -> None:
    """Five sequences of a common alphabet come and go; each grows as far as there is room."""
    blocks = BlockManager(8, SIZE)
    alive: dict[int, Sequence] = {}
    for number, length in steps:
        if number in alive:
            blocks.release(alive.pop(number))
        else:
            tokens = [token % 3 for token in range(length)]
            new = sequence(tokens, number)
            blocks.match_prefix(new)
            if blocks.can_hold(new, length):
                blocks.grow(new, length)
                new.computed = new.planned = length
                blocks.remember(new)
                alive[number] = new
            else:
                blocks.release(new)
        blocks.check(list(alive.values()))
    for last in alive.values():
        blocks.release(last)
    assert blocks.free == 8
