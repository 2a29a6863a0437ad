"""What the command line says of the engine without importing it is what the engine has."""

from __future__ import annotations

from pathlib import Path

from tandem import engine
from tandem.cli.options import (
    DEFAULT_MODEL,
    SPECULATE_WITHOUT_MODEL,
    CacheFormat,
    Dtype,
    ModelOptions,
    Quantization,
)
from tandem.engine.checkpoint.dtypes import ITEM_BYTES
from tandem.engine.checkpoint.dtypes import Quantization as OfEngine


def test_number_formats() -> None:
    assert [dtype.value for dtype in Dtype] == ["auto", *ITEM_BYTES]
    assert [kind.value for kind in Quantization] == [kind.value for kind in OfEngine]
    assert [kind.value for kind in CacheFormat] == [kind.value for kind in engine.CacheFormat]


def test_sequences_at_a_time() -> None:
    assert ModelOptions().max_sequences == engine.SchedulerLimits().max_sequences


def test_the_model_that_is_shipped() -> None:
    assert DEFAULT_MODEL == engine.DEMO_MODEL


def test_what_guesses_tokens_ahead() -> None:
    assert list(SPECULATE_WITHOUT_MODEL) == [kind.value for kind in engine.Speculate]
    said = engine.speculate_from(ModelOptions().speculate)
    assert said is engine.EngineOptions(directory=Path()).speculate
    assert engine.speculate_from(DEFAULT_MODEL) == engine.resolve_model(DEFAULT_MODEL)
