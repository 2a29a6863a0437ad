"""Text models that stand in checkpoints of models that see: their config, and their tensors' names.

What sees is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tandem.engine.checkpoint.config import CONFIG_FILE, Raw
from tandem.engine.checkpoint.files import convert, read_json
from tandem.engine.checkpoint.formats import stored_names
from tandem.engine.checkpoint.renamed import Beginnings
from tandem.errors import CheckpointError

#: Fields that are the whole model's.
_OUTER = {
    *("architectures", "model_type", "torch_dtype", "dtype", "tie_word_embeddings"),
    "vision_config",
}


class Names(msgspec.Struct, frozen=True):
    """What tensors of the text model are called, and how other programs call them."""

    prefix: str
    head: str
    renamed: Beginnings

    @property
    def fields(self) -> dict[str, Any]:
        """Those of a `LlamaFamily`."""
        return {"prefix": self.prefix, "head": self.head, "renamed": self.renamed}


#: Of Llava, and of those that are made like it.
LLAVA = Names(
    "language_model.model.",
    "language_model.lm_head.weight",
    {
        "model.language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "vision_tower.": None,
        "multi_modal_projector.": None,
        "model.vision_tower.": None,
        "model.multi_modal_projector.": None,
    },
)
QWEN = Names(
    "model.language_model.",
    "lm_head.weight",
    {
        "visual.": None,
        "model.visual.": None,
        "vision_tower.": None,
        "language_model.model.": "model.language_model.",
        "language_model.lm_head.": "lm_head.",
        "model.language_model.": "model.language_model.",
        "model.": "model.language_model.",
    },
)


class _Wrapper(msgspec.Struct, frozen=True):
    text_config: dict[str, Any] | None = None
    tie_word_embeddings: bool | None = None
    torch_dtype: str | None = None
    dtype: str | None = None
    eos_token_id: int | list[int] | None = None


def read_text_type(directory: Path, default: str) -> str:
    """The `model_type` of the text model. Raises CheckpointError."""
    text = read_json(directory / CONFIG_FILE, _Wrapper).text_config or {}
    return str(text.get("model_type") or default)


def read_text(
    directory: Path, kind: type[Raw], defaults: Mapping[str, Any], *, flat: bool = False
) -> Raw:
    """The text model's config, with `defaults` for what it leaves out. Raises CheckpointError.

    It is in `text_config`; if `flat`, it may also be where the whole model's is. Where nothing says
    that the head is a tensor of its own the weights do, as for `transformers`.
    """
    path = directory / CONFIG_FILE
    outer = read_json(path, _Wrapper)
    text = outer.text_config
    if text is None and not flat:
        raise CheckpointError(f"{path}: text_config is missing: this model's text model is there")
    if text is None:
        text = read_json(path, dict[str, Any])
    dtype = outer.dtype or outer.torch_dtype
    fields = {**defaults, **({"dtype": dtype} if dtype else {}), **text}
    if outer.eos_token_id is not None:
        fields["eos_token_id"] = outer.eos_token_id
    untied = outer.tie_word_embeddings is False and text.get("tie_word_embeddings") is not True
    tied = not untied and not _has_head(directory)
    return convert({**fields, "tie_word_embeddings": tied}, kind, path)


def wrapped(fields: Mapping[str, Any], text_type: str) -> dict[str, Any]:
    """A `config.json` of such a model, of the text model's fields."""
    outer = {name: value for name, value in fields.items() if name in _OUTER}
    inner = {name: value for name, value in fields.items() if name not in _OUTER}
    return {**outer, "text_config": {**inner, "model_type": text_type}}


def _has_head(directory: Path) -> bool:
    return any(name.endswith("lm_head.weight") for name in stored_names(directory))
