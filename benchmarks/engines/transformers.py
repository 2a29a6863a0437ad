"""transformers on the same weights: its `generate`, and its continuous batching."""

from __future__ import annotations

import time
from typing import Any

import torch

from tandem.bench import MAX_BATCH, BenchmarkFailed, Job, Times, Wanted

_PADDING = 0
_RESULT_TIMEOUT_S = 600.0


class Transformers:
    def __init__(self, job: Job) -> None:
        self._model = _load(job)

    def generate(self, prompts: list[list[int]], tokens: int) -> Times:
        """Prompts must be of one length: padding would be computed for nothing."""
        clock = _StepClock()
        inputs = torch.tensor(prompts)
        began = time.perf_counter()
        self._generate(inputs, torch.ones_like(inputs), tokens, streamer=clock)
        first, last = clock.times[1], clock.times[-1]  # the prompt itself comes at 0
        return Times(first - began, last - first)

    def serve(self, wanted: list[Wanted]) -> float:
        """Batches of `MAX_BATCH`, padded on the left; each takes as long as its longest answer."""
        began = time.perf_counter()
        for start in range(0, len(wanted), MAX_BATCH):
            batch = wanted[start : start + MAX_BATCH]
            longest = max(len(one.prompt) for one in batch)
            padding = [[_PADDING] * (longest - len(one.prompt)) for one in batch]
            inputs = torch.tensor([p + one.prompt for p, one in zip(padding, batch, strict=True)])
            mask = torch.tensor([[0] * len(p) + [1] * (longest - len(p)) for p in padding])
            self._generate(inputs, mask, max(one.tokens for one in batch))
        return time.perf_counter() - began

    def _generate(
        self, inputs: torch.Tensor, mask: torch.Tensor, tokens: int, **options: object
    ) -> None:
        with torch.inference_mode():
            self._model.generate(
                inputs,
                attention_mask=mask,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
                pad_token_id=_PADDING,
                **options,
            )


class ContinuousTransformers:
    """Its scheduler decides how many run at a time; the blocks are for `MAX_BATCH` and more."""

    def __init__(self, job: Job) -> None:
        self._model = _load(job)
        # No token ends an answer: each is as long as asked for.
        self._config = self._model.generation_config
        self._config.update(do_sample=False, eos_token_id=-1, pad_token_id=_PADDING)

    def serve(self, wanted: list[Wanted]) -> float:
        manager = self._model.init_continuous_batching(generation_config=self._config)
        manager.start()
        try:
            began = time.perf_counter()
            for one in wanted:
                manager.add_request(one.prompt, max_new_tokens=one.tokens)
            for _ in wanted:
                result = manager.get_result(timeout=_RESULT_TIMEOUT_S)
                if result is None or result.error:
                    raise BenchmarkFailed("transformers' continuous batching gave no answer")
            return time.perf_counter() - began
        finally:
            manager.stop(block=True)


class _StepClock:
    """A streamer: told of every step of `generate`."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing is held back."""


def _load(job: Job) -> Any:  # noqa: ANN401 - the library's types know less than its code
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(job.threads)
    return AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.bfloat16)
