"""The join token of a data folder."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from tandem.coordinator import load_or_create_join_token
from tandem.errors import ConfigurationError


def test_the_join_token_is_made_once_even_by_several_at_once(tmp_path: Path) -> None:
    tokens: list[str] = []
    barrier = threading.Barrier(8)

    def load() -> None:
        barrier.wait()
        tokens.append(load_or_create_join_token(tmp_path))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 8
    assert len(set(tokens)) == 1
    assert stat.S_IMODE((tmp_path / "join-token").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["join-token"]


def test_an_empty_join_token_is_no_token(tmp_path: Path) -> None:
    (tmp_path / "join-token").write_text("\n")
    with pytest.raises(ConfigurationError, match="join-token"):
        load_or_create_join_token(tmp_path)
