"""From a request to what it needs: estimates, since the coordinator has no tokenizer.

How many bytes make a token, and how long answers are, is learned from those that went before.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from tandem.coordinator.requests.ask import Ask
from tandem.coordinator.routing.affinity import Affinity
from tandem.coordinator.routing.demand import Demand
from tandem.protocol import ChatPrompt, ModelName, Prompt, TextPrompt, Trust

_DECAY = 0.95
_MAX_MODELS = 1024
#: What chat templates put around each message, at most.
_TEMPLATE_TOKENS = 8


@dataclass
class _Habits:
    """Decayed sums over a model's requests; the first values count like one request."""

    prompt_bytes: float = 400.0
    prompt_tokens: float = 100.0
    answers: float = 1.0
    answer_tokens: float = 200.0


class Estimator:
    def __init__(self, affinity: Affinity) -> None:
        self._affinity = affinity
        self._habits: OrderedDict[ModelName, _Habits] = OrderedDict()

    def demand(self, ask: Ask, *, produced: int = 0, min_trust: Trust = Trust.NONE) -> Demand:
        """What the rest of a request needs that has `produced` so many tokens already."""
        prompt, each = self._expected(ask)
        exact = [
            len(p.token_ids) for p in ask.prompts if not isinstance(p, ChatPrompt | TextPrompt)
        ]
        return Demand(
            model=ask.model,
            sequences=ask.choices,
            # Samples of one prompt share its cache.
            tokens=prompt + each * ask.choices,
            prompt_tokens=prompt + produced,
            output_tokens=each,
            least_tokens=max(exact, default=1) + (ask.sampling.max_tokens or 1),
            min_trust=min_trust,
            prefixes=self._affinity.prefixes(ask.model, ask.prompts[0]),
        )

    def tokens(self, ask: Ask) -> int:
        """How many a request is expected to use, in and out."""
        prompt, each = self._expected(ask)
        return prompt + each * ask.choices

    def _expected(self, ask: Ask) -> tuple[int, int]:
        """Tokens of its prompts together, and of each answer."""
        habits = self._of(ask.model)
        prompt = sum(_tokens(p, habits) for p in ask.prompts)
        usual = max(1, round(habits.answer_tokens / habits.answers))
        return prompt, min(ask.sampling.max_tokens or usual, 4 * usual)

    def learn(self, ask: Ask, *, prompt_tokens: int, completion_tokens: int) -> None:
        """A request has ended well."""
        habits = self._of(ask.model)
        size = sum(map(_bytes, ask.prompts))
        habits.prompt_bytes = habits.prompt_bytes * _DECAY + size
        habits.prompt_tokens = habits.prompt_tokens * _DECAY + prompt_tokens
        habits.answers = habits.answers * _DECAY + ask.choices
        habits.answer_tokens = habits.answer_tokens * _DECAY + completion_tokens

    def _of(self, model: ModelName) -> _Habits:
        """Names are the consumers' own invention: only so many are remembered."""
        habits = self._habits.setdefault(model, _Habits())
        self._habits.move_to_end(model)
        while len(self._habits) > _MAX_MODELS:
            self._habits.popitem(last=False)
        return habits


def _tokens(prompt: Prompt, habits: _Habits) -> int:
    if not isinstance(prompt, ChatPrompt | TextPrompt):
        return len(prompt.token_ids)
    template = _TEMPLATE_TOKENS * len(prompt.messages) if isinstance(prompt, ChatPrompt) else 0
    return template + round(_bytes(prompt) * habits.prompt_tokens / max(1.0, habits.prompt_bytes))


def _bytes(prompt: Prompt) -> int:
    """Of its text, as UTF-8 but cheaper to count: one a character."""
    if isinstance(prompt, ChatPrompt):
        return sum(len(message.content) for message in prompt.messages)
    return len(prompt.text) if isinstance(prompt, TextPrompt) else 4 * len(prompt.token_ids)
