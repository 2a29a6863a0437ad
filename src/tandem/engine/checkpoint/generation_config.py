"""`generation_config.json`: what ends a text, and how its maker wants tokens to be drawn.

Only what the file states counts: `do_sample` does not, since a request of the API always asks for
samples unless its temperature is 0, nor do limits of length, which are the request's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from tandem.engine.checkpoint.files import is_there, read_json

_FILE = "generation_config.json"


class SamplingDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """For what a request does not say; as the API has them where the model's file is silent.

    `top_k` 0 means all.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


class _Raw(msgspec.Struct, frozen=True):
    eos_token_id: int | list[int] | None = None
    temperature: Annotated[float, Meta(ge=0.0)] | None = None
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    min_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0.0)] | None = None


def read_sampling_defaults(directory: Path) -> SamplingDefaults:
    """Raises CheckpointError naming the file, the field and what was expected."""
    raw = _read(directory)
    stated = {name: getattr(raw, name) for name in SamplingDefaults.__struct_fields__}
    if raw.top_k == -1:
        stated["top_k"] = 0
    return SamplingDefaults(**{name: value for name, value in stated.items() if value is not None})


def read_end_tokens(directory: Path) -> set[int]:
    """The ids that end a text, as far as this file says. Raises CheckpointError."""
    return id_set(_read(directory).eos_token_id)


def id_set(value: int | Sequence[int] | None) -> set[int]:
    if value is None:
        return set()
    return {value} if isinstance(value, int) else set(value)


def _read(directory: Path) -> _Raw:
    path = directory / _FILE
    return read_json(path, _Raw) if is_there(path) else _Raw()
