"""A thousand faults on the wire and in the ranks: at worst an error, never a wrong token."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path
from random import Random

import psutil
import pytest
from tests.support.links import Tap
from tests.support.ranks import Group, running

from tandem.engine import GenerationRequest, SamplingParams
from tandem.engine.checkpoint.random_checkpoint import Size, create_checkpoint
from tandem.errors import LinkLost, ServiceStopping

SHAPE = Size(2, 32, 64, 2, 2, 16, 300, 256)
CHUNKS, SESSIONS = 8, 125
#: What a wait on the link may take; a request's end must come soon after it.
LINK_TIMEOUT_S = 2.0
DEADLINE_S = 8.0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "m"
    create_checkpoint(directory, family="llama", size=SHAPE, dtype="float32")
    return directory


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


class Fault:
    """One thing that goes wrong at a random moment of a session."""

    def __init__(self, random: Random) -> None:
        self.kind = random.choice(("flip", "cut", "abort 0", "abort 1", "none"))
        # From the first bytes of the plan to beyond the last of the session.
        self.offset = random.randrange(1200, 12_000)
        self.delay_s = random.random() * 0.01
        self.tap: Tap | None = None

    def via(self, port: int) -> int:
        self.tap = Tap(("127.0.0.1", port))
        if self.kind == "flip":
            self.tap.flip_at = self.offset
        if self.kind == "cut":
            self.tap.cut_at = self.offset
        return self.tap.port

    def strike(self, group: Group) -> threading.Timer | None:
        if not self.kind.startswith("abort"):
            return None
        rank = int(self.kind[-1])
        timer = threading.Timer(self.delay_s, group.channels[rank][1 - rank].abort)
        timer.start()
        return timer


def _session(
    checkpoint: Path, directory: Path, strategy: str, fault: Fault
) -> dict[str, object] | None:
    """The tokens, or None when the requests ended with a typed error."""
    started = time.monotonic()
    timer = None
    try:
        with running(
            checkpoint, strategy, 2, directory, timeout_s=LINK_TIMEOUT_S, via=fault.via
        ) as group:
            timer = fault.strike(group)
            try:
                return dict(group.generate(_requests()))
            except (LinkLost, ServiceStopping):  # both are retryable
                return None
    finally:
        if timer is not None:
            timer.join()
        if fault.tap is not None:
            fault.tap.close()
        assert time.monotonic() - started < DEADLINE_S * 2


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_fault_gives_a_wrong_token_a_hang_or_a_leak(
    tmp_path: Path, checkpoint: Path, chunk: int
) -> None:
    random = Random(chunk)
    strategy = ("tp", "pp")[chunk % 2]
    with running(checkpoint, "local", 1, tmp_path) as group:
        expected = group.generate(_requests())
    process = psutil.Process()
    gc.collect()
    before = (process.num_fds(), threading.active_count())
    undisturbed = 0
    for _ in range(SESSIONS):
        result = _session(checkpoint, tmp_path / "nodes", strategy, Fault(random))
        assert result in (None, expected)
        undisturbed += result is not None
    gc.collect()
    assert (process.num_fds(), threading.active_count()) == before
    assert 0 < undisturbed < SESSIONS, "some faults strike, and some come too late"
