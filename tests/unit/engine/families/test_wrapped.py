"""Text models within checkpoints of models that see, as different programs write them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.models.divided import Runner
from tests.support.models.shapes import SHAPES
from transformers import AutoModelForImageTextToText

from tandem.engine import inspect_checkpoint
from tandem.engine.families import read_config
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import CheckpointError

TOKENS = [3 + number * 7 % 290 for number in range(20)]


def written(directory: Path, shape: str, **fields: Any) -> Path:  # noqa: ANN401 - any JSON
    family, size, overrides = SHAPES[shape]
    create_checkpoint(
        directory, family=family, size=size, dtype="float32", overrides={**overrides, **fields}
    )
    return directory


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return written(tmp_path / "model", "mistral3-text")


def logits(directory: Path) -> torch.Tensor:
    return Runner(directory).step((TOKENS, 0, [1, 2, 3, 4, 5]))


def rewrite(directory: Path, rename: Callable[[str], str | None]) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    save_file({new: tensors[old] for old in tensors if (new := rename(old)) is not None}, path)


def change(directory: Path, **fields: Any) -> None:  # noqa: ANN401 - any JSON
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    "shape", ["mistral3-text", "gemma3-within", "qwen2.5-vl-text", "qwen3-vl-text"]
)
@torch.inference_mode()
def test_what_transformers_saves_is_read_again(tmp_path: Path, shape: str) -> None:
    checkpoint = written(tmp_path / "model", shape)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    saved = tmp_path / "saved"
    model.save_pretrained(saved)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint / file, saved)
    stored = load_file(saved / "model.safetensors")
    assert any("vis" in name for name in stored)
    expected = model(torch.tensor([TOKENS])).logits[0]
    torch.testing.assert_close(logits(saved), expected, rtol=1e-4, atol=1e-4)
    assert inspect_checkpoint(saved).architecture == type(model).__name__


def test_qwen_2_5_may_have_its_text_models_fields_beside_its_own(tmp_path: Path) -> None:
    checkpoint = written(tmp_path / "model", "qwen2.5-vl-text")
    expected = logits(checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    text = config.pop("text_config") | {"model_type": "qwen2_5_vl"}
    (checkpoint / "config.json").write_text(json.dumps(text | config))
    rewrite(checkpoint, lambda name: name.replace("model.language_model.", "model."))
    assert torch.equal(logits(checkpoint), expected)


def test_names_may_begin_in_another_way(checkpoint: Path) -> None:
    expected = logits(checkpoint)

    def newer(name: str) -> str:
        if name.startswith("language_model.model."):
            return "model.language_model." + name.removeprefix("language_model.model.")
        return name.removeprefix("language_model.")

    rewrite(checkpoint, newer)
    assert "lm_head.weight" in load_file(checkpoint / "model.safetensors")
    assert torch.equal(logits(checkpoint), expected)


def test_qwens_names_may_begin_as_llavas(tmp_path: Path) -> None:
    checkpoint = written(tmp_path / "model", "qwen3-vl-text", tie_word_embeddings=False)
    expected = logits(checkpoint)

    def as_mlx(name: str) -> str:
        name = name.replace("model.language_model.", "language_model.model.")
        return name.replace("lm_head.", "language_model.lm_head.")

    rewrite(checkpoint, as_mlx)
    path = checkpoint / "model.safetensors"
    save_file(load_file(path) | {"vision_tower.blocks.0.norm1.weight": torch.ones(16)}, path)
    assert "language_model.lm_head.weight" in load_file(path)
    assert torch.equal(logits(checkpoint), expected)


def test_weights_say_whether_the_head_is_tied_where_the_config_does_not(checkpoint: Path) -> None:
    change(checkpoint, tie_word_embeddings=None)
    assert not read_config(checkpoint).tie_word_embeddings
    rewrite(checkpoint, lambda name: None if "lm_head" in name else name)
    assert read_config(checkpoint).tie_word_embeddings
    assert logits(checkpoint).abs().max() > 0
    change(checkpoint, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"language_model\.lm_head\.weight is missing"):
        inspect_checkpoint(checkpoint)


def test_the_text_model_is_one_of_those_that_are_known(checkpoint: Path) -> None:
    text = json.loads((checkpoint / "config.json").read_text())["text_config"]
    change(checkpoint, text_config=text | {"model_type": "mamba"})
    with pytest.raises(CheckpointError, match=r"config\.json: text_config has model_type 'mamba'"):
        read_config(checkpoint)
    change(checkpoint, text_config=text | {"model_type": "ministral3", "head_dim": 16})
    config = read_config(checkpoint)
    assert config.sliding_windows == (None, None)
    change(checkpoint, text_config=None)
    with pytest.raises(CheckpointError, match=r"config\.json: .*text_config"):
        read_config(checkpoint)


def test_the_whole_models_ends_are_those_of_its_texts(checkpoint: Path) -> None:
    text = json.loads((checkpoint / "config.json").read_text())["text_config"]
    (checkpoint / "generation_config.json").unlink()
    change(checkpoint, text_config=text | {"eos_token_id": 7})
    assert read_config(checkpoint).eos_token_ids == {7}
    change(checkpoint, eos_token_id=[1, 106])
    assert read_config(checkpoint).eos_token_ids == {1, 106}
