from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tandem.client.session import (
    UpSession,
    exclusive,
    read_session,
    remove_session,
    session_path,
    write_session,
)
from tandem.errors import ConfigurationError

_SESSION = UpSession("http://127.0.0.1:8000/v1", "sk-tandem-x")


def test_a_session_is_read_back_and_removed(tmp_path: Path) -> None:
    assert read_session(tmp_path) is None
    write_session(tmp_path, _SESSION)
    assert read_session(tmp_path) == _SESSION
    remove_session(tmp_path)
    remove_session(tmp_path)
    assert read_session(tmp_path) is None


def test_nobody_else_can_read_the_session_and_nothing_else_is_left(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        write_session(tmp_path, _SESSION)
        write_session(tmp_path, _SESSION)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(session_path(tmp_path).stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [session_path(tmp_path)]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"base_url": 1}'])
def test_a_damaged_session_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    session_path(tmp_path).write_bytes(content)
    with pytest.raises(ConfigurationError, match="remove it"):
        read_session(tmp_path)


def test_the_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with exclusive(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_second_up_is_refused_by_pid_and_the_lock_ends_with_its_holder(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        with pytest.raises(ConfigurationError) as refused, exclusive(tmp_path):
            pass
        assert f"pid {os.getpid()}" in refused.value.message
        assert "--data-dir" in refused.value.message
    with exclusive(tmp_path):
        pass


def test_a_failure_inside_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), exclusive(tmp_path):
        raise ValueError("inside")
    with exclusive(tmp_path):
        pass
