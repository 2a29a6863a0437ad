"""What divides among tensor-parallel ranks, and what does not."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.members import MODEL, hello, members

from tandem.cluster.strategies.costs import model_bytes
from tandem.cluster.strategies.tensor_parallel import divide, held, is_whole
from tandem.errors import PeerRefused
from tandem.protocol.cluster import Part


def test_every_rank_has_a_share_of_every_layer() -> None:
    parts = divide(members(*[hello()] * 4))
    assert [(part.first_layer, part.end_layer) for part in parts] == [(0, MODEL.layers)] * 4
    shares = [held(MODEL, parts, rank) for rank in range(4)]
    assert sum(share.weights_bytes for share in shares) == model_bytes(MODEL)
    assert sum(share.kv_bytes_per_token for share in shares) == MODEL.kv_bytes_per_token


def test_heads_that_do_not_divide_are_named() -> None:
    with pytest.raises(PeerRefused, match="8 KV heads do not divide among 3 ranks"):
        divide(members(*[hello()] * 3))


def test_a_machine_without_room_for_its_share_is_named() -> None:
    small = hello(memory_bytes=1_000_000_000, name="small")
    with pytest.raises(PeerRefused, match=r"small has no memory for 0\.9 GB"):
        divide(members(hello(), small))


def test_a_plan_that_leaves_out_a_layer_is_not_whole() -> None:
    assert is_whole([Part("a", 0, 4), Part("b", 0, 4)], 4)
    assert not is_whole([Part("a", 0, 4), Part("b", 0, 3)], 4)


def test_a_cache_that_does_not_divide_is_held_by_all() -> None:
    latent = msgspec.structs.replace(MODEL, kv_divides=False)
    parts = divide(members(*[hello()] * 4))
    assert held(latent, parts, 1).kv_bytes_per_token == MODEL.kv_bytes_per_token
    assert held(latent, parts, 1).weights_bytes == held(MODEL, parts, 1).weights_bytes
