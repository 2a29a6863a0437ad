"""How often a token differs between a request alone and the same request in a batch, by dtype.

    .venv/bin/python scripts/measure_near_ties.py

Sums of floating-point numbers depend on their order, and the order on the batch. Where two tokens
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
from tandem.engine.random_checkpoint import create_checkpoint

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


def generate(directory: Path, dtype: str, *, together: bool) -> Outputs:
    events: queue.Queue[EngineEvent] = queue.Queue()

    def deliver(batch: Sequence[EngineEvent]) -> None:
        for event in batch:
            events.put(event)

    options = EngineOptions(directory=directory, dtype=dtype, kv_tokens=16_384)
    running = load_engine(options, deliver).engine
    outputs: Outputs = {}
    groups = [requests()] if together else [[request] for request in requests()]
    for group in groups:
        for request in group:
            outputs[request.request_id] = []
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
            alone = generate(directory, dtype, together=False)
            batch = generate(directory, dtype, together=True)
            firsts = [
                next(
                    (
                        i
                        for i, (a, b) in enumerate(zip(alone[name], batch[name], strict=True))
                        if a != b
                    ),
                    None,
                )
                for name in alone
            ]
            compared = sum(TOKENS if first is None else first + 1 for first in firsts)
            flips = sum(first is not None for first in firsts)
            print(f"{dtype}: {flips} first differences in {compared} tokens of {REQUESTS} requests")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
