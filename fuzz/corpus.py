"""The corpora: a folder of inputs for each target, of which each reaches what others do not."""

from __future__ import annotations

from pathlib import Path

CORPORA = Path(__file__).parent / "corpora"


def corpus(name: str) -> list[Path]:
    """A target's inputs."""
    return sorted((CORPORA / name).iterdir())
