"""Folders that targets read: in memory where the machine has such a place, and gone at the end."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder that is made by mkdtemp

#: The smallest model that has all that models have.
_SIZE = Size(1, 8, 16, 2, 1, 4, 16, 32)


def new_folder() -> Path:
    folder = Path(
        tempfile.mkdtemp(prefix="tandem-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None)
    )
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def sound_checkpoint() -> Path:
    """A folder with a tiny Llama and a tokenizer of four words."""
    folder = new_folder()
    create_checkpoint(folder, family="llama", size=_SIZE)
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    return folder


TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "c": 2, "<u>": 3}, "unk_token": "<u>"},
}
