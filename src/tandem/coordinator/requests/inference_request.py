"""What a consumer asks for, whatever dialect it was said in."""

from __future__ import annotations

import msgspec

from tandem.protocol import ModelName, Prompt, Sampling


class InferenceRequest(msgspec.Struct, frozen=True):
    """What a consumer wants generated: `n` samples of each prompt."""

    model: ModelName
    prompts: list[Prompt]
    n: int
    sampling: Sampling

    @property
    def choices(self) -> int:
        return len(self.prompts) * self.n
