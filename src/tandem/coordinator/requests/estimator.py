"""From a request to what it needs: estimates, since the coordinator has no tokenizer.

How many bytes make a token, and how long answers are, is learned for each key and model from the
requests before. A key that is new to a model begins with the median over the others, in which each
has one voice: nobody teaches what others are estimated by. What is learned stays within what a
tokenizer can do.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median_low

from tandem.coordinator.requests.consumer import Consumer
from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.coordinator.routing.affinity import Affinity
from tandem.coordinator.routing.demand import Demand
from tandem.protocol import ChatPrompt, ModelName, Prompt, TextPrompt, field_of

_DECAY = 0.95
_MAX_MODELS, _MAX_KEYS = 1024, 1024
#: Keys whose habits a newcomer's first estimates are made of.
_VOICES = 64
#: Before anybody has asked: tokens a byte, and tokens of an answer.
_USUAL_RATIO, _USUAL_ANSWER = 0.25, 200.0
#: Tokens a byte that no tokenizer leaves: a character may be four bytes, each a token of its own.
_LEAST_RATIO, _MOST_RATIO = 1.0 / 64.0, 4.0
_MOST_ANSWER = 2.0**24
#: What chat templates put around each message, at most.
_TEMPLATE_TOKENS = 8
#: Prompts with less text teach nothing: most of their tokens are the template's.
_TEACHES_BYTES = 32


@dataclass
class _Habits:
    """Decayed sums over one key's requests; the values at first count like one request."""

    prompt_bytes: float
    prompt_tokens: float
    answers: float
    answer_tokens: float

    @property
    def ratio(self) -> float:
        """Tokens a byte of text."""
        return min(_MOST_RATIO, max(_LEAST_RATIO, self.prompt_tokens / self.prompt_bytes))

    @property
    def answer(self) -> float:
        """Tokens of one answer."""
        return max(1.0, self.answer_tokens / self.answers)


