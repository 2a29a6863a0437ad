"""A `config.json` means what it means to `transformers`, whatever it leaves out."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from tests.support.models.config_reading import ours, theirs
from tests.support.models.drawn_configs import configs
from transformers import AutoModelForCausalLM

from tandem.engine.families import read_config
from tandem.engine.random_checkpoint import create_checkpoint


@settings(max_examples=300, derandomize=True)
@given(configs())
def test_any_config_means_what_it_means_to_transformers(config: dict[str, Any]) -> None:
    with TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "config.json").write_text(json.dumps(config))
        assert ours(folder) == theirs(folder)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_say_what_numbers_they_are_where_the_config_does_not(
    tmp_path: Path, dtype: str
) -> None:
    folder = tmp_path / "model"
    create_checkpoint(folder, family="llama", dtype=dtype)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({name: config[name] for name in config if "dtype" not in name}))
    theirs = AutoModelForCausalLM.from_pretrained(folder).dtype
    assert read_config(folder).dtype == str(theirs).removeprefix("torch.") == dtype
