"""The formats of weights that can be read, and which one a directory has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tandem.engine.checkpoint.safetensors import Safetensors
from tandem.engine.checkpoint.weights import WeightSource, check_weights

#: By a pattern of file names; a directory that has none is said to lack the first.
FORMATS: dict[str, Callable[[Path, str], WeightSource[Any]]] = {"*.safetensors*": Safetensors}


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
