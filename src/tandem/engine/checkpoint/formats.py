"""The formats of weights that can be read, and which one a directory has.

Rows are functions, so that a format's library is imported when a file of it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tandem.engine.checkpoint.weights import WeightSource, check_weights

Opener = Callable[[Path, str], WeightSource[Any]]


def _safetensors(directory: Path, library: str) -> WeightSource[Any]:
    from tandem.engine.checkpoint.safetensors import Safetensors

    return Safetensors(directory, library)


#: By a pattern of file names; a directory that has none is said to lack the first.
FORMATS: dict[str, Opener] = {"*.safetensors": _safetensors}


def weight_files(directory: Path) -> list[Path]:
    """In the order of their names, whatever their format."""
    return sorted(file for pattern in FORMATS for file in directory.glob(pattern))


@contextmanager
def open_weights(
    directory: Path,
    library: str,
    expected: Mapping[str, tuple[int, ...]],
    ignored: tuple[str, ...] = (),
) -> Iterator[WeightSource[Any]]:
    """The directory's weights, checked; `library` makes the tensors (`pt`, `mlx`, `numpy`).

    Raises CheckpointError as `check_weights` does.
    """
    rows = FORMATS.items()
    found = [opener for pattern, opener in rows if any(directory.glob(pattern))]
    source = (found or list(FORMATS.values()))[0](directory, library)
    try:
        check_weights(source, directory, expected, ignored)
        yield source
    finally:
        source.close()
