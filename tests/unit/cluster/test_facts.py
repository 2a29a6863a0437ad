"""What a node says of its model: its real size, and another digest for other weights."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tandem.cluster.facts import model_digest, model_facts
from tandem.cluster.strategies.costs import model_bytes
from tandem.engine import EngineOptions, ModelSetup, prepare
from tandem.engine.random_checkpoint import create_checkpoint


def _setup(directory: Path, *, seed: int = 0, **options: str) -> ModelSetup:
    create_checkpoint(directory, family="qwen3", dtype="float32", seed=seed)
    return prepare(
        msgspec.structs.replace(
            EngineOptions(directory=directory, device="cpu", threads=1), **options
        )
    )


def test_the_weights_add_up_to_the_files(tmp_path: Path) -> None:
    setup = _setup(tmp_path / "m")
    facts = model_facts(setup, "m")
    stored = sum(path.stat().st_size for path in (tmp_path / "m").glob("*.safetensors"))
    assert len(facts.layer_bytes) == facts.layers == setup.config.num_layers
    # The file also has a header and the last norm.
    assert model_bytes(facts) == pytest.approx(stored, rel=0.05)
    assert facts.kv_heads == setup.config.num_kv_heads
    assert facts.dtype == "float32/whole"


def test_narrower_weights_are_smaller(tmp_path: Path) -> None:
    wide = model_facts(_setup(tmp_path / "m"), "m")
    narrow = model_facts(_setup(tmp_path / "narrow", dtype="bfloat16"), "m")
    assert [2 * each for each in narrow.layer_bytes] == wide.layer_bytes
    assert 2 * narrow.kv_bytes_per_token == wide.kv_bytes_per_token


def test_a_digest_knows_config_tokenizer_and_weights(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        _setup(tmp_path / name, seed=seed)
    one = model_digest(tmp_path / "one")
    assert model_digest(tmp_path / "same") == one
    assert model_digest(tmp_path / "other") != one
    for name in ("config.json", "tokenizer.json"):
        path = tmp_path / "same" / name
        text = path.read_text()
        path.write_text(text + " ")
        assert model_digest(tmp_path / "same") != one
        path.write_text(text)
    assert model_digest(tmp_path / "same") == one
