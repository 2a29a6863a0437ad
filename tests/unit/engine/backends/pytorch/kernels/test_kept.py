"""Compiled loops are kept from start to start, and not when a file that they use has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tandem.engine.backends.pytorch.kernels import compiled, kept
from tandem.engine.backends.pytorch.kernels.tiled import loops

LOOP = """
from pathlib import Path
import numba
from tandem.engine.backends.pytorch.kernels.kept import keep_by_sources
keep_by_sources(Path(__file__).parent)
from other import ANSWER

@numba.njit(cache=True)
def answer():
    return ANSWER

print(answer(), sum(answer.stats.cache_hits.values()))
"""


def run(folder: Path) -> str:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "NUMBA_CACHE_DIR": str(folder / "kept"),
        "PYTHONDONTWRITEBYTECODE": "1",  # of files that are as long and as old, it keeps the first
    }
    command = [sys.executable, str(folder / "loop.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_loop_is_compiled_anew_when_another_file_has_changed(tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(LOOP)
    (tmp_path / "other.py").write_text("ANSWER = 41\n")
    assert run(tmp_path) == "41 0"
    assert run(tmp_path) == "41 1"
    (tmp_path / "other.py").write_text("ANSWER = 42\n")
    assert run(tmp_path) == "42 0"


def test_a_digest_is_of_every_source_and_its_name(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    source = tmp_path / "deep" / "one.py"
    source.write_text("1")
    first = kept.digest(tmp_path)
    assert kept.digest(tmp_path) == first
    source.write_text("2")
    second = kept.digest(tmp_path)
    source.rename(tmp_path / "deep" / "two.py")
    assert len({first, second, kept.digest(tmp_path)}) == 3


def test_loops_of_the_kernels_are_kept_by_all_of_their_sources() -> None:
    sources = kept.digest(Path(compiled.__file__).parent)
    found: list[Any] = [compiled.rms_norm, loops.claim_tiles]
    for loop in found:
        assert sources in loop._cache._cache_file._source_stamp