class _ModelHabits:
    """Those of a model's keys, the latest last."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, _Habits] = OrderedDict()

    def of(self, key: str) -> _Habits:
        """The key's own; a newcomer's are not kept until it has taught something."""
        return self._keys.get(key) or self._usual()

    def learning(self, key: str) -> _Habits:
        habits = self._keys.setdefault(key, self.of(key))
        self._keys.move_to_end(key)
        while len(self._keys) > _MAX_KEYS:
            self._keys.popitem(last=False)
        return habits

    def _usual(self) -> _Habits:
        latest = [
            habits for habits, _ in zip(reversed(self._keys.values()), range(_VOICES), strict=False)
        ]
        ratio = median_low([_USUAL_RATIO, *(habits.ratio for habits in latest)])
        answer = median_low([_USUAL_ANSWER, *(habits.answer for habits in latest)])
        return _Habits(400.0, 400.0 * ratio, 1.0, answer)


class Estimator:
    """`largest` says how many tokens one sequence of a model may have; 0 when that is not known."""

    def __init__(
        self, affinity: Affinity, largest: Callable[[ModelName], int] = lambda _: 0
    ) -> None:
        self._affinity = affinity
        self._largest = largest
        self._models: OrderedDict[ModelName, _ModelHabits] = OrderedDict()

    def demand(
        self,
        request: InferenceRequest,
        consumer: Consumer,
        *,
        produced: int = 0,
        sequences: int | None = None,
    ) -> Demand:
        """What the rest of a request needs that has `produced` so many tokens already.

        So many of its `sequences` are left, None for all.
        """
        prompt, each = self._expected(request, consumer.key)
        task = request.task
        least = 1 if task.most_output is None else task.most_output
        exact = (
            len(p.token_ids) for p in task.prompts if not isinstance(p, ChatPrompt | TextPrompt)
        )
        least_prompt = max(exact, default=1)
        whole = Demand(
            model=request.model,
            sequences=task.sequences,
            # Samples of one prompt share its cache.
            tokens=prompt + each * task.sequences,
            prompt_tokens=prompt + produced,
            output_tokens=each,
            least_tokens=least_prompt + least,
            least_prompt=least_prompt,
            prompt_field=field_of(task.prompts[0]),
            text_bytes=max(map(_sure_bytes, task.prompts)),
            min_trust=consumer.min_trust,
            prefixes=self._affinity.prefixes(request.model, task.prompts[0], consumer.account),
            account=consumer.account,
            owners=consumer.owners,
            divisible=task.choices > 0,
            # One prompt is all samples', of several each sequence has its own.
            own_prompt=prompt // task.sequences if len(task.prompts) > 1 else 0,
        )
        return whole.part(task.sequences if sequences is None else sequences)

    def prompt_tokens(self, request: InferenceRequest, key: str) -> int:
        """How many its prompts are expected to have, together."""
        return self._expected(request, key)[0]

    def tokens(self, request: InferenceRequest, key: str) -> int:
        """How many a request is expected to use, in and out."""
        prompt, each = self._expected(request, key)
        return prompt + each * request.task.sequences

    def _expected(self, request: InferenceRequest, key: str) -> tuple[int, int]:
        """Tokens of its prompts together, and of each answer."""
        habits = (self._models.get(request.model) or _ModelHabits()).of(key)
        largest = self._largest(request.model)
        prompts = [_tokens(p, habits) for p in request.task.prompts]
        each = max(1, round(habits.answer))
        most = request.task.most_output
        each = each if most is None else min(most, 4 * each)
        if largest:  # what is more is refused, and takes nothing
            prompts, each = [min(p, largest) for p in prompts], min(each, largest)
        return sum(prompts), each

    def learn(
        self, request: InferenceRequest, key: str, *, prompt_tokens: int, completion_tokens: int
    ) -> None:
        """A key's request has ended well. One that was to bring forth nothing tells nothing."""
        choices = request.task.choices
        if not choices:
            return
        habits = self._learning(request.model).learning(key)
        _learn_prompts(habits, request.task.prompts, prompt_tokens)
        answer_tokens = min(completion_tokens, choices * _MOST_ANSWER)
        habits.answers = habits.answers * _DECAY + choices
        habits.answer_tokens = habits.answer_tokens * _DECAY + answer_tokens

    def _learning(self, model: ModelName) -> _ModelHabits:
        """Of so many models; names that are a consumer's own invention never answer."""
        habits = self._models.setdefault(model, _ModelHabits())
        self._models.move_to_end(model)
        while len(self._models) > _MAX_MODELS:
            self._models.popitem(last=False)
        return habits


def _learn_prompts(habits: _Habits, prompts: list[Prompt], tokens: int) -> None:
    """From what the text of prompts took beside their templates, if there is enough text."""
    size, template = sum(map(_bytes, prompts)), sum(map(_template, prompts))
    exact = any(not isinstance(prompt, ChatPrompt | TextPrompt) for prompt in prompts)
    if exact or size < max(_TEACHES_BYTES, template):
        return
    text_tokens = min(_MOST_RATIO * size, max(_LEAST_RATIO * size, tokens - template))
    habits.prompt_bytes = habits.prompt_bytes * _DECAY + size
    habits.prompt_tokens = habits.prompt_tokens * _DECAY + text_tokens


def _tokens(prompt: Prompt, habits: _Habits) -> int:
    if not isinstance(prompt, ChatPrompt | TextPrompt):
        return len(prompt.token_ids)
    return _template(prompt) + round(_bytes(prompt) * habits.ratio)


def _template(prompt: Prompt) -> int:
    return _TEMPLATE_TOKENS * len(prompt.messages) if isinstance(prompt, ChatPrompt) else 0


def _bytes(prompt: Prompt) -> int:
    """Of its text, as UTF-8 but cheaper to count: one a character."""
    if isinstance(prompt, ChatPrompt):
        return sum(len(message.content) for message in prompt.messages)
    return len(prompt.text) if isinstance(prompt, TextPrompt) else 4 * len(prompt.token_ids)


def _sure_bytes(prompt: Prompt) -> int:
    """Text that is tokenised whatever the model's template does, one byte a character.

    Templates may strip messages, and leave out of a history what was thought; the last one stays.
    """
    if isinstance(prompt, ChatPrompt):
        return len(prompt.messages[-1].content.strip()) if prompt.messages else 0
    return len(prompt.text) if isinstance(prompt, TextPrompt) else 0
