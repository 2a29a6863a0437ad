"""Files of a folder from elsewhere: bounded, regular, and named when they are wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tandem.engine.checkpoint.files import (
    MAX_JSON_BYTES,
    is_there,
    read_bounded,
    read_json,
    read_text,
)
from tandem.errors import CheckpointError


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(MAX_JSON_BYTES)
    assert len(read_bounded(path)) == MAX_JSON_BYTES
    with path.open("wb") as file:
        file.truncate(10**13)  # a file of holes, which takes no room itself
    with pytest.raises(CheckpointError, match=r"config\.json: larger than 16 MiB"):
        read_json(path, dict)


def test_what_is_no_file_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(CheckpointError, match="missing"):
        read_json(path, dict)
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="not a file"):
        read_json(path, dict)
    with pytest.raises(CheckpointError, match="not a file"):
        read_text(tmp_path)


@pytest.mark.parametrize("ask", [is_there, read_bounded])
def test_what_the_system_says_of_a_name_is_said_of_the_file(
    tmp_path: Path, ask: Callable[[Path], object]
) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: File name too long"):
        ask(tmp_path / ("a" * 300))


def test_json_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a":' + "[" * 10**6)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_json(path, dict)


def test_text_is_utf8_with_plain_ends_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "chat_template.jinja"
    path.write_bytes("é\r\nb\rc\n".encode())
    assert read_text(path) == "é\nb\nc\n"
    path.write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match="not UTF-8"):
        read_text(path)
