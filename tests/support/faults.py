"""Sessions of two ranks in which something goes wrong at a random moment."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path
from random import Random

import psutil
from tests.support.links import Tap
from tests.support.ranks import Ranks, running
from tests.support.waiting import DEADLINE_S, until

from tandem.engine import GenerationRequest, SamplingParams
from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import LinkLost, ServiceStopping

SHAPE = Size(2, 32, 64, 2, 2, 16, 300, 256)
_KINDS = ("flip", "cut", "abort 0", "abort 1", "none")

Tokens = dict[str, list[list[int]]]


def play_faults(directory: Path, strategy: str, seed: int, sessions: int) -> None:
    """At worst an error: never a wrong token, a hang, or a thread or file that stays."""
    checkpoint = directory / "model"
    create_checkpoint(checkpoint, family="llama", size=SHAPE, dtype="float32")
    with running(checkpoint, "local", 1, directory) as group:
        expected = group.generate(_requests())
    random = Random(seed)
    before = _resources()
    undisturbed = 0
    for number in range(sessions):
        fault = Fault(random, _KINDS[number % len(_KINDS)])
        tokens = _session(checkpoint, directory / "nodes", strategy, fault)
        assert tokens in (None, expected), fault.kind
        assert tokens == expected or fault.struck, "lost without a fault"
        undisturbed += tokens == expected
    assert undisturbed < sessions, "some faults strike"
    until(lambda: _resources() == before)


class Fault:
    """One thing that goes wrong at a random moment of a session."""

    def __init__(self, random: Random, kind: str) -> None:
        self.kind = kind
        # From the first bytes of the plan to beyond the last of the session.
        self._offset = random.randrange(1200, 12_000)
        self._delay_s = random.random() * 0.01
        self._tap: Tap | None = None
        self._timer: threading.Timer | None = None

    @property
    def struck(self) -> bool:
        """Whether it may have hit: what was to be broken was sent, or a rank gave up."""
        if self.kind in {"flip", "cut"}:
            return self._tap is not None and len(self._tap.seen["to_target"]) >= self._offset
        return self.kind != "none"

    def via(self, port: int) -> int:
        self._tap = Tap(("127.0.0.1", port))
        if self.kind == "flip":
            self._tap.flip_at = self._offset
        if self.kind == "cut":
            self._tap.cut_at = self._offset
        return self._tap.port

    def strike(self, group: Ranks) -> None:
        if self.kind.startswith("abort"):
            rank = int(self.kind[-1])
            abort = group.channels[rank][1 - rank].abort
            self._timer = threading.Timer(self._delay_s, abort)
            self._timer.start()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.join()
        if self._tap is not None:
            self._tap.close()


def _session(checkpoint: Path, directory: Path, strategy: str, fault: Fault) -> Tokens | None:
    """The tokens, or None when the requests ended with a typed error."""
    try:
        with running(
            checkpoint, strategy, 2, directory, timeout_s=DEADLINE_S, via=fault.via
        ) as group:
            fault.strike(group)
            try:
                return group.generate(_requests())
            except (LinkLost, ServiceStopping):  # both are retryable
                return None
    finally:
        fault.end()


def _requests() -> list[GenerationRequest]:
    return [
        GenerationRequest(
            request_id=f"r{i}",
            prompts=[[3 + i, 5, 7 + i]],
            samples=1,
            params=SamplingParams(max_tokens=4, temperature=float(i), seed=i),
            stop=[],
            ignore_eos=True,
            deadline=time.monotonic() + DEADLINE_S,
        )
        for i in range(2)
    ]


def _resources() -> tuple[int, int]:
    """Open files and threads of this process."""
    gc.collect()
    return psutil.Process().num_fds(), threading.active_count()
