"""A small model of a family, of odd shape."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tandem.engine.families import Size

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}


class Shape(NamedTuple):
    """A row; `overrides` replace fields of its `config.json`."""

    family: str
    size: Size
    overrides: Mapping[str, Any] = MappingProxyType({})

    @property
    def ways(self) -> list[str]:
        """How it can be run: by one process, by ranks that share each layer, and as a pipeline."""
        sharing = [f"tp{ranks}" for ranks in (2, 3) if self.size.kv_heads % ranks == 0]
        return ["alone", *sharing[:1], "pp2"]
