"""Which files hold the weights in Hugging Face's layout: one, or those that an index names.

As `transformers` has it: the single file goes before an index, which may be left over from another
export, and what a file holds is what it says itself, not what the index says of it. Folders often
hold more, such as the original export and those of other programs.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from tandem.engine.checkpoint.files import is_there, read_json
from tandem.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_MAX_INDEX_BYTES = 64 * 2**20


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


def candidates(directory: Path) -> list[list[str]]:
    """The sets of files that may hold the weights, the best first. Raises CheckpointError."""
    index = directory / INDEX_FILE
    if not is_there(index):
        return [[SINGLE_FILE]]
    weight_map = read_json(index, _Index, _MAX_INDEX_BYTES).weight_map
    for name, file in weight_map.items():
        if Path(file).name != file:
            raise CheckpointError(f"{index}: {name} is mapped to {file!r}, not a plain file name")
    return [[SINGLE_FILE], sorted(set(weight_map.values()))]


def whole(directory: Path, sets: list[list[str]]) -> list[str] | None:
    """The first set of files that is there, None where none is."""
    found = (names for names in sets if names and all(is_there(directory / n) for n in names))
    return next(found, None)


def missing(directory: Path) -> CheckpointError:
    """What to say where none is."""
    for name in candidates(directory)[-1]:
        if name != SINGLE_FILE and not is_there(directory / name):
            return CheckpointError(
                f"{directory / name}: missing, though {INDEX_FILE} names it; "
                "copy or download it again"
            )
    return CheckpointError(f"{directory}: neither {SINGLE_FILE} nor {INDEX_FILE} is there")
