"""A request that was begun elsewhere goes on as if nothing had happened, wherever it was cut."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator

import msgspec
import pytest

from tandem.engine import (
    Aborted,
    ChoiceDelta,
    Completed,
    Engine,
    EngineEvent,
    EngineOptions,
    GenerationRequest,
    Message,
    Prefilling,
    Progress,
    SamplingParams,
    load_engine,
    resolve_model,
)
from tandem.errors import InvalidRequest

Events = queue.Queue[EngineEvent]
PENALTIES = SamplingParams(
    max_tokens=14,
    temperature=1.4,
    seed=5,
    repetition_penalty=1.2,
    presence_penalty=0.4,
    frequency_penalty=0.3,
    logprobs=2,
)
CASES = {
    "greedy": (SamplingParams(max_tokens=0, temperature=0.0), 1, []),
    "seeded, two samples": (SamplingParams(max_tokens=12, temperature=2.0, seed=3), 2, []),
    "penalties and logprobs": (PENALTIES, 2, []),
    "stop string": (SamplingParams(max_tokens=0, temperature=0.0), 1, ["day, Friday"]),
}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Engine, Events]]:
    events: Events = queue.Queue()

    def deliver(batch: object) -> None:
        assert isinstance(batch, list)
        for event in batch:
            events.put(event)

    options = EngineOptions(
        directory=resolve_model("tandem-demo"), device="cpu", threads=1, kv_tokens=4096
    )
    engine = load_engine(options, deliver).engine
    yield engine, events
    assert engine.close()


def request(engine: Engine, case: str, name: str) -> GenerationRequest:
    params, samples, stop = CASES[case]
    return GenerationRequest(
        request_id=name,
        prompts=[engine.tokenizer.encode_chat([Message("user", "List the days of the week.")])],
        samples=samples,
        params=params,
        stop=stop,
        ignore_eos=False,
        deadline=time.monotonic() + 60.0,
    )


def run(
    served: tuple[Engine, Events], asked: GenerationRequest
) -> tuple[list[list[ChoiceDelta]], Completed]:
    """Every choice's deltas, one a token, and the usage."""
    engine, events = served
    engine.submit(asked)
    deltas: list[list[ChoiceDelta]] = [[] for _ in range(asked.samples)]
    while True:
        event = events.get(timeout=60.0)
        assert not isinstance(event, Aborted), event
        if isinstance(event, Completed):
            return deltas, event
        if isinstance(event, Prefilling):
            continue
        assert isinstance(event, Progress)
        for delta in event.deltas:
            deltas[delta.index].append(delta)


def outline(delta: ChoiceDelta) -> tuple[object, ...]:
    entries = [(e.token_id, [t.token_id for t in e.top]) for e in delta.logprobs or ()]
    return delta.text, delta.token_ids, delta.finish, entries


def logprobs(deltas: list[ChoiceDelta]) -> list[float]:
    return [entry.logprob for delta in deltas for entry in delta.logprobs or ()]


@pytest.mark.parametrize("case", CASES)
def test_what_follows_a_cut_is_what_would_have_followed(
    served: tuple[Engine, Events], case: str
) -> None:
    whole, usage = run(served, request(served[0], case, "whole"))
    for cut in range(1, max(map(len, whole))):
        before = [deltas[:cut] for deltas in whole]
        produced = [
            None if deltas[-1].finish else [t for delta in deltas for t in delta.token_ids]
            for deltas in before
        ]
        asked = msgspec.structs.replace(request(served[0], case, f"cut {cut}"), produced=produced)
        after, resumed = run(served, asked)
        for index, deltas in enumerate(whole):
            assert list(map(outline, after[index])) == list(map(outline, deltas[cut:]))
            assert logprobs(after[index]) == pytest.approx(logprobs(deltas[cut:]), abs=1e-4)
        finished = sum(
            len(delta.token_ids)
            for deltas, tokens in zip(before, produced, strict=True)
            for delta in deltas
            if tokens is None
        )
        assert resumed.completion_tokens + finished == usage.completion_tokens
        assert resumed.prompt_tokens == usage.prompt_tokens


@pytest.mark.parametrize(
    "produced", [[None], [[1], [1]], [[10**9]], [[5] * 12]], ids=["done", "two", "wild", "full"]
)
def test_what_cannot_be_gone_on_with_is_refused(
    served: tuple[Engine, Events], produced: list[list[int] | None]
) -> None:
    asked = request(served[0], "greedy", "bad")
    params = msgspec.structs.replace(asked.params, max_tokens=12)
    with pytest.raises(InvalidRequest):
        served[0].submit(msgspec.structs.replace(asked, params=params, produced=produced))
