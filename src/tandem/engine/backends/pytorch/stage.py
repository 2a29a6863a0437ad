"""One rank's part of a model in PyTorch, and the executor that runs all of one in this process."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tandem.engine.backends.pytorch.layers.attention import BatchBuilder, KVCache, StepBatch
from tandem.engine.backends.pytorch.models.transformer import Transformer
from tandem.engine.backends.pytorch.sampler import sample
from tandem.engine.core.step import SequenceStep, StepPlan, StepResult


@dataclass(frozen=True)
class Pass:
    """A plan on its way through one stage."""

    step: int
    ordered: list[SequenceStep]
    batch: StepBatch

    @property
    def samples(self) -> bool:
        return any(item.sample is not None for item in self.ordered)


class Stage:
    """One rank's shard of a model, with the cache of its layers and heads."""

    def __init__(self, model: Transformer, cache: KVCache, builder: BatchBuilder) -> None:
        self._model = model
        self._cache = cache
        self._builder = builder

    def begin(self, plan: StepPlan) -> Pass:
        self._cache.clear(plan.clear)
        ordered = self._builder.order(plan.sequences)
        return Pass(plan.step, ordered, self._builder.build(ordered))

    def forward(self, current: Pass, states: torch.Tensor | None = None) -> torch.Tensor:
        """(rows, hidden) after this stage's layers; the first stage embeds the tokens itself."""
        if states is None:
            states = self._model.embed(current.batch.tokens)
        return self._model.forward(states, current.batch, self._cache)

    def logits(self, current: Pass, states: torch.Tensor) -> torch.Tensor | None:
        """float32 (samples, vocabulary); None where nothing is sampled, or not on this rank."""
        if not current.samples:
            return None
        return self._model.logits(states[current.batch.sampled_rows])

    def result(self, current: Pass, logits: torch.Tensor | None) -> StepResult:
        if logits is None:
            return StepResult(current.step, [])
        wanted = [
            (item.sequence_id, item.sample) for item in current.ordered if item.sample is not None
        ]
        ids, specs = zip(*wanted, strict=True)
        return StepResult(current.step, sample(logits, ids, specs))


class LocalExecutor:
    """The whole model, in this process, one step at a time."""

    stages = depth = 1

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._result: StepResult | None = None

    @torch.inference_mode()
    def submit(self, plan: StepPlan) -> None:
        current = self._stage.begin(plan)
        states = self._stage.forward(current)
        self._result = self._stage.result(current, self._stage.logits(current, states))

    def collect(self) -> StepResult:
        assert self._result is not None, "a step is submitted before it is collected"
        result, self._result = self._result, None
        return result

    def close(self) -> None:
        del self._stage
