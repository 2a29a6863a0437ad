"""How long the steps of a session take, and how much of that its links: put around rank 0's parts.

Nothing in `link` or `cluster` counts. Whoever measures passes a `Stopwatch` to
`tandem.cluster.run_clustered`, which lets it wrap the channels and the executor.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from tandem.engine import Executor, StepPlan, StepResult
from tandem.link import Buffer, Channel
from tandem.protocol.cluster import ToRank


class StepsTaken(msgspec.Struct, frozen=True):
    """`seconds` is rank 0's time in its executor: computing, and on its links.

    `link_seconds` is the part in sends and receives, waiting included; frames and payload bytes
    are those of both directions.
    """

    steps: int = 0
    seconds: float = 0.0
    link_seconds: float = 0.0
    frames: int = 0
    bytes: int = 0

    def since(self, before: StepsTaken) -> StepsTaken:
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(before), strict=True)
        return StepsTaken(*(now - then for now, then in pairs))


class Stopwatch:
    """Implements `tandem.cluster.Instruments`."""

    def __init__(self) -> None:
        self._steps = self._frames = self._bytes = 0
        self._seconds = self._link_seconds = 0.0

    @property
    def taken(self) -> StepsTaken:
        """Until now."""
        return StepsTaken(self._steps, self._seconds, self._link_seconds, self._frames, self._bytes)

    def channel(self, channel: Channel) -> Channel:
        return _TimedChannel(channel, self)

    def executor(self, executor: Executor) -> Executor:
        return _TimedExecutor(executor, self)

    @contextmanager
    def computing(self, steps: int) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - began
        self._steps += steps

    @contextmanager
    def linking(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._link_seconds += time.perf_counter() - began

    def crossed(self, *payloads: Buffer) -> None:
        self._frames += len(payloads)
        self._bytes += sum(len(payload) for payload in payloads)


class _TimedChannel:
    """Passes everything on, and notes how long it took."""

    def __init__(self, channel: Channel, watch: Stopwatch) -> None:
        self._channel = channel
        self._watch = watch

    def send(self, header: ToRank, payload: Buffer = b"") -> None:
        with self._watch.linking():
            self._channel.send(header, payload)
        self._watch.crossed(payload)

    def receive(self, *, patient: bool = False) -> tuple[ToRank, bytearray]:
        with self._watch.linking():
            header, payload = self._channel.receive(patient=patient)
        self._watch.crossed(payload)
        return header, payload

    def swap(self, header: ToRank, payload: Buffer) -> tuple[ToRank, bytearray]:
        with self._watch.linking():
            theirs, received = self._channel.swap(header, payload)
        self._watch.crossed(payload, received)
        return theirs, received

    def abort(self) -> None:
        self._channel.abort()

    def close(self) -> None:
        self._channel.close()


class _TimedExecutor:
    """Passes everything on, and counts the steps."""

    def __init__(self, executor: Executor, watch: Stopwatch) -> None:
        self._executor = executor
        self._watch = watch

    @property
    def stages(self) -> int:
        return self._executor.stages

    @property
    def depth(self) -> int:
        return self._executor.depth

    def submit(self, plan: StepPlan) -> None:
        with self._watch.computing(0):
            self._executor.submit(plan)

    def collect(self) -> StepResult:
        with self._watch.computing(1):
            return self._executor.collect()

    def close(self) -> None:
        self._executor.close()
