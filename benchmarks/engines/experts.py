"""How near a model with experts decodes to the speed at which memory gives what a token reads."""

from __future__ import annotations

import itertools
import math
import random
import time
from pathlib import Path

import msgspec

from tandem.engine import (
    EngineOptions,
    ModelSetup,
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


class ExpertSpeed(msgspec.Struct, frozen=True):
    """The best that was seen: bytes a second that memory gives, and milliseconds a token.

    Other processes can only make one slower, and each takes a few milliseconds.

    `share` is the time that memory takes to give a token's weights, of what the token takes.
    """

    dtype: str
    token_mb: float
    memory_gb_per_s: float
    token_ms: float
    share: float


def measure_experts(folder: Path, dtype: str, rounds: int, tokens: int) -> ExpertSpeed:
    """Writes a model of `SHAPE`, and lets one sequence decode in turns with reading memory."""
    directory = folder / "experts"
    if not directory.exists():
        create_checkpoint(directory, family="qwen3_moe", size=SHAPE, dtype="bfloat16")
    options = EngineOptions(directory=directory, dtype=dtype, device="cpu", threads=1)
    setup = prepare(options)
    token_bytes = _token_bytes(setup)
    laps = _laps(setup, tokens)
    speeds, seconds = [], []
    for _ in range(rounds):
        speeds.append(setup.backend.decode_bytes_per_s(setup))
        seconds.append(next(laps))
    best_s, speed = min(seconds), max(speeds)
    share = token_bytes / speed / best_s
    return ExpertSpeed(dtype, token_bytes / 1e6, speed / 1e9, best_s * 1e3, share)


def _token_bytes(setup: ModelSetup) -> int:
    """All that one token reads of the weights, the head's too."""
    weights = WeightBytes(weight_item_bytes(setup.dtype, setup.options.quantization))
    return sum(read_bytes(setup.config, weights)) + end_bytes(setup.config, weights)


def _laps(setup: ModelSetup, tokens: int) -> itertools.chain[float]:
    """Seconds that the fastest of so many tokens takes: each another one, so other experts."""
    blocks = list(range(setup.config.context_length // _BLOCK))
    stage = setup.backend.load_stage(setup, whole(setup.config), Solo(), len(blocks))
    numbers = random.Random(7)  # noqa: S311 - tokens, not secrets
    steps = itertools.count()

    def run(count: int, start: int) -> None:
        drawn = [numbers.randrange(setup.config.vocab_size) for _ in range(count)]
        step = SequenceStep(0, drawn, start, blocks, SampleSpec(position=start + count))
        running = stage.begin(StepPlan(next(steps), [step]))
        running.result(running.logits(running.forward()))

    def lap() -> float:
        run(_PROMPT, 0)
        best_s = math.inf
        for number in range(tokens):
            began = time.perf_counter()
            run(1, _PROMPT + number)
            best_s = min(best_s, time.perf_counter() - began)
        return best_s

    lap()
    return itertools.chain(iter(lap, None))
