"""What a provider makes of its configuration, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem import engine
from tandem.provider import ProviderConfig
from tandem.provider.service import _prepare
from tandem.security import load_or_create_identity


class Asked(Exception):
    """In place of a model: what was asked for."""

    def __init__(self, options: engine.EngineOptions) -> None:
        self.options = options


def test_number_formats_reach_the_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def prepare(options: engine.EngineOptions) -> engine.ModelSetup:
        raise Asked(options)

    monkeypatch.setattr(engine, "prepare", prepare)
    config = ProviderConfig(
        coordinator_url="ws://localhost",
        join_token="t",
        model=engine.DEMO_MODEL,
        name="p",
        identity=load_or_create_identity(tmp_path),
        dtype="bfloat16",
        quantize="int4",
        kv_cache="int8",
    )
    with pytest.raises(Asked) as asked:
        _prepare(config)
    options = asked.value.options
    assert options.dtype == "bfloat16"
    assert options.quantization is engine.Quantization.INT4
    assert options.kv_cache is engine.CacheFormat.INT8
