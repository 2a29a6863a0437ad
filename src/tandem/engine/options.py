"""What an operator says about an engine; names only, whatever computes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from tandem.engine.checkpoint.dtypes import CacheFormat, Quantization
from tandem.engine.core.scheduler import SchedulerLimits


class Speculate(StrEnum):
    """Where guesses at the next tokens come from, if not from a draft model."""

    OFF = "off"
    LOOKUP = "lookup"


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`dtype` "auto": see `choose_dtype`. `device` is "auto", "cpu", "cuda", "cuda:1", "mps".

    `backend` names a row of `tandem.engine.backends`. `kv_tokens` None: from the free memory.
    `speculate` is the directory of a draft model, of the same vocabulary, or what else guesses.
    """

    directory: Path
    dtype: str = "auto"
    quantization: Quantization | None = None
    kv_cache: CacheFormat | None = None
    backend: str = "pytorch"
    device: str = "auto"
    threads: int | None = None
    kv_tokens: int | None = None
    block_size: int = 16
    scheduling: SchedulerLimits = SchedulerLimits()
    speculate: Speculate | Path = Speculate.LOOKUP
