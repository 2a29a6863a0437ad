"""One rank's part of a model in PyTorch: `tandem.engine.core.executor.Stage`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice

import torch

from tandem.engine.backends.pytorch.layers.batch import BatchBuilder, StepBatch
from tandem.engine.backends.pytorch.layers.kv_cache import KVCache
from tandem.engine.backends.pytorch.models import Decoder
from tandem.engine.backends.pytorch.sampling.sampler import sample
from tandem.engine.core.step import SequenceStep, StepPlan, StepResult


class TorchStage:
    """A shard of a model, with the cache of its layers and heads."""

    def __init__(
        self, model: Decoder, cache: KVCache, builder: BatchBuilder, state: torch.Tensor
    ) -> None:
        """`state` is (1, hidden): of the dtype and on the device of all states."""
        self._model = model
        self._state = state
        self._cache = cache
        self._builder = builder

    @torch.inference_mode()
    def begin(self, plan: StepPlan) -> TorchStageRun:
        self._cache.clear(plan.clear)
        ordered = self._builder.order(plan.sequences)
        batch = self._builder.build(ordered)
        return TorchStageRun(self._model, self._cache, plan.step, ordered, batch)

    def states_like(self, rows: int) -> torch.Tensor:
        return self._state.expand(rows, -1)


@dataclass(frozen=True)
class TorchStageRun:
    """A plan on its way through the stage."""

    model: Decoder
    cache: KVCache
    step: int
    ordered: list[SequenceStep]
    batch: StepBatch

    @property
    def rows(self) -> int:
        return len(self.batch.tokens)

    @torch.inference_mode()
    def forward(self, states: torch.Tensor | None = None) -> torch.Tensor:
        if states is None:
            states = self.model.embed(self.batch.tokens)
        return self.model.forward(states, self.batch, self.cache)

    @torch.inference_mode()
    def logits(self, states: torch.Tensor) -> torch.Tensor | None:
        if not any(item.sample is not None for item in self.ordered):
            return None
        return self.model.logits(states[self.batch.sampled_rows])

    @torch.inference_mode()
    def result(self, logits: torch.Tensor | None) -> StepResult:
        if logits is None:
            return StepResult(self.step, [])
        wanted = [(item, item.samples()) for item in self.ordered]
        ids = [item.sequence_id for item, specs in wanted for _ in specs]
        sampled = iter(sample(logits, ids, [spec for _, specs in wanted for spec in specs]))
        verified = [item.verified(list(islice(sampled, len(specs)))) for item, specs in wanted]
        return StepResult(self.step, list(chain.from_iterable(verified)))
