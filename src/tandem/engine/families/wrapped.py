"""Text models that stand in checkpoints of models that see: their config, and their tensors' names.

The config has them in `text_config`. What sees is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tandem.engine.checkpoint.config import CONFIG_FILE, Raw
from tandem.engine.checkpoint.files import convert, read_json
from tandem.engine.checkpoint.formats import stored_names

PREFIX, HEAD = "language_model.model.", "language_model.lm_head.weight"
#: Programs write the names in two ways.
BEGINNINGS = {
    "model.language_model.": PREFIX,
    "lm_head.": HEAD.removesuffix("weight"),
    "vision_tower.": None,
    "multi_modal_projector.": None,
    "model.vision_tower.": None,
    "model.multi_modal_projector.": None,
}
#: Fields that are the whole model's.
_OUTER = {
    *("architectures", "model_type", "torch_dtype", "dtype", "tie_word_embeddings"),
    "vision_config",
}


class _Wrapper(msgspec.Struct, frozen=True):
    text_config: dict[str, Any]
    tie_word_embeddings: bool | None = None
    torch_dtype: str | None = None
    dtype: str | None = None
    eos_token_id: int | list[int] | None = None


def read_text_type(directory: Path) -> str | None:
    """The `model_type` of the text model. Raises CheckpointError."""
    path = directory / CONFIG_FILE
    stated = read_json(path, _Wrapper).text_config.get("model_type")
    return convert(stated, str, path) if stated is not None else None


def read_text(directory: Path, kind: type[Raw], defaults: Mapping[str, Any]) -> Raw:
    """The text model's config, with `defaults` for what it leaves out. Raises CheckpointError.

    Where nothing says that the head is a tensor of its own the weights do, as for `transformers`.
    """
    path = directory / CONFIG_FILE
    outer = read_json(path, _Wrapper)
    tied = outer.tie_word_embeddings is not False and not _has_head(directory)
    dtype = outer.dtype or outer.torch_dtype
    stated = {**defaults, **({"dtype": dtype} if dtype else {}), **outer.text_config}
    if outer.eos_token_id is not None:
        stated["eos_token_id"] = outer.eos_token_id
    return convert({**stated, "tie_word_embeddings": tied}, kind, path)


def wrapped(fields: Mapping[str, Any], text_type: str) -> dict[str, Any]:
    """A `config.json` of such a model, of the text model's fields."""
    outer = {name: value for name, value in fields.items() if name in _OUTER}
    inner = {name: value for name, value in fields.items() if name not in _OUTER}
    return {**outer, "text_config": {**inner, "model_type": text_type}}


def _has_head(directory: Path) -> bool:
    return any(name.endswith("lm_head.weight") for name in stored_names(directory))
