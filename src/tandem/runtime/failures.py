"""What to report of several failures at once."""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def first_failure(group: BaseExceptionGroup[E]) -> E:
    """The first that happened, however deep task groups have wrapped it."""
    first = group.exceptions[0]
    return first_failure(first) if isinstance(first, BaseExceptionGroup) else first
