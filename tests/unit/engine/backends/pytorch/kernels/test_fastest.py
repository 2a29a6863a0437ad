"""Races between ways to compute the same thing, on a clock that the ways themselves move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat

from tandem.engine.backends.pytorch.kernels.fastest import RowRaces, Way, fastest


class Track:
    """Ways that take the given times, lap by lap."""

    def __init__(self) -> None:
        self.now = 0.0

    def way(self, *laps: float) -> list[Callable[[], None]]:
        times: Iterator[float] = chain(laps, repeat(laps[-1]))

        def run() -> None:
            self.now += next(times)

        return [run]

    def clock(self) -> float:
        return self.now


def test_the_fastest_wins() -> None:
    track = Track()
    ways = {"slow": track.way(3.0), "fast": track.way(1.0), "middling": track.way(2.0)}
    assert fastest("a race", ways, track.clock) == "fast"


def test_the_first_named_wins_a_draw() -> None:
    track = Track()
    ways = {"usual": track.way(1.0), "hardly faster": track.way(0.95)}
    assert fastest("a race", ways, track.clock) == "usual"


def test_small_gains_do_not_add_up() -> None:
    track = Track()
    ways = {"usual": track.way(1.0), "a little": track.way(0.92), "more": track.way(0.85)}
    assert fastest("a race", ways, track.clock) == "more"


def test_a_disturbed_lap_decides_nothing() -> None:
    track = Track()
    ways = {"usual": track.way(2.0), "fast": track.way(9.0, 9.0, 1.0)}
    assert fastest("a race", ways, track.clock) == "fast"


def test_rows_between_go_with_the_next_race_and_races_run_once() -> None:
    raced: list[int] = []

    def ways(rows: int, probes: list[str]) -> dict[str, Sequence[Way]]:
        assert probes == ["a probe"]
        raced.append(rows)
        return {f"as {rows} do": [lambda: None]}

    races = RowRaces("some", (1, 4), lambda: ["a probe"], ways, more="as many do")
    found = [races.winner(rows) for rows in (1, 2, 4, 5)]
    assert found == ["as 1 do", "as 4 do", "as 4 do", "as many do"]
    assert races.run() == {1: "as 1 do", 4: "as 4 do"}
    assert raced == [1, 4]
