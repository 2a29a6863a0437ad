"""Whether the head of a model is its embedding where `config.json` says so.

Whoever trains a head of its own and saves it may leave the config as it was: the files count.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.engine.checkpoint.index import candidates, whole

if TYPE_CHECKING:
    import numpy.typing as npt

#: So many rows are compared at once; those that differ do so soon.
_ROWS = 1024


def has_own_head(directory: Path, head: str, embedding: str) -> bool:
    """Whether safetensors have both, and other numbers in the one than in the other.

    Raises CheckpointError.
    """
    if whole(directory, candidates(directory)) is None:
        return False
    from tandem.engine.checkpoint.safetensors import Safetensors

    with closing(Safetensors(directory, "numpy")) as source:
        if head not in source.files or embedding not in source.files:
            return False
        stored = source.stored(embedding)
        if source.stored(head) != stored:
            return True
        # What is no matrix is refused later, by its name.
        return len(stored.shape) == 2 and not _equal(source.array(head), source.array(embedding))


def _equal(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    parts = (slice(row, row + _ROWS) for row in range(0, len(one), _ROWS))
    return all(bool((one[part] == other[part]).all()) for part in parts)
