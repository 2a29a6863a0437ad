"""Tensors by other names than their files have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tandem.engine.checkpoint.formats import open_weights, stored_names
from tandem.engine.checkpoint.renamed import renamed
from tandem.engine.checkpoint.sharding import Span
from tandem.errors import CheckpointError

BEGINNINGS = {"text.": "", "other.": None, "head.": "lm_head."}


def test_the_first_beginning_counts() -> None:
    assert renamed("text.norm", BEGINNINGS) == "norm"
    assert renamed("norm.text.", BEGINNINGS) == "norm.text."
    assert renamed("other.norm", BEGINNINGS) is None
    assert renamed("a.b", {"a.": "x.", "a.b": None}) == "x.b"


def test_weights_are_read_by_their_names_here(tmp_path: Path) -> None:
    stored = {
        "text.a": np.arange(12, dtype=np.float32).reshape(4, 3),
        "head.weight": np.ones((2, 2), np.float32),
        "other.a": np.zeros(5, np.float32),
    }
    save_file(stored, tmp_path / "model.safetensors")
    assert sorted(stored_names(tmp_path)) == sorted(stored)
    expected = {"a": (4, 3), "lm_head.weight": (2, 2)}
    with open_weights(tmp_path, "numpy", expected, renamed=BEGINNINGS) as weights:
        assert set(weights.files) == set(expected)
        assert weights.stored("a").shape == (4, 3)
        rows = weights.read("a", Span(1, 3), Span(0, 2))
        assert (rows == stored["text.a"][1:3, :2]).all()
        assert weights.quantized("a") is None
    with (
        pytest.raises(CheckpointError, match=r"tensor head\.weight is missing"),
        open_weights(tmp_path, "numpy", {"head.weight": (2, 2)}, renamed=BEGINNINGS),
    ):
        pass
