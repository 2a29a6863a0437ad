"""What transformers says of each next token of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tandem.bench import Job


def predict(dtype: str) -> Callable[[Job, Sequence[list[int]], int], torch.Tensor]:
    """`benchmarks.engines.quality.Predict`, all in numbers of that type."""

    def logits(job: Job, texts: Sequence[list[int]], known: int) -> torch.Tensor:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(job.model, dtype=getattr(torch, dtype))
        with torch.inference_mode():
            found = [model(torch.tensor([text])).logits[0, known - 1 : -1] for text in texts]
        return torch.stack(found).float()

    return logits
