"""How often a token differs between a request alone and the same one in a batch, or resumed.

Sums of floating-point numbers depend on their order, and the order on the batch, and on whether a
token was decoded or is prefilled again where the request goes on elsewhere. Where two tokens
are almost equally likely the last bit decides. Counted is the first differing token of each
request: what follows it is another text. Weights are random, so near-ties are more common than in
a trained model.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec

from tandem.engine import (
    Aborted,
    Completed,
    Engine,
    EngineEvent,
    EngineOptions,
    GenerationRequest,
    Progress,
    SamplingParams,
    Speculate,
    load_engine,
)
from tandem.engine.random_checkpoint import create_checkpoint

DTYPES = ("float32", "bfloat16")
_TIMEOUT_S = 600.0

Outputs = dict[str, list[int]]


class NearTies(msgspec.Struct, frozen=True):
    """First differences of requests, in so many tokens that could have differed."""

    dtype: str
    #: `in a batch` or `resumed`.
    what: str
    differences: int
    tokens: int


def measure_near_ties(folder: Path, requests: int, tokens: int) -> list[NearTies]:
    """Random weights go into `folder`. Raises what a request fails with."""
    directory = folder / "model"
    create_checkpoint(directory, family="llama", size="small", dtype="float32")
    asked = _requests(requests, tokens)
    found = []
    for dtype in DTYPES:
        alone = _generate(directory, dtype, asked, together=False)
        batch = _generate(directory, dtype, asked, together=True)
        found.append(_compared(dtype, "in a batch", alone, batch, {}))
        cut = _resumed(asked, alone)
        given = {request.request_id: len(request.produced[0] or []) for request in cut}
        resumed = _generate(directory, dtype, cut, together=False)
        found.append(_compared(dtype, "resumed", alone, resumed, given))
    return found


def _requests(count: int, tokens: int) -> list[GenerationRequest]:
    random = Random(3)  # noqa: S311 - chooses prompts
    made = []
    for i in range(count):
        prompt = [random.randrange(3, 2000) for _ in range(random.choice((4, 20, 200)))]
        temperature = (0.0, 0.8)[i % 2]
        made.append(
            GenerationRequest(
                request_id=f"r{i}",
                prompts=[prompt],
                samples=1,
                params=SamplingParams(max_tokens=tokens, temperature=temperature, seed=i),
                stop=[],
                ignore_eos=True,
                deadline=time.monotonic() + _TIMEOUT_S,
            )
        )
    return made


def _resumed(asked: list[GenerationRequest], outputs: Outputs) -> list[GenerationRequest]:
    """The same requests, each cut somewhere: the first tokens are given."""
    random = Random(4)  # noqa: S311 - chooses cuts
    cut = []
    for request in asked:
        tokens = outputs[request.request_id]
        produced = [tokens[: random.randrange(1, len(tokens))]]
        cut.append(msgspec.structs.replace(request, produced=produced))
    return cut


def _generate(
    directory: Path, dtype: str, asked: list[GenerationRequest], *, together: bool
) -> Outputs:
    events: queue.Queue[EngineEvent] = queue.Queue()

    def deliver(batch: Sequence[EngineEvent]) -> None:
        for event in batch:
            events.put(event)

    options = EngineOptions(
        directory=directory, dtype=dtype, device="cpu", kv_tokens=16_384, speculate=Speculate.OFF
    )
    engine = load_engine(options, deliver).engine
    outputs: Outputs = {}
    try:
        for group in [asked] if together else [[request] for request in asked]:
            outputs |= _answers(engine, events, group)
    finally:
        engine.close()
    return outputs


def _answers(
    engine: Engine, events: queue.Queue[EngineEvent], group: list[GenerationRequest]
) -> Outputs:
    """All that the group's requests give together, after what each was given."""
    outputs = {request.request_id: list((request.produced or [[]])[0] or []) for request in group}
    for request in group:
        deadline = time.monotonic() + _TIMEOUT_S
        engine.submit(msgspec.structs.replace(request, deadline=deadline))
    left = len(group)
    while left:
        match events.get(timeout=_TIMEOUT_S):
            case Aborted(error=error):
                raise error
            case Progress(request_id=name, deltas=deltas):
                for delta in deltas:
                    outputs[name] += delta.token_ids
            case Completed():
                left -= 1
    return outputs


def _compared(
    dtype: str, what: str, alone: Outputs, other: Outputs, given: dict[str, int]
) -> NearTies:
    """Counts up to each request's first difference, without the tokens that were given."""
    differences, compared = 0, 0
    for name, tokens in alone.items():
        pairs = enumerate(zip(tokens, other[name], strict=True))
        first = next((i for i, (a, b) in pairs if a != b), None)
        differences += first is not None
        compared += (len(tokens) if first is None else first + 1) - given.get(name, 0)
    return NearTies(dtype, what, differences, compared)
