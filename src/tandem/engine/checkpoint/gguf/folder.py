"""A GGUF described as a folder of Hugging Face's, which is what everything else reads.

Config, tokenizer and template are derived from the file's fields and written once, into a folder of
the cache that is called by the file and its state, with a link to the file itself. Processes that
start later, as the one that tokenises, find it there; the folder of one file is the same in all.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from tandem.engine.checkpoint.files import reading
from tandem.engine.checkpoint.gguf.choice import LINKS, SUFFIX, linked_parts, part_names
from tandem.engine.checkpoint.gguf.config import config_of, generation_config_of
from tandem.engine.checkpoint.gguf.model import GgufModel
from tandem.engine.checkpoint.gguf.tokenizer import tokenizer_config_of, tokenizer_of
from tandem.errors import CheckpointError

#: Part of a folder's name: what is derived otherwise than before counts one more.
_VERSION = 1
#: How folders are called while they are written, and how long that takes at the very most.
_BEGUN, _LONGEST_S = "new-", 86400.0


def describe(file: Path) -> Path:
    """The folder that stands for a GGUF, any of its parts. Raises CheckpointError."""
    file = Path(os.path.abspath(file))  # noqa: PTH100 - links of a hub's cache keep their names
    parts = [file.with_name(name) for name in part_names(file.name)]
    cache = _usable(_users_cache())
    folder = cache / _key(parts)
    if not folder.is_dir():
        with _scratch(cache) as made:
            write_description(made, parts)
            _rename(made, folder)
        _forget_others(cache)
    return folder


def described_file(folder: Path) -> Path:
    """The GGUF's first part that a folder of `describe` stands for. Raises CheckpointError."""
    link = folder / linked_parts(folder)[0][0]
    with reading(link):
        return link.readlink()


def write_description(folder: Path, parts: list[Path]) -> None:
    """What `describe` keeps of a GGUF of these parts. Raises CheckpointError."""
    with GgufModel(parts[0]) as model:
        contents: dict[str, Any] = {
            "config.json": config_of(model),
            "generation_config.json": generation_config_of(model),
            "tokenizer.json": tokenizer_of(model),
            "tokenizer_config.json": tokenizer_config_of(model),
        }
    for name, content in contents.items():
        (folder / name).write_bytes(msgspec.json.encode(content))
    (folder / LINKS).mkdir()
    for part in parts:
        name = part.name if part.suffix == SUFFIX else part.name + SUFFIX
        (folder / LINKS / name).symlink_to(part)


def _rename(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise


def _key(parts: list[Path]) -> str:
    digest = hashlib.sha256(str(_VERSION).encode())
    for part in parts:
        with reading(part):
            state = part.stat()
        digest.update(f"\n{part} {state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()[:32]


def _users_cache() -> Path:
    try:
        return platformdirs.user_cache_path("tandem", appauthor=False) / "gguf"
    except RuntimeError:  # a user without a home
        return Path(os.devnull) / "gguf"


@functools.cache
def _usable(cache: Path) -> Path:
    """The user's cache, or a folder for this process alone where nothing can be kept.

    Raises CheckpointError where there is no place for that either.
    """
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            return cache
    except OSError:
        own = _own_folder(cache)
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        return own


def _own_folder(cache: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="tandem-gguf-"))
    except OSError as error:
        raise CheckpointError(
            f"neither {cache} nor a temporary folder can be written, where a GGUF is described: "
            f"{error.strerror or error}; set XDG_CACHE_HOME or TMPDIR to a folder that can"
        ) from error


@contextlib.contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """A folder that is gone afterwards, unless it was given another name."""
    try:
        made = Path(tempfile.mkdtemp(prefix=_BEGUN, dir=cache))
    except OSError as error:
        raise CheckpointError(f"{cache}: cannot be written: {error.strerror or error}") from error
    try:
        yield made
    except OSError as error:
        raise CheckpointError(f"{made}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _forget_others(cache: Path) -> None:
    """Removes what stands for files that are gone, and what killed processes had begun."""
    for folder in cache.iterdir():
        with contextlib.suppress(OSError):  # of what cannot be known: it stays
            if _is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    if folder.name.startswith(_BEGUN):
        return time.time() - folder.stat().st_mtime > _LONGEST_S
    return any(_is_gone(link) for link in (folder / LINKS).glob("*"))


def _is_gone(link: Path) -> bool:
    try:
        link.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    return False
