"""What a consumer asks for, whatever dialect it was said in: a model, and a task for it.

A task says what it needs, for estimates, and how a provider is asked for it. Tasks are a union as
the protocol's `Work` is: another kind is another struct here and there.
"""

from __future__ import annotations

import msgspec

from tandem.protocol import Embed, Generate, ModelName, Prompt, Sampling, Work


class Generation(msgspec.Struct, frozen=True):
    """`n` samples of each prompt."""

    prompts: list[Prompt]
    n: int
    sampling: Sampling

    @property
    def sequences(self) -> int:
        """How many a provider runs for it."""
        return self.choices

    @property
    def choices(self) -> int:
        """How many answers come in pieces."""
        return len(self.prompts) * self.n

    @property
    def most_output(self) -> int | None:
        """Tokens that one sequence may bring forth at most; None when that is not said."""
        return self.sampling.max_tokens

    @property
    def wants_logprobs(self) -> bool:
        return self.sampling.logprobs is not None

    def seeded(self, seed: int) -> Generation:
        """The same with its draws fixed by `seed`, unless they are already."""
        if self.sampling.seed is not None:
            return self
        sampling = msgspec.structs.replace(self.sampling, seed=seed)
        return msgspec.structs.replace(self, sampling=sampling)

    def at_most(self, tokens: int | None) -> Generation:
        """The same with no more than so many tokens in each choice, None as it was."""
        if tokens == self.sampling.max_tokens:
            return self
        sampling = msgspec.structs.replace(self.sampling, max_tokens=tokens)
        return msgspec.structs.replace(self, sampling=sampling)

    def work(self, produced: list[list[int] | None], cache_scope: bytes) -> Work:
        """For a provider: what follows the tokens that each choice has so far."""
        return Generate(b"", self.prompts, self.n, self.sampling, produced, cache_scope)


class Embedding(msgspec.Struct, frozen=True):
    """A vector of each prompt."""

    prompts: list[Prompt]

    @property
    def sequences(self) -> int:
        return len(self.prompts)

    @property
    def choices(self) -> int:
        return 0

    @property
    def most_output(self) -> int:
        return 0

    @property
    def wants_logprobs(self) -> bool:
        return False

    def seeded(self, seed: int) -> Embedding:  # noqa: ARG002 - nothing is drawn
        return self

    def at_most(self, tokens: int | None) -> Embedding:  # noqa: ARG002 - nothing is generated
        return self

    def work(self, produced: list[list[int] | None], cache_scope: bytes) -> Work:  # noqa: ARG002 - it comes whole
        return Embed(b"", self.prompts)


class InferenceRequest(msgspec.Struct, frozen=True):
    model: ModelName
    task: Generation | Embedding
