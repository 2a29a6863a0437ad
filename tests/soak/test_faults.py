"""A thousand faults on the wire and in the ranks: at worst an error, never a wrong token."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.faults import play_faults


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("strategy", ["tp", "pp"])
@pytest.mark.parametrize("seed", range(4))
def test_no_fault_gives_a_wrong_token_a_hang_or_a_leak(
    tmp_path: Path, strategy: str, seed: int
) -> None:
    play_faults(tmp_path, strategy, seed, sessions=125)
