"""Executors run step plans. The scheduler above knows no other way to a model.

`LocalExecutor` runs the whole model in this process. An executor over several ranks implements
the same two methods.
"""

from __future__ import annotations

from typing import Protocol

import torch

from tandem.engine.model.attention import BatchBuilder, KVCache
from tandem.engine.model.transformer import Transformer
from tandem.engine.sampler import sample
from tandem.engine.step import StepPlan, StepResult


class Executor(Protocol):
    """Called from one thread, a plan at a time."""

    def execute(self, plan: StepPlan) -> StepResult:
        """Runs one step. Raises a TandemError when the step is lost; its cache is then void."""
        ...

    def close(self) -> None:
        """Releases the model's memory; no call follows."""
        ...


class LocalExecutor:
    def __init__(self, model: Transformer, cache: KVCache, builder: BatchBuilder) -> None:
        self._model = model
        self._cache = cache
        self._builder = builder

    @torch.inference_mode()
    def execute(self, plan: StepPlan) -> StepResult:
        self._cache.clear(plan.clear)
        ordered = self._builder.order(plan.sequences)
        batch = self._builder.build(ordered)
        states = self._model.embed(batch.tokens)
        states = self._model.forward(states, batch, self._cache)
        wanted = [(item.sequence_id, item.sample) for item in ordered if item.sample is not None]
        if not wanted:
            return StepResult(plan.step, [])
        logits = self._model.logits(states[batch.sampled_rows])
        ids, specs = zip(*wanted, strict=True)
        return StepResult(plan.step, sample(logits, ids, specs))

    def close(self) -> None:
        del self._model, self._cache
