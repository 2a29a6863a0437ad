"""From a request to what it needs: estimates, since the coordinator has no tokenizer.

How many bytes make a token, and how long answers are, is learned from those that went before.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from tandem.coordinator.requests.consumer import Consumer
from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.coordinator.routing.affinity import Affinity
from tandem.coordinator.routing.demand import Demand
from tandem.protocol import ChatPrompt, ModelName, Prompt, TextPrompt

_DECAY = 0.95
_MAX_MODELS = 1024
#: What chat templates put around each message, at most.
_TEMPLATE_TOKENS = 8


@dataclass
class _RunningAverages:
    """Decayed sums over a model's requests; the first values count like one request."""

    prompt_bytes: float = 400.0
    prompt_tokens: float = 100.0
    answers: float = 1.0
    answer_tokens: float = 200.0


class Estimator:
    def __init__(self, affinity: Affinity) -> None:
        self._affinity = affinity
        self._averages: OrderedDict[ModelName, _RunningAverages] = OrderedDict()

    def demand(self, request: InferenceRequest, consumer: Consumer, *, produced: int = 0) -> Demand:
        """What the rest of a request needs that has `produced` so many tokens already."""
        prompt, each = self._expected(request)
        task = request.task
        least = 1 if task.most_output is None else task.most_output
        exact = [
            len(p.token_ids) for p in task.prompts if not isinstance(p, ChatPrompt | TextPrompt)
        ]
        return Demand(
            model=request.model,
            sequences=task.sequences,
            # Samples of one prompt share its cache.
            tokens=prompt + each * task.sequences,
            prompt_tokens=prompt + produced,
            output_tokens=each,
            least_tokens=max(exact, default=1) + least,
            min_trust=consumer.min_trust,
            prefixes=self._affinity.prefixes(request.model, task.prompts[0], consumer.account),
            account=consumer.account,
            owners=consumer.owners,
        )

    def tokens(self, request: InferenceRequest) -> int:
        """How many a request is expected to use, in and out."""
        prompt, each = self._expected(request)
        return prompt + each * request.task.sequences

    def _expected(self, request: InferenceRequest) -> tuple[int, int]:
        """Tokens of its prompts together, and of each answer."""
        averages = self._of(request.model)
        prompt = sum(_tokens(p, averages) for p in request.task.prompts)
        usual = max(1, round(averages.answer_tokens / averages.answers))
        most = request.task.most_output
        return prompt, usual if most is None else min(most, 4 * usual)

    def learn(
        self, request: InferenceRequest, *, prompt_tokens: int, completion_tokens: int
    ) -> None:
        """A request has ended well. One that was to bring forth nothing tells nothing."""
        choices = request.task.choices
        if not choices:
            return
        averages = self._of(request.model)
        size = sum(map(_bytes, request.task.prompts))
        averages.prompt_bytes = averages.prompt_bytes * _DECAY + size
        averages.prompt_tokens = averages.prompt_tokens * _DECAY + prompt_tokens
        averages.answers = averages.answers * _DECAY + choices
        averages.answer_tokens = averages.answer_tokens * _DECAY + completion_tokens

    def _of(self, model: ModelName) -> _RunningAverages:
        """Names are the consumers' own invention: only so many are remembered."""
        averages = self._averages.setdefault(model, _RunningAverages())
        self._averages.move_to_end(model)
        while len(self._averages) > _MAX_MODELS:
            self._averages.popitem(last=False)
        return averages


def _tokens(prompt: Prompt, averages: _RunningAverages) -> int:
    if not isinstance(prompt, ChatPrompt | TextPrompt):
        return len(prompt.token_ids)
    template = _TEMPLATE_TOKENS * len(prompt.messages) if isinstance(prompt, ChatPrompt) else 0
    return template + round(
        _bytes(prompt) * averages.prompt_tokens / max(1.0, averages.prompt_bytes)
    )


def _bytes(prompt: Prompt) -> int:
    """Of its text, as UTF-8 but cheaper to count: one a character."""
    if isinstance(prompt, ChatPrompt):
        return sum(len(message.content) for message in prompt.messages)
    return len(prompt.text) if isinstance(prompt, TextPrompt) else 4 * len(prompt.token_ids)
