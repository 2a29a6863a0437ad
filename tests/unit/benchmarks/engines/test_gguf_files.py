"""GGUF: names and order of what a checkpoint holds."""

from __future__ import annotations

import pytest
import torch

from benchmarks.engines.gguf_files import gguf_name, permuted


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("lm_head.weight", "output.weight"),
        ("model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"),
        ("model.layers.11.self_attn.o_proj.weight", "blk.11.attn_output.weight"),
        ("model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"),
    ],
)
def test_tensors_have_the_names_of_gguf(ours: str, theirs: str) -> None:
    assert gguf_name(ours) == theirs


def test_halves_of_queries_become_neighbours_within_each_head() -> None:
    weight = torch.arange(8.0).view(8, 1)
    moved = permuted(weight, "model.layers.0.self_attn.q_proj.weight", heads=2, kv_heads=1)
    assert moved.flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    moved = permuted(weight, "model.layers.0.self_attn.k_proj.weight", heads=2, kv_heads=1)
    assert moved.flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


def test_what_is_not_rotated_stays_as_it_is() -> None:
    weight = torch.arange(8.0).view(8, 1)
    assert permuted(weight, "model.layers.0.self_attn.v_proj.weight", heads=2, kv_heads=1) is weight
