"""What stays is passed over by the search for garbage, at a new record of its size only."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tandem.runtime import Herd


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def frozen_by(herd: Herd, count: int) -> bool:
    """To be asked a few times only: counting what is frozen walks over all of it."""
    new = [[count]]  # there is something to freeze
    before = gc.get_freeze_count()
    herd.grown_to(count)
    return gc.get_freeze_count() > before and bool(new)


def test_it_is_frozen_when_it_has_grown_by_a_quarter() -> None:
    herd = Herd()
    grown = [count for count in (1, 99, 100, 101, 224, 225, 381, 382) if frozen_by(herd, count)]
    assert grown == [100, 225, 382]


def test_one_that_shrinks_and_grows_back_is_not_frozen_again() -> None:
    herd = Herd()
    assert frozen_by(herd, 1000)
    assert not any(frozen_by(herd, count) for count in (999, 1, 100, 1000, 1349))
    assert frozen_by(herd, 1350)
