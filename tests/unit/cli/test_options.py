"""What the command line says of the engine without importing it is what the engine has."""

from __future__ import annotations

from tandem import engine
from tandem.cli.options import DEFAULT_MODEL, Dtype, ModelOptions, Quantization
from tandem.engine.checkpoint.dtypes import ITEM_BYTES
from tandem.engine.checkpoint.dtypes import Quantization as OfEngine


def test_number_formats() -> None:
    assert [dtype.value for dtype in Dtype] == ["auto", *ITEM_BYTES]
    assert [kind.value for kind in Quantization] == [kind.value for kind in OfEngine]


def test_sequences_at_a_time() -> None:
    assert ModelOptions().max_sequences == engine.SchedulerLimits().max_sequences


def test_the_model_that_is_shipped() -> None:
    assert DEFAULT_MODEL == engine.DEMO_MODEL
