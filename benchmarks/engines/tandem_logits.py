"""What Tandem says of each next token of a text, as when it writes it: a token at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from benchmarks.engines.gguf_files import described
from tandem.bench import Job
from tandem.engine import CacheFormat, EngineOptions, Quantization, Solo, StepPlan, prepare, whole
from tandem.engine.core.step import SampleSpec, SequenceStep

_BLOCK = 16


def predict(
    dtype: str,
    *,
    quantization: Quantization | None = None,
    kv_cache: CacheFormat | None = None,
    gguf: str | None = None,
) -> Callable[[Job, Sequence[list[int]], int], torch.Tensor]:
    """`benchmarks.engines.quality.Predict` by an engine of these options.

    It reads the checkpoint, or a GGUF of that type made of it.
    """

    def logits(job: Job, texts: Sequence[list[int]], known: int) -> torch.Tensor:
        options = EngineOptions(
            directory=job.model if gguf is None else described(job, gguf),
            dtype=dtype,
            quantization=quantization,
            kv_cache=kv_cache,
            device="cpu",
            threads=job.threads,
            block_size=_BLOCK,
        )
        setup = prepare(options)
        each = -(-len(texts[0]) // _BLOCK)
        shard = whole(setup.config)
        stage = setup.backend.load_stage(setup, shard, Solo(), each * len(texts))
        found = []
        for step, plan in enumerate(_plans(texts, known, each)):
            run = stage.begin(StepPlan(step, plan))
            said = run.logits(run.forward())
            assert said is not None, "every step samples"
            found.append(said.clone())
        return torch.stack(found, dim=1)

    return logits


def _plans(texts: Sequence[list[int]], known: int, each: int) -> list[list[SequenceStep]]:
    """The known tokens of all texts in one step, then one token of each in every step."""
    parts = [(0, known), *((token, token + 1) for token in range(known, len(texts[0]) - 1))]
    return [
        [
            SequenceStep(
                number,
                text[start:end],
                start,
                list(range(number * each, (number + 1) * each)),
                SampleSpec(position=end),
            )
            for number, text in enumerate(texts)
        ]
        for start, end in parts
    ]
