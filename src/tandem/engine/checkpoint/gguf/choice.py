"""Which GGUF files are a model: the parts of one, and one of several quantisations beside another.

Names alone, so that it is known before anything is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tandem.engine.checkpoint.files import reading
from tandem.errors import ConfigurationError

SUFFIX = ".gguf"
#: What every such file begins with.
MAGIC = b"GGUF"
#: Where a folder that describes a GGUF has links to its files.
LINKS = "linked-gguf"
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_MAX_PARTS = 2**12
#: Beside models lie encoders of images, and statistics that quantisation goes by.
_OTHERS = re.compile(r"(?i)(?:^|.*[-._])(?:mmproj|imatrix)(?:[-._].*)?\.gguf")
_MOST_SHOWN = 40


def part_names(name: str) -> list[str]:
    """The files of a model that one of them is of: itself, or all parts in order."""
    found = _PART.fullmatch(name)
    if found is None or not 1 <= int(found[3]) <= _MAX_PARTS:
        return [name]
    return [f"{found[1]}-{part:05}-of-{found[3]}{SUFFIX}" for part in range(1, int(found[3]) + 1)]


def model_stem(name: str) -> str:
    """A file's name without what says that it is a part, and a GGUF."""
    found = _PART.fullmatch(name)
    return found[1] if found is not None else name.removesuffix(SUFFIX)


def choose(names: Iterable[str], wanted: str | None, where: str) -> str | None:
    """The first file of the one model among `names` that is wanted; None where there is no GGUF.

    `wanted` is a file's name or how its quantisation is called in it, `Q4_K_M`. Raises
    ConfigurationError that lists what there is where that is none, or several.
    """
    models = sorted({_first_part(name) for name in names if _is_model(name)})
    if not models and wanted is None:
        return None
    found = [name for name in models if wanted is None or _is_wanted(name, wanted)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(PurePosixPath(model_stem(name)).name for name in models[:_MOST_SHOWN])
    what = "no GGUF" if not models else f"{len(models)} in GGUF: {listed}"
    ask = f"none is {wanted!r}" if wanted is not None and not found else "name one"
    raise ConfigurationError(
        f"{where} has {what}; {ask}; say which after a colon, by its file or quantisation, as in "
        f"{where}:Q4_K_M"
    )


def linked_parts(directory: Path) -> list[list[str]]:
    """The sets of files that may hold the weights of a folder that describes a GGUF."""
    links = directory / LINKS
    with reading(links):
        names = sorted(path.name for path in links.glob("*" + SUFFIX))
    return [[f"{LINKS}/{part}" for part in part_names(name)] for name in names[:1]]


def _is_model(name: str) -> bool:
    return name.endswith(SUFFIX) and not _OTHERS.fullmatch(PurePosixPath(name).name)


def _first_part(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(part_names(path.name)[0]))


def _is_wanted(name: str, wanted: str) -> bool:
    path = PurePosixPath(name)
    if wanted in (name, path.name, str(path.with_name(model_stem(path.name)))):
        return True
    stem, tag = model_stem(path.name).casefold(), wanted.casefold()
    return stem == tag or (stem.endswith(tag) and stem[-len(tag) - 1] in "-._")
