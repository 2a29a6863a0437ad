"""Requests on a provider: what is refused, what is run, and what is sent of it when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tandem import engine, protocol
from tandem.engine.generation import Finish
from tandem.errors import ContextLengthExceeded, ExecutorFailed, InvalidRequest
from tandem.provider.runner import RequestRunner

MODEL = protocol.ModelName("m")
RID = protocol.RequestId("r")
LIMITS = engine.EngineLimits(
    context_length=100, kv_tokens=80, vocabulary_size=300, eos_token_ids=frozenset()
)


@dataclass
class EncoderPlayed:
    """One token a character; a chat is refused. What is `slow` is never done."""

    breaks: Exception | None = None
    asked: list[tuple[object, int]] = field(default_factory=list)
    slow: Future[list[list[int]]] | None = None

    def start(self) -> None:
        """There is nothing to start."""

    def encode(
        self, texts: list[str | list[engine.Message]], most_tokens: int
    ) -> Future[list[list[int]]]:
        self.asked.append((texts, most_tokens))
        if self.slow is not None:
            return self.slow
        found: Future[list[list[int]]] = Future()
        if self.breaks is not None:
            found.set_exception(self.breaks)
        elif any(isinstance(text, list) for text in texts):
            found.set_exception(InvalidRequest("too many messages", param="prompt"))
        else:
            found.set_result([list(map(ord, str(text))) for text in texts])
        return found


@dataclass
class EnginePlayed:
    submitted: list[engine.GenerationRequest] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    limits: engine.EngineLimits = LIMITS
    refuses: Exception | None = None

    def submit(self, request: engine.GenerationRequest) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.submitted.append(request)

    def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)


@dataclass
class Played:
    """A provider of MODEL, and what it has sent."""

    engine: EnginePlayed = field(default_factory=EnginePlayed)
    sent: list[protocol.AnswerPart] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.encoder = EncoderPlayed()
        self.runner = RequestRunner(
            cast("engine.PromptEncoder", self.encoder), MODEL, engine.SamplingDefaults()
        )
        self.runner.attach(cast("engine.Engine", self.engine))

    async def start(
        self, work: protocol.Work, *, model: protocol.ModelName = MODEL, window: int = 32
    ) -> None:
        request = protocol.Request(RID, 0, model, 60.0, window, b"sealed")
        await self.runner.start(request, work, self.sent.append, 1.0)

    def came(self, text: str, token: int, *, finish: Finish | None = None) -> None:
        """The engine has brought forth one token."""
        delta = engine.ChoiceDelta(0, text, [token], None, finish)
        self.runner.on_events([engine.Progress(RID, [delta])])

    def completed(self) -> None:
        self.runner.on_events([engine.Completed(RID, 2, 1, 0)])

    @property
    def answered(self) -> list[protocol.AnswerPart]:
        """What was sent after the word that the engine has the request."""
        accepted, *rest = self.sent
        assert accepted == protocol.Chunk([], 2)
        return rest

    @property
    def texts(self) -> list[str]:
        chunks = [part for part in self.sent if isinstance(part, protocol.Chunk)]
        return ["".join(delta.text for delta in chunk.deltas) for chunk in chunks]

    def error(self) -> protocol.ErrorInfo:
        """With what the one request was refused, or ended."""
        (failed,) = self.answered if self.engine.submitted else self.sent
        assert isinstance(failed, protocol.Failed)
        assert (self.runner.started, self.runner.failed) == (1, 1)
        return failed.error


def play(scenario: Callable[[Played], Awaitable[None]]) -> None:
    async def main() -> None:
        played = Played()
        async with asyncio.timeout(30.0):
            await scenario(played)
            await played.runner.wait_idle()

    asyncio.run(main())


def generate(prompt: protocol.Prompt | None = None, **sampling: Any) -> protocol.Generate:  # noqa: ANN401 - any parameter
    prompts = [prompt or protocol.TextPrompt("hi")]
    return protocol.Generate(
        b"k" * 32, prompts, 1, protocol.Sampling(**sampling), [[7]], cache_scope=b"account"
    )


def test_an_engine_that_cannot_embed_says_so_by_name() -> None:
    async def scenario(played: Played) -> None:
        await played.start(protocol.Embed(b"k" * 32, [protocol.TextPrompt("hi")]))
        error = played.error()
        assert (error.code, error.param) == ("unsupported_parameter", "model")
        assert "`m`" in error.message
        # It is the request's fault: another provider would say the same, and nobody is blamed.
        assert error.to_error().status == 400

    play(scenario)


@pytest.mark.parametrize("work", [generate(), protocol.Embed(b"k", [protocol.TextPrompt("hi")])])
def test_another_model_is_not_here(work: protocol.Work) -> None:
    async def scenario(played: Played) -> None:
        await played.start(work, model=protocol.ModelName("other"))
        assert played.error().code == "model_not_found"

    play(scenario)


def test_without_an_engine_nothing_is_taken() -> None:
    async def scenario(played: Played) -> None:
        played.runner.detach()
        await played.start(generate())
        assert played.error().code == "no_provider_available"

    play(scenario)


def test_what_the_engine_refuses_is_the_answer() -> None:
    async def scenario(played: Played) -> None:
        played.engine.refuses = ContextLengthExceeded("too long", param="prompt")
        await played.start(generate())
        assert (played.error().code, played.error().param) == ("context_length_exceeded", "prompt")

    play(scenario)


def test_a_chat_is_refused_by_the_name_that_its_consumer_knows() -> None:
    async def scenario(played: Played) -> None:
        await played.start(generate(protocol.ChatPrompt([protocol.ChatMessage("user", "hi")])))
        assert played.error().param == "messages"

    play(scenario)


def test_a_request_reaches_the_engine_whole() -> None:
    async def scenario(played: Played) -> None:
        await played.start(generate(max_tokens=3, seed=5, stop=["x"], ignore_eos=True))
        (request,) = played.engine.submitted
        assert (request.prompts, request.samples, request.produced) == ([[104, 105]], 1, [[7]])
        assert (request.params.max_tokens, request.params.seed) == (3, 5)
        assert (request.stop, request.ignore_eos) == (["x"], True)
        assert request.cache_scope == b"account"
        played.runner.cancel(RID)

    play(scenario)


def test_an_answer_says_its_prompts_length_once_and_its_times_at_the_end() -> None:
    async def scenario(played: Played) -> None:
        await played.start(generate())
        played.came("a", 1)
        played.came("b", 2, finish=Finish.STOP)
        played.completed()
        accepted, first, second, last = played.sent
        assert isinstance(accepted, protocol.Chunk)
        assert isinstance(first, protocol.Chunk)
        assert isinstance(second, protocol.Chunk)
        assert isinstance(last, protocol.Finished)
        assert accepted.deltas == []
        prompt_tokens = [chunk.prompt_tokens for chunk in (accepted, first, second)]
        assert prompt_tokens == [2, 0, 0]
        assert last.usage == protocol.Usage(2, 1, 0)
        times = last.timings
        assert times is not None
        assert times.received == 1.0
        assert times.submitted <= times.first_token <= times.last_token

    play(scenario)


def test_without_credit_pieces_are_joined_and_the_end_waits() -> None:
    async def scenario(played: Played) -> None:
        await played.start(generate(), window=1)
        for token, text in enumerate("abc"):
            played.came(text, token)
        played.completed()
        assert played.texts == ["a"]
        played.runner.grant(protocol.Grant(RID, 1))
        assert played.texts == ["a", "bc"]
        assert isinstance(played.sent[-1], protocol.Finished)

    play(scenario)


def test_a_window_of_one_is_left_to_what_the_engine_brings_forth() -> None:
    """A coordinator that takes nothing of an empty chunk grants nothing for it."""

    async def scenario(played: Played) -> None:
        await played.start(generate(), window=1)
        assert played.sent == []
        played.came("a", 1, finish=Finish.STOP)
        played.completed()
        assert played.texts == ["a"]

    play(scenario)


def test_whoever_is_cancelled_hears_nothing_more() -> None:
    async def scenario(played: Played) -> None:
        await played.start(generate())
        played.runner.cancel(RID)
        played.came("late", 1)
        played.runner.grant(protocol.Grant(RID, 1))
        assert played.engine.cancelled == [RID]
        assert played.answered == []

    play(scenario)


def test_when_the_coordinator_is_gone_everything_is_cancelled() -> None:
    async def scenario(played: Played) -> None:
        await played.start(generate())
        played.runner.cancel_all()
        assert played.engine.cancelled == [RID]

    play(scenario)


def test_a_failed_step_ends_the_request_with_its_error() -> None:
    async def scenario(played: Played) -> None:
        await played.start(generate())
        played.runner.on_events([engine.Aborted(RID, ExecutorFailed("the step failed"))])
        assert played.error().code == "executor_failed"

    play(scenario)


@pytest.mark.parametrize(
    "error", [TypeError("x"), RecursionError(), MemoryError(), OverflowError()]
)
def test_whatever_tokenising_raises_is_that_requests_failure(error: Exception) -> None:
    async def scenario(played: Played) -> None:
        played.encoder.breaks = error
        await played.start(generate())
        assert played.error().code == "internal_error"
        assert played.error().to_error().status == 500

    play(scenario)


def test_whatever_submitting_raises_is_that_requests_failure() -> None:
    async def scenario(played: Played) -> None:
        played.engine.refuses = AssertionError("ours")
        await played.start(generate())
        assert played.error().code == "internal_error"

    play(scenario)


def test_an_answer_that_cannot_be_sent_ends_its_request_on_the_engine_too() -> None:
    async def scenario(played: Played) -> None:
        await played.start(generate())
        broken = engine.ChoiceDelta(0, "a", [1], None, cast("Finish", "no such end"))
        played.runner.on_events([engine.Progress(RID, [broken])])
        assert played.error().code == "internal_error"
        assert played.engine.cancelled == [RID]

    play(scenario)


def test_texts_are_tokenised_and_tokens_stay_where_they_are() -> None:
    async def scenario(played: Played) -> None:
        prompts: list[protocol.Prompt] = [
            protocol.TokenPrompt([9]),
            protocol.TextPrompt("a"),
            protocol.TokenPrompt([8, 7]),
            protocol.TextPrompt("bc"),
        ]
        await played.start(protocol.Generate(b"k", prompts, 1, protocol.Sampling()))
        assert played.encoder.asked == [(["a", "bc"], 80)]
        (request,) = played.engine.submitted
        assert request.prompts == [[9], [97], [8, 7], [98, 99]]
        played.runner.cancel(RID)

    play(scenario)


def test_whoever_leaves_takes_the_prompt_from_the_queue() -> None:
    async def scenario(played: Played) -> None:
        played.encoder.slow = Future()
        starting = asyncio.ensure_future(played.start(generate()))
        await asyncio.sleep(0)  # up to where it waits
        assert played.encoder.asked
        played.runner.cancel(RID)
        assert played.encoder.slow.cancelled()
        await asyncio.wait([starting])
        assert starting.cancelled()
        assert (played.sent, played.engine.submitted) == ([], [])

    play(scenario)


def test_what_is_computed_of_a_long_prompt_is_said_once_and_before_the_first_token() -> None:
    async def main() -> None:
        played = Played()
        prompt = protocol.TextPrompt("four")
        await played.start(protocol.Generate(b"k", [prompt], 1, protocol.Sampling()))
        for tokens in (2, 2, 1, 3):
            played.runner.on_events([engine.Prefilling(RID, tokens)])
        played.came("a", 1)
        played.runner.on_events([engine.Prefilling(RID, 4)])
        chunks = [part for part in played.sent if isinstance(part, protocol.Chunk)]
        assert [chunk.prefilled for chunk in chunks if not chunk.deltas] == [0, 2, 3]

    asyncio.run(main())
