"""What llama.cpp says of each next token of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks.engines.gguf_files import converted
from benchmarks.engines.llama_cpp import LlamaCpp
from tandem.bench import Job


def predict(kind: str) -> Callable[[Job, Sequence[list[int]], int], torch.Tensor]:
    """`benchmarks.engines.quality.Predict` by a GGUF of that type."""

    def logits(job: Job, texts: Sequence[list[int]], known: int) -> torch.Tensor:
        engine = LlamaCpp(converted(job, kind), job.threads)
        found = []
        for text in texts:
            engine.forget()
            rows = [
                (token, position, 0, position >= known - 1)
                for position, token in enumerate(text[:-1])
            ]
            found.append(np.stack([said.copy() for said in engine.decode(rows)]))
        return torch.from_numpy(np.stack(found))

    return logits
