"""Logits against `transformers`, on random checkpoints of every family and odd shapes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tandem.engine import EngineOptions, prepare
from tandem.engine.backends.pytorch.backend import load_model
from tandem.engine.backends.pytorch.layers.batch import BatchBuilder
from tandem.engine.backends.pytorch.layers.kv_cache import KVCache
from tandem.engine.checkpoint.sharding import whole
from tandem.engine.core.block_manager import BlockManager
from tandem.engine.core.communicator import Solo
from tandem.engine.core.step import SampleSpec, SequenceStep
from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint

TOLERANCE = 1e-4
BLOCK = 4

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

SHAPES: dict[str, tuple[str, Size, dict[str, Any]]] = {
    "llama-gqa": ("llama", Size(3, 48, 100, 4, 2, 12, 301, 256), {}),
    "llama3-rope-untied": (
        "llama",
        Size(2, 64, 96, 4, 4, 16, 303, 256),
        {"rope_scaling": LLAMA3_ROPE, "tie_word_embeddings": False},
    ),
    "llama-linear-rope": (
        "llama",
        Size(2, 64, 96, 4, 1, 16, 300, 256),
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    ),
    "llama-biases": (
        "llama",
        Size(2, 60, 90, 3, 1, 20, 299, 256),
        {"attention_bias": True, "mlp_bias": True},
    ),
    "llama-gelu": ("llama", Size(2, 64, 96, 4, 1, 16, 300, 256), {"hidden_act": "gelu"}),
    "qwen2-three-heads": ("qwen2", Size(2, 120, 77, 3, 3, 40, 333, 256), {}),
    "qwen2-window": (
        "qwen2",
        Size(4, 64, 96, 4, 2, 16, 301, 256),
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
    ),
    "qwen3-head-dim": (
        "qwen3",
        Size(3, 48, 72, 6, 2, 40, 307, 256),
        {"tie_word_embeddings": False, "rope_theta": 1e6},
    ),
    "mistral-window": ("mistral", Size(3, 64, 80, 8, 2, 8, 311, 256), {"sliding_window": 7}),
    "mistral-one-kv-head": (
        "mistral",
        Size(2, 36, 50, 3, 1, 12, 305, 256),
        {"sliding_window": None},
    ),
}


class Runner:
    """A model with a cache, driven by hand."""

    def __init__(self, directory: Path) -> None:
        setup = prepare(EngineOptions(directory=directory, dtype="float32", device="cpu"))
        config, shard = setup.config, whole(setup.config)
        dtype, device = torch.float32, torch.device("cpu")
        self.model = load_model(setup, shard, Solo(), min(config.context_length, 64 * BLOCK))
        self.cache = KVCache(config, shard, blocks=64, block_size=BLOCK, dtype=dtype, device=device)
        self.builder = BatchBuilder(config, shard, BLOCK, dtype, device)
        self.vocabulary = config.vocab_size

    @torch.inference_mode()
    def step(self, *parts: tuple[list[int], int, list[int]]) -> torch.Tensor:
        """Logits of every row of (tokens, start, blocks) parts, in the given order."""
        steps = [
            SequenceStep(index, tokens, start, blocks, SampleSpec(0))
            for index, (tokens, start, blocks) in enumerate(parts)
        ]
        ordered = self.builder.order(steps)
        batch = self.builder.build(ordered)
        states = self.model.forward(self.model.embed(batch.tokens), batch, self.cache)
        logits = self.model.logits(states)
        assert logits is not None
        rows, first = {}, 0
        for item in ordered:
            rows[item.sequence_id] = logits[first : first + len(item.tokens)]
            first += len(item.tokens)
        return torch.cat([rows[index] for index in range(len(parts))])


@pytest.fixture(params=sorted(SHAPES))
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    family, size, overrides = SHAPES[request.param]
    directory = tmp_path / str(request.param)
    create_checkpoint(
        directory, family=family, size=size, seed=7, dtype="float32", overrides=overrides
    )
    return directory


@torch.inference_mode()
def oracle(directory: Path, tokens: list[int]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    )
    logits: torch.Tensor = model(torch.tensor([tokens])).logits[0]
    return logits


def prompt(length: int, vocabulary: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, vocabulary, (length,), generator=generator).tolist()


def blocks(first: int, tokens: int) -> list[int]:
    return list(range(first, first + BlockManager(64, BLOCK).blocks_for(tokens)))


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.abs().max() > 0.1, "an oracle of zeros proves nothing"
    assert (ours - theirs).abs().max().item() < TOLERANCE


def test_whole_prefill_equals_transformers(checkpoint: Path) -> None:
    runner = Runner(checkpoint)
    tokens = prompt(29, runner.vocabulary, 1)
    assert_close(runner.step((tokens, 0, blocks(1, 29))), oracle(checkpoint, tokens))


def test_chunks_then_decode_equal_transformers(checkpoint: Path) -> None:
    runner = Runner(checkpoint)
    tokens = prompt(31, runner.vocabulary, 2)
    table = blocks(5, 31)[::-1]  # blocks need not be in order
    cuts = [0, 3, 4, 17, 27, 28, 29, 30, 31]
    pieces = [runner.step((tokens[start:stop], start, table)) for start, stop in pairwise(cuts)]
    assert_close(torch.cat(pieces), oracle(checkpoint, tokens))


def test_a_mixed_batch_equals_each_alone(checkpoint: Path) -> None:
    runner = Runner(checkpoint)
    first, second, third = (prompt(n, runner.vocabulary, n) for n in (12, 21, 9))
    tables = blocks(1, 12), blocks(10, 21), blocks(30, 9)
    runner.step((first[:11], 0, tables[0]), (second[:20], 0, tables[1]))
    # Two decode while the third prefills.
    logits = runner.step(
        (first[11:], 11, tables[0]), (third, 0, tables[2]), (second[20:], 20, tables[1])
    )
    assert_close(logits[:1], oracle(checkpoint, first)[-1:])
    assert_close(logits[1:10], oracle(checkpoint, third))
    assert_close(logits[10:], oracle(checkpoint, second)[-1:])


def test_garbage_in_unused_cache_slots_is_never_seen(checkpoint: Path) -> None:
    runner = Runner(checkpoint)
    for cache in (half for layer in runner.cache.layers for half in (layer.keys, layer.values)):
        cache.fill_(1e4)
    tokens = prompt(10, runner.vocabulary, 3)
    assert_close(runner.step((tokens, 0, blocks(2, 10))), oracle(checkpoint, tokens))
