"""What a provider may say that is not true: each a way to answer one request wrongly."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

import msgspec

from tandem import protocol
from tandem.protocol import Chunk, Delta, Failed, Finished, FinishReason, TokenLogprob, Usage

Reply = Callable[[protocol.AnswerPart], None]

_STOP = FinishReason.STOP
#: One that no honest provider sends, whatever it was asked.
_CHUNKS = [
    Chunk([Delta(0, "", [-7])], 3),
    Chunk([Delta(0, "", [2**40])], 3),
    Chunk([Delta(7, "a", [1])], 3),
    Chunk([Delta(-1, "a", [1])], 3),
    Chunk([Delta(0, "a", [1] * 500)], 3),
    Chunk([Delta(0, "a" * 100_000, [1])], 3),
    Chunk([Delta(0, "", [1])] * 2000, 3),
    Chunk([], 2**63),
    Chunk([], 10**9),
    Chunk([], 3, prefilled=10**6),
    Chunk([Delta(0, "", [1], [TokenLogprob("a", 1, math.nan, b"a", [])])], 3),
    Chunk([Delta(0, "", [1], [TokenLogprob("a", 1, -1.0, b"a", [])] * 50)], 3),
]
_ENDS = [
    Finished(Usage(3, 1, 0)),
    Finished(Usage(-1, 0, 0)),
    Finished(Usage(2**63, 2**63, 0)),
    Finished(Usage(3, 1, 0), protocol.Timings(math.nan, math.inf, -1.0, 1e300)),
]
_CODES = ["invalid_request", "context_length_exceeded", "request_timed_out", "internal_error", "?"]


async def lie(draw: random.Random, reply: Reply, raw: Callable[[bytes], None]) -> None:
    """Answers a request with one lie. `raw` sends a frame as it is."""
    kind = draw.choice(["chunk", "end", "refusal", "idle", "frame", "silence", "reply"])
    if kind == "chunk":
        reply(draw.choice(_CHUNKS))
    elif kind == "end":
        reply(draw.choice(_ENDS))
    elif kind == "refusal":
        reply(Failed(protocol.ErrorInfo(draw.choice(_CODES), "played")))
    elif kind == "idle":
        for _ in range(100):
            reply(Chunk([], 3))
            await asyncio.sleep(0.01)
    elif kind == "frame":
        raw(draw.choice(_FRAMES))
    elif kind == "reply":
        raw(protocol.encode(protocol.Reply(protocol.RequestId("r" * 200), b"")))
        reply(Chunk([Delta(0, "a", [1], finish=_STOP)] * 3, 3))


_FRAMES = [
    b"",
    b"\xc1",
    b"\x91" * 30_000,
    b"\xdf\xff\xff\xff\xff",
    msgspec.msgpack.encode({"type": "heartbeat", "ready": 7}),
    msgspec.msgpack.encode({"type": "heartbeat", "cluster_role": [{}] * 20_000}),
    protocol.encode(protocol.Hello([2], "", b"")),
    msgspec.msgpack.encode({"type": "draining", "unknown": "x" * 70_000}),
    protocol.encode(protocol.Proof(protocol.Evidence(b"unasked"))),
]
