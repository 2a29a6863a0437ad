"""How near a model with experts decodes to a dense one of as many bytes a token, and to memory."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from tandem.engine import (
    EngineOptions,
    ModelSetup,
    Quantization,
    Solo,
    StepPlan,
    create_checkpoint,
    end_bytes,
    prepare,
    read_bytes,
    weight_item_bytes,
    whole,
)
from tandem.engine.checkpoint.layout import WeightBytes
from tandem.engine.core.step import SampleSpec, SequenceStep
from tandem.engine.families import Size

#: 30B-A3B with fewer and narrower layers: 128 experts, of which a token has eight.
SHAPE = Size(
    layers=6,
    hidden=1024,
    intermediate=3072,
    heads=16,
    kv_heads=4,
    head_dim=64,
    vocabulary=8192,
    experts=128,
    experts_per_token=8,
    expert_columns=384,
)
_PROMPT, _BLOCK = 32, 16
_ALIKE = 0.02


class ExpertSpeed(msgspec.Struct, frozen=True):
    """The fastest that were seen, for other processes can only make one slower.

    A token of the model with experts, one of a dense model of as many bytes, and what memory takes
    to give so many.
    """

    weights: str
    token_mb: float
    token_ms: float
    dense_ms: float
    memory_ms: float

    @property
    def memory_gb_per_s(self) -> float:
        return self.token_mb / self.memory_ms

    @property
    def of_memory(self) -> float:
        """How fast the weights of a token are read, as a share of what memory gives."""
        return self.memory_ms / self.token_ms


def measure_experts(
    folder: Path,
    quantization: Quantization | None,
    *,
    dtype: str,
    threads: int,
    rounds: int,
    tokens: int,
) -> ExpertSpeed:
    """Writes models of `SHAPE`; one sequence of each decodes, in turns.

    The dense one has an MLP as wide as the experts of a token together.
    """
    options = EngineOptions(
        directory=folder, dtype=dtype, quantization=quantization, device="cpu", threads=threads
    )
    setups = [_prepared(options, family) for family in ("qwen3_moe", "qwen3")]
    token_bytes = _token_bytes(setups[0])
    assert abs(_token_bytes(setups[1]) / token_bytes - 1) < _ALIKE, "the router's bytes are few"
    decoding = [_decoding(setup) for setup in setups]
    fastest_s, memory_s = [math.inf, math.inf], math.inf
    for _ in range(rounds):
        for number in range(tokens):
            taken = [decode(number) for decode in decoding]
            fastest_s = [min(pair) for pair in zip(taken, fastest_s, strict=True)]
        memory_s = min(memory_s, token_bytes / _memory_bytes_per_s(setups[0]))
    milliseconds = [1e3 * seconds for seconds in (*fastest_s, memory_s)]
    weights = dtype if quantization is None else quantization.value
    return ExpertSpeed(weights, token_bytes / 1e6, *milliseconds)


def _prepared(options: EngineOptions, family: str) -> ModelSetup:
    directory = options.directory / family
    if not directory.exists():
        untied = {"tie_word_embeddings": False}
        create_checkpoint(directory, family=family, size=SHAPE, overrides=untied)
    return prepare(replace(options, directory=directory))


def _memory_bytes_per_s(setup: ModelSetup) -> float:
    """By products of weights that are not rounded: the fewer bits, the more else there is to do."""
    plain = replace(setup, options=replace(setup.options, quantization=None))
    return setup.backend.decode_bytes_per_s(plain)


def _token_bytes(setup: ModelSetup) -> int:
    """All that one token reads of the weights, the head's too."""
    quantization = setup.options.quantization
    weights = WeightBytes(weight_item_bytes(setup.dtype, quantization))
    of_head = None if quantization is None else quantization.of_head
    head = WeightBytes(weight_item_bytes(setup.dtype, of_head))
    return sum(read_bytes(setup.config, weights)) + end_bytes(setup.config, head)


def _decoding(setup: ModelSetup) -> Callable[[int], float]:
    """Decodes the n-th token of an answer; seconds. Each is another one, so has other experts."""
    blocks = list(range(setup.config.context_length // _BLOCK))
    stage = setup.backend.load_stage(setup, whole(setup.config), Solo(), len(blocks))
    numbers = random.Random(7)  # noqa: S311 - tokens, not secrets
    steps = itertools.count()

    def run(count: int, start: int) -> float:
        drawn = [numbers.randrange(setup.config.vocab_size) for _ in range(count)]
        spec = SampleSpec(position=start + count, temperature=0.0)
        plan = StepPlan(next(steps), [SequenceStep(0, drawn, start, blocks, spec)])
        began = time.perf_counter()
        running = stage.begin(plan)
        running.result(running.logits(running.forward()))
        return time.perf_counter() - began

    def decode(number: int) -> float:
        if number == 0:
            run(_PROMPT, 0)
        return run(1, _PROMPT + number)

    return decode
