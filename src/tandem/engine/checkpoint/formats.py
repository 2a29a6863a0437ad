"""The formats of weights that can be read, and which one a directory has.

Rows are functions, so that a format's library is imported when a file of it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tandem.engine.checkpoint import index
from tandem.engine.checkpoint.gguf import choice
from tandem.engine.checkpoint.renamed import Beginnings, Renamed
from tandem.engine.checkpoint.weights import FLOAT_DTYPES, WeightSource, check_weights


class Format(NamedTuple):
    """`candidates` are the sets of files, one of which may hold a directory's weights."""

    candidates: Callable[[Path], list[list[str]]]
    open: Callable[[Path, str], WeightSource[Any]]


def _safetensors(directory: Path, library: str) -> WeightSource[Any]:
    from tandem.engine.checkpoint.safetensors import Safetensors
    from tandem.engine.checkpoint.schemes.settings import read_settings
    from tandem.engine.checkpoint.schemes.source import QuantizedSafetensors
    from tandem.engine.checkpoint.schemes.table import find_scheme

    settings = read_settings(directory)
    scheme = None if settings is None else find_scheme(settings)
    plain = Safetensors(directory, library)
    return plain if scheme is None else QuantizedSafetensors(plain, scheme, library)


def _gguf(directory: Path, library: str) -> WeightSource[Any]:
    from tandem.engine.checkpoint.gguf.folder import described_file
    from tandem.engine.checkpoint.gguf.source import GgufSource

    return GgufSource(described_file(directory), library)


#: By the name of the format.
FORMATS: dict[str, Format] = {
    "safetensors": Format(index.candidates, _safetensors),
    "gguf": Format(choice.linked_parts, _gguf),
}


def weight_files(directory: Path) -> list[Path]:
    """Those that are read, whatever their format; empty where none is whole.

    Raises CheckpointError for an index that is none.
    """
    found = _present(directory)
    return [] if found is None else [directory / name for name in found[1]]


def stored_dtype(directory: Path) -> str | None:
    """Of the first weights that are floating-point numbers; None where there are none.

    Raises CheckpointError.
    """
    with _opened(directory) as source:
        dtypes = (source.stored(name).dtype for name in source.files) if source is not None else ()
        return next((dtype for dtype in dtypes if dtype in FLOAT_DTYPES), None)


def has_few_bits(directory: Path) -> bool:
    """Whether any of its weights are quantised. Raises CheckpointError."""
    with _opened(directory) as source:
        return source is not None and any(source.stored(name).quantized for name in source.files)


def stored_names(directory: Path) -> list[str]:
    """Of the tensors in the weights' files; empty where there are none. Raises CheckpointError."""
    with _opened(directory) as source:
        return [] if source is None else list(source.files)


def quantization_settings(directory: Path) -> dict[str, Any] | None:
    """What a `config.json` says of how its weights are quantised. Raises CheckpointError."""
    from tandem.engine.checkpoint.schemes.settings import read_settings

    settings = read_settings(directory)
    return None if settings is None else settings.values


@contextmanager
def open_weights(
    directory: Path,
    library: str,
    expected: Mapping[str, tuple[int, ...]],
    ignored: tuple[str, ...] = (),
    renamed: Beginnings = MappingProxyType({}),
) -> Iterator[WeightSource[Any]]:
    """The directory's weights, checked; `library` makes the tensors (`pt`, `mlx`, `numpy`).

    `renamed` is what names in files begin with where `expected` has others. Raises CheckpointError
    as `check_weights` does.
    """
    found = _present(directory)
    row = _lacking(directory) if found is None else found[0]
    with closing(row.open(directory, library)) as stored:
        source = Renamed(stored, renamed) if renamed else stored
        check_weights(source, directory, expected, ignored)
        yield source


@contextmanager
def _opened(directory: Path) -> Iterator[WeightSource[Any] | None]:
    """What its files hold, whatever a model should have; None where it has none."""
    found = _present(directory)
    if found is None:
        yield None
        return
    with closing(found[0].open(directory, "numpy")) as source:
        yield source


def _lacking(directory: Path) -> Format:
    """What is missing in a directory that has no format's files: the last that names some."""
    return next(row for row in reversed(FORMATS.values()) if row.candidates(directory))


def _present(directory: Path) -> tuple[Format, list[str]] | None:
    for row in FORMATS.values():
        names = index.whole(directory, row.candidates(directory))
        if names is not None:
            return row, names
    return None
