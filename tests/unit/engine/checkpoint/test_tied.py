"""A head beside an embedding that the config says it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.models.divided import Runner
from transformers import AutoModelForCausalLM

from tandem.engine import inspect_checkpoint
from tandem.engine.checkpoint.tied import has_own_head
from tandem.engine.families import Size, read_config
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import CheckpointError

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
TOKENS = [3 + number * 7 % 290 for number in range(12)]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    size = Size(1, 32, 48, 2, 1, 16, 1500, 256)
    create_checkpoint(tmp_path / "m", family="llama", size=size, dtype="bfloat16")
    assert read_config(tmp_path / "m").tie_word_embeddings
    return tmp_path / "m"


def add_head(directory: Path, change: float, dtype: torch.dtype = torch.bfloat16) -> None:
    """The embedding with one of its last numbers changed."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    head = tensors[EMBEDDING].clone().to(dtype)
    head[-1, -1] += change
    save_file(tensors | {HEAD: head}, path)


def test_another_one_is_the_head_as_it_is_for_transformers(checkpoint: Path) -> None:
    add_head(checkpoint, 1.0)
    assert not read_config(checkpoint).tie_word_embeddings
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    expected = model(torch.tensor([TOKENS])).logits[0]
    found = Runner(checkpoint).step((TOKENS, 0, [1, 2, 3]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_copy_of_the_embedding_is_not_read(checkpoint: Path) -> None:
    add_head(checkpoint, 0.0)
    assert read_config(checkpoint).tie_word_embeddings


def test_numbers_of_another_kind_or_none_are_told_apart(checkpoint: Path) -> None:
    assert not has_own_head(checkpoint, HEAD, EMBEDDING)
    assert not has_own_head(checkpoint.parent, HEAD, EMBEDDING)
    add_head(checkpoint, 0.0, torch.float32)
    assert has_own_head(checkpoint, HEAD, EMBEDDING)


def test_what_is_no_matrix_is_refused_by_its_name(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    scalars = {HEAD: torch.tensor(1.0), EMBEDDING: torch.tensor(2.0)}
    save_file(load_file(path) | scalars, path)
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight has shape \[\]"):
        inspect_checkpoint(checkpoint)
