"""What importing the engine loads: no library that computes, before a backend is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAVY = {"torch", "numpy", "numba", "tokenizers", "safetensors"}


def _loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["tandem.engine", "tandem.engine.backends"])
def test_the_engine_is_imported_without_a_backend(module: str) -> None:
    assert not _loaded_by(f"import {module}") & _HEAVY


def test_a_backend_is_imported_when_it_is_asked_for() -> None:
    assert "torch" in _loaded_by("import tandem.engine; tandem.engine.find_backend('pytorch')")


def test_a_checkpoint_is_inspected_without_a_backend() -> None:
    """Its tokenizer is read as well, which says what ends an answer."""
    code = (
        "from tandem.engine import DEMO_MODEL, resolve_model\n"
        "from tandem.engine.inspect import inspect_checkpoint\n"
        "assert inspect_checkpoint(resolve_model(DEMO_MODEL)).end_tokens == [0, 2]"
    )
    assert not _loaded_by(code) & {"torch", "numba"}
