"""When compiled loops that numba has kept are compiled anew: as soon as any source has changed.

numba looks at the file that a loop is in. What the loop calls, and what emits its instructions, may
be in another one; code for a layout that weights no longer have would read beside them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from numba.core import caching

_numba: Any = caching  # whose types say less than what it does


def digest(folder: Path) -> str:
    """Of all Python sources in it and below, and of their names."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        source = path.read_bytes()
        whole.update(f"{path.relative_to(folder).as_posix()} {len(source)}\n".encode())
        whole.update(source)
    return whole.hexdigest()


def keep_by_sources(folder: Path) -> None:
    """From now on, loops of files in the folder are kept as long as none of its sources changes."""
    known = _numba.CacheImpl._locator_classes  # noqa: SLF001 - the one place where numba asks
    sources = digest(folder)
    known[:0] = [_watching(locator, folder, sources) for locator in known]


def _watching(locator: Any, folder: Path, sources: str) -> type:  # noqa: ANN401 - a class of numba's
    class Watching(locator):  # type: ignore[misc]
        @classmethod
        def from_function(cls, py_func: object, py_file: str) -> object:
            inside = Path(py_file).is_relative_to(folder)
            return super().from_function(py_func, py_file) if inside else None

        def get_source_stamp(self) -> object:
            return super().get_source_stamp(), sources

    return Watching
