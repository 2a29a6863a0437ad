"""Kernels are measured against each other, on a clock that the kernels themselves move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat

from tandem.engine.backends.pytorch.kernels.autotune import Autotuner, Call, fastest


class Track:
    """Kernels that take the given times, lap by lap."""

    def __init__(self) -> None:
        self.now = 0.0

    def kernel(self, *laps: float) -> list[Callable[[], None]]:
        times: Iterator[float] = chain(laps, repeat(laps[-1]))

        def run() -> None:
            self.now += next(times)

        return [run]

    def clock(self) -> float:
        return self.now


def test_the_fastest_is_chosen() -> None:
    track = Track()
    kernels = {"slow": track.kernel(3.0), "fast": track.kernel(1.0), "middling": track.kernel(2.0)}
    assert fastest("a product", kernels, track.clock) == "fast"


def test_the_first_named_wins_a_draw() -> None:
    track = Track()
    kernels = {"usual": track.kernel(1.0), "hardly faster": track.kernel(0.95)}
    assert fastest("a product", kernels, track.clock) == "usual"


def test_small_gains_do_not_add_up() -> None:
    track = Track()
    kernels = {
        "usual": track.kernel(1.0),
        "a little": track.kernel(0.92),
        "more": track.kernel(0.85),
    }
    assert fastest("a product", kernels, track.clock) == "more"


def test_a_disturbed_lap_decides_nothing() -> None:
    track = Track()
    kernels = {"usual": track.kernel(2.0), "fast": track.kernel(9.0, 9.0, 1.0)}
    assert fastest("a product", kernels, track.clock) == "fast"


def test_rows_between_go_by_the_next_measured_and_measuring_is_done_once() -> None:
    measured: list[int] = []

    def candidates(rows: int, weights: list[str]) -> dict[str, Sequence[Call]]:
        assert weights == ["a weight"]
        measured.append(rows)
        return {f"for {rows}": [lambda: None]}

    tuner = Autotuner("some", (1, 4), lambda: ["a weight"], candidates, beyond="for many")
    found = [tuner.kernel(rows) for rows in (1, 2, 4, 5)]
    assert found == ["for 1", "for 4", "for 4", "for many"]
    assert tuner.tune() == {1: "for 1", 4: "for 4"}
    assert measured == [1, 4]


def test_the_kernel_of_each_number_of_rows_is_the_fastest_there() -> None:
    track = Track()

    def candidates(rows: int, weights: list[None]) -> dict[str, Sequence[Call]]:
        return {"usual": track.kernel(4.0), "for few": track.kernel(float(rows))}

    tuner = Autotuner("some", (1, 8), lambda: [None], candidates, beyond="usual", clock=track.clock)
    assert [tuner.kernel(rows) for rows in (1, 8, 9)] == ["for few", "usual", "usual"]
