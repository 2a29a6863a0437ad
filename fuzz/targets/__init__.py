"""What is fuzzed, a module each. `run` takes any bytes; what it raises is a fault.

`TOKENS` are pieces that inputs of its kind are made of; after `PREFIX` bytes they are text of
`CODEC` (`fuzz.trees.CODECS`), None for what has no such form. An input does the same each time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

NAMES = (
    "http_bodies",
    "provider_frames",
    "link_frames",
    "checkpoints",
    "gguf",
    "quantized",
    "templates",
    "tokenizers",
)


class Target(Protocol):
    TOKENS: tuple[str, ...]
    PREFIX: int
    CODEC: str | None

    def run(self, data: bytes) -> None:
        """Raises for what must not happen."""


def target(name: str) -> Target:
    return cast("Target", import_module(f"fuzz.targets.{name}"))
