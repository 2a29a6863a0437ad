"""Exponential backoff with full jitter (AWS architecture blog, 2015), as a plain iterator."""

from __future__ import annotations

from random import Random


class Backoff:
    """Delays in seconds: uniform between 0 and min(cap, base * 2^attempt), never under `floor`."""

    def __init__(
        self,
        *,
        base_s: float = 0.25,
        cap_s: float = 15.0,
        floor_s: float = 0.05,
        random: Random | None = None,
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._floor_s = floor_s
        self._random = random or Random()  # noqa: S311 - spreads reconnects, guards nothing
        self._attempt = 0

    def next_delay_s(self) -> float:
        ceiling = min(self._cap_s, self._base_s * 2.0 ** min(self._attempt, 32))
        self._attempt += 1
        return max(self._floor_s, self._random.uniform(0.0, ceiling))

    def reset(self) -> None:
        """Called after a connection that worked, so that the next loss starts from the base."""
        self._attempt = 0
