"""Faults on the wire and in the ranks; `make soak` plays a thousand."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.faults import play_faults


@pytest.mark.parametrize("strategy", ["tp", "pp"])
def test_no_fault_gives_a_wrong_token_a_hang_or_a_leak(tmp_path: Path, strategy: str) -> None:
    play_faults(tmp_path, strategy, seed=1, sessions=25)
