"""How often a token differs between a request alone and the same one in a batch, or resumed.

    .venv/bin/python scripts/measure_near_ties.py

Sums of floating-point numbers depend on their order, and the order on the batch, and on whether a
token was decoded or is prefilled again where the request goes on elsewhere. Where two tokens
are almost equally likely the last bit decides. Counted is the first differing token of each
request: what follows it is another text. Weights are random, so near-ties are more common than in
a trained model.
"""

from __future__ import annotations

import queue
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec
import torch

from tandem.engine import (
    Aborted,
    Completed,
    EngineEvent,
    EngineOptions,
    GenerationRequest,
    Progress,
    SamplingParams,
    load_engine,
)
from tandem.engine.checkpoint.random_checkpoint import create_checkpoint

REQUESTS, TOKENS = 32, 64

Outputs = dict[str, list[int]]


def requests() -> list[GenerationRequest]:
    random = Random(3)  # noqa: S311 - chooses prompts
    made = []
    for i in range(REQUESTS):
        prompt = [random.randrange(3, 2000) for _ in range(random.choice((4, 20, 200)))]
        temperature = (0.0, 0.8)[i % 2]
        made.append(
            GenerationRequest(
                request_id=f"r{i}",
                prompts=[prompt],
                samples=1,
                params=SamplingParams(max_tokens=TOKENS, temperature=temperature, seed=i),
                stop=[],
                ignore_eos=True,
                deadline=time.monotonic() + 600,
            )
        )
    return made


def resumed(outputs: Outputs) -> list[GenerationRequest]:
    """The same requests, each cut somewhere: the first tokens are given."""
    random = Random(4)  # noqa: S311 - chooses cuts
    return [
        msgspec.structs.replace(
            request, produced=[outputs[request.request_id][: random.randrange(1, TOKENS)]]
        )
        for request in requests()
    ]


def generate(
    directory: Path, dtype: str, asked: list[GenerationRequest], *, together: bool
) -> Outputs:
    events: queue.Queue[EngineEvent] = queue.Queue()

    def deliver(batch: Sequence[EngineEvent]) -> None:
        for event in batch:
            events.put(event)

    options = EngineOptions(directory=directory, dtype=dtype, kv_tokens=16_384)
    running = load_engine(options, deliver).engine
    outputs: Outputs = {}
    groups = [asked] if together else [[request] for request in asked]
    for group in groups:
        for request in group:
            outputs[request.request_id] = list((request.produced or [[]])[0] or [])
            running.submit(request)
        left = len(group)
        while left:
            event = events.get(timeout=600)
            if isinstance(event, Aborted):
                raise event.error
            if isinstance(event, Progress):
                for delta in event.deltas:
                    outputs[event.request_id] += delta.token_ids
            left -= isinstance(event, Completed)
    running.close()
    return outputs


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        create_checkpoint(directory, family="llama", size="small", dtype="float32")
        for dtype in ("float32", "bfloat16"):
            alone = generate(directory, dtype, requests(), together=False)
            batch = generate(directory, dtype, requests(), together=True)
            report(f"{dtype}, in a batch", alone, batch, {})
            cut = resumed(alone)
            given = {request.request_id: len(request.produced[0] or []) for request in cut}
            report(
                f"{dtype}, resumed", alone, generate(directory, dtype, cut, together=False), given
            )


def report(what: str, alone: Outputs, other: Outputs, given: dict[str, int]) -> None:
    """Counts up to each request's first difference, without the tokens that were given."""
    flips, compared = 0, 0
    for name, tokens in alone.items():
        pairs = enumerate(zip(tokens, other[name], strict=True))
        first = next((i for i, (a, b) in pairs if a != b), None)
        flips += first is not None
        compared += (TOKENS if first is None else first + 1) - given.get(name, 0)
    print(f"{what}: {flips} first differences in {compared} tokens of {REQUESTS} requests")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
