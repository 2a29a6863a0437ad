"""The KV cache's blocks: counted references, and reuse of blocks with a known prefix.

A full block is known by a key that chains all tokens before it (the idea of vLLM's automatic
prefix caching). Free blocks keep their content until they are needed for something else, oldest
first. Keys are BLAKE2b digests: a prompt cannot be made to collide with somebody else's. The chain
begins with the sequence's scope, so that nobody's time or count tells what another scope has asked.

How many blocks there are is decided where the model is loaded: in `engine.load`, or, when several
ranks share it, in `cluster.plan`.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence as Tokens

from tandem.engine.core.sequence import Sequence

_DIGEST_BYTES = 16


class BlockManager:
    """Every block is either referenced by sequences or free; free ones may still be reusable."""

    def __init__(self, total: int, block_size: int) -> None:
        assert total > 0, "a cache needs a block"
        assert block_size > 0, "a block needs a slot"
        self.total = total
        self.block_size = block_size
        self._references = [0] * total
        self._keys: list[bytes | None] = [None] * total
        self._by_key: dict[bytes, int] = {}
        # Ordered by when they became free: the first is the next to be taken.
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(total))
        self._dirty: set[int] = set()
        self._taken_dirty: set[int] = set()

    @property
    def free(self) -> int:
        return len(self._free)

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_size)

    def reusable(self, tokens: int) -> int:
        """How many of a prompt's tokens a second one like it takes from the cache."""
        return (tokens - 1) // self.block_size * self.block_size

    def match_prefix(self, sequence: Sequence) -> None:
        """Gives a new sequence the cached blocks of its longest known prefix.

        The last token is always left to compute: its logits are what the prompt is for.
        """
        assert not sequence.blocks, "only a sequence without blocks can take a prefix"
        for index in range(self.reusable(len(sequence.tokens)) // self.block_size):
            key = self._key(sequence, index)
            block = self._by_key.get(key)
            if block is None:
                break
            self._reference(block)
            sequence.blocks.append(block)
        sequence.remembered = len(sequence.blocks)
        sequence.computed = sequence.planned = len(sequence.blocks) * self.block_size

    def can_hold(self, sequence: Sequence, tokens: int, *, spare: int = 0) -> bool:
        """Whether the sequence can grow to `tokens` and leave `spare` blocks free."""
        return self.blocks_for(tokens) - len(sequence.blocks) + spare <= self.free

    def grow(self, sequence: Sequence, tokens: int) -> None:
        """Adds blocks until the sequence has room for `tokens`. `can_hold` was asked before."""
        while len(sequence.blocks) < self.blocks_for(tokens):
            block, _ = self._free.popitem(last=False)
            self._forget(block)
            self._references[block] = 1
            if block in self._dirty:
                self._taken_dirty.add(block)
            sequence.blocks.append(block)

    def remember(self, sequence: Sequence) -> None:
        """Makes the sequence's full, computed blocks known for reuse."""
        full = sequence.computed // self.block_size
        for index in range(sequence.remembered, full):
            key, block = self._key(sequence, index), sequence.blocks[index]
            if key not in self._by_key:
                self._by_key[key] = block
                self._keys[block] = key
        sequence.remembered = max(sequence.remembered, full)

    def release(self, sequence: Sequence, *, poisoned: bool = False) -> None:
        """Gives back all blocks of a sequence. `poisoned`: their numbers are not to be trusted."""
        if poisoned:
            self.spoil(sequence.blocks)
        # The last block first: a prefix is worth most at its start, so that is taken last.
        for block in reversed(sequence.blocks):
            self._references[block] -= 1
            if not self._references[block]:
                self._free[block] = None
        sequence.blocks.clear()
        sequence.remembered = 0
        sequence.computed = sequence.planned = 0

    def spoil(self, blocks: Tokens[int]) -> None:
        """Their numbers are not finite: nobody reuses them before they are zeroed."""
        for block in blocks:
            self._forget(block)
        self._dirty.update(blocks)

    def take_dirty(self) -> list[int]:
        """Free or newly taken blocks that must be zeroed before the next step; asked once."""
        free = {block for block in self._dirty if not self._references[block]}
        ready = sorted(free | self._taken_dirty)
        self._dirty.difference_update(ready)
        self._taken_dirty.clear()
        return ready

    def forget_all(self) -> None:
        """Drops every reusable prefix: the cache's content is void."""
        for block in range(self.total):
            self._forget(block)

    def check(self, sequences: Tokens[Sequence]) -> None:
        """Asserts that references are exactly those of `sequences`; cheap, run when idle."""
        counted = [0] * self.total
        for sequence in sequences:
            for block in sequence.blocks:
                counted[block] += 1
        assert counted == self._references, "block references do not match the sequences"
        assert set(self._free) == {b for b, n in enumerate(counted) if not n}, "free list is wrong"

    def _key(self, sequence: Sequence, index: int) -> bytes:
        """Of a full block, made once: a long prompt that waits for room is looked up every step."""
        keys = sequence.block_keys
        while len(keys) <= index:
            start = len(keys) * self.block_size
            previous = keys[-1] if keys else _root(sequence.cache_scope)
            keys.append(_chain(previous, sequence.tokens[start : start + self.block_size]))
        return keys[index]

    def _reference(self, block: int) -> None:
        if not self._references[block]:
            del self._free[block]
        self._references[block] += 1

    def _forget(self, block: int) -> None:
        key = self._keys[block]
        if key is not None:
            del self._by_key[key]
            self._keys[block] = None


def _root(scope: bytes) -> bytes:
    """What the first block's key follows on; as long as any other key."""
    return hashlib.blake2b(scope, digest_size=_DIGEST_BYTES, person=b"cache scope").digest()


def _chain(previous: bytes, tokens: Tokens[int]) -> bytes:
    digest = hashlib.blake2b(previous, digest_size=_DIGEST_BYTES)
    digest.update(array("q", tokens).tobytes())
    return digest.digest()
