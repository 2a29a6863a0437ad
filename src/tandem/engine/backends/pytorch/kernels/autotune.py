"""Autotuning: which of several kernels for the same product is the fastest on this machine.

That depends on the processor's instructions, its caches and the number of threads, and no table of
processors is complete. So the kernels run against each other for some hundredths of a second, once
a process, while a model is loaded; the log says which was chosen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import structlog
import torch

log = structlog.get_logger(__name__)

#: A later kernel must be this much faster than those before it, or noise would choose.
_MARGIN = 1.1
_LAPS = 7
#: Weights to measure with: more than caches hold, so that they come from memory as a model's do.
SAMPLE_SHAPE, SAMPLES = (4096, 4096), 6

Call = Callable[[], object]
"""One product by a kernel, with all its arguments."""

Candidates = Mapping[str, Sequence[Call]]
"""Kernels by name, each as its calls for all weights to measure with."""

Weight = TypeVar("Weight")


def fastest(what: str, candidates: Candidates, clock: Callable[[], float]) -> str:
    """The name of the kernel whose calls, one after the other, take the least time.

    Those that are named first win a draw: where all wait for a memory that others use too, say
    another rank that is being loaded, measuring shows nothing.
    """
    seconds = dict.fromkeys(candidates, float("inf"))
    # In turns, so that a busy moment of the machine meets all of them.
    for _ in range(_LAPS):
        for name, calls in candidates.items():
            seconds[name] = min(seconds[name], _lap(calls, clock))
    best = next(iter(candidates))
    for name in candidates:
        if seconds[name] * _MARGIN < seconds[best]:
            best = name
    milliseconds = {name: round(taken * 1e3, 2) for name, taken in seconds.items()}
    log.info("kernel_chosen", product=what, kernel=best, ms=milliseconds)
    return best


def sample_weight() -> torch.Tensor:
    """A bfloat16 matrix, of which `SAMPLES` copies are measured with."""
    # Ones, not empty: pages that nobody wrote are all the same one, and in the cache.
    return torch.ones(SAMPLE_SHAPE, dtype=torch.bfloat16)


class Autotuner(Generic[Weight]):
    """The fastest kernel by the number of rows, for weights of one kind.

    It measures for some numbers of rows; those between go by the next measured one. It does so
    once for a number of threads, of which PyTorch has as many then.
    """

    def __init__(
        self,
        what: str,
        measured_rows: Sequence[int],
        make_weights: Callable[[], list[Weight]],
        candidates: Callable[[int, list[Weight]], Candidates],
        *,
        beyond: str,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`candidates` for so many rows by the made weights; more than measured go `beyond`."""
        self._what = what
        self._measured_rows = measured_rows
        self._make_weights = make_weights
        self._candidates = candidates
        self._beyond = beyond
        self._clock = clock
        self._chosen: dict[int, dict[int, str]] = {}  # by threads, by rows

    def tune(self) -> dict[int, str]:
        """The kernels by measured rows; called before anybody waits for an answer."""
        threads = torch.get_num_threads()
        if threads not in self._chosen:
            weights = self._make_weights()
            self._chosen[threads] = {
                rows: self._fastest(rows, weights) for rows in self._measured_rows
            }
        return self._chosen[threads]

    def kernel(self, rows: int) -> str:
        for measured, name in self.tune().items():
            if rows <= measured:
                return name
        return self._beyond

    def _fastest(self, rows: int, weights: list[Weight]) -> str:
        candidates = self._candidates(rows, weights)
        return fastest(f"{self._what}, rows: {rows}", candidates, self._clock)


def _lap(calls: Sequence[Call], clock: Callable[[], float]) -> float:
    began = clock()
    for call in calls:
        call()
    return clock() - began
