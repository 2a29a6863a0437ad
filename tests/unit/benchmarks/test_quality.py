"""The quality race: divergences are right, and Tandem's float32 has none."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from tests.support.quantizers import KINDS, quantize

from benchmarks.engines.quality import SUBJECTS, Subject, compared, measure_quality
from tandem.bench import Job
from tandem.engine import DEMO_MODEL, resolve_model
from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import ConfigurationError

NOBODY = Subject("nobody", "at all", "no_such_package", lambda *_: torch.empty(0))


def test_divergences_are_those_of_the_distributions() -> None:
    expected = torch.tensor([[0.5, 0.5, 0.0], [0.9, 0.05, 0.05]]).log()[None] + 3.0
    found = torch.tensor([[0.25, 0.75, 0.0], [0.9, 0.05, 0.05]]).clamp(min=1e-30).log()[None]
    expected[0, 0, 2] = found[0, 0, 2] = -1e30
    divergence = compared(NOBODY, expected, found)
    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert divergence.largest == pytest.approx(first, rel=1e-5)
    assert divergence.mean == pytest.approx(first / 2, rel=1e-5)
    assert (divergence.agreement, divergence.tokens) == (0.5, 2)


def test_float32_is_as_good_as_transformers_and_who_is_not_installed_does_not_take_part(
    tmp_path: Path,
) -> None:
    job = Job(resolve_model(DEMO_MODEL), tmp_path, 1)
    (found,) = measure_quality(job, 32, [SUBJECTS[0], NOBODY], lambda _: None)
    assert (found.name, found.kind, found.agreement) == ("Tandem", "float32", 1.0)
    assert 0.0 <= found.mean <= found.largest < 1e-9


def test_texts_that_are_too_short_are_named(tmp_path: Path) -> None:
    job = Job(resolve_model(DEMO_MODEL), tmp_path, 1)
    with pytest.raises(ConfigurationError, match="--tokens is 5000: a text has "):
        list(measure_quality(job, 5000, SUBJECTS, lambda _: None))


def test_a_model_in_few_bits_is_compared_with_what_its_codes_stand_for(tmp_path: Path) -> None:
    shape = Size(2, 64, 192, 4, 2, 16, 2048, 256)
    create_checkpoint(tmp_path / "m", family="llama", dtype="float32", size=shape)
    shutil.copy(resolve_model(DEMO_MODEL) / "tokenizer.json", tmp_path / "m")
    few, _ = quantize(tmp_path / "m", KINDS["gptq"], tmp_path / "few")
    job = Job(few, tmp_path / "scratch", 1)
    job.scratch.mkdir()
    stored, wide = measure_quality(job, 32, [SUBJECTS[0]], lambda _: None)
    assert (wide.kind, wide.largest < 1e-9) == ("float32", True)
    assert (stored.kind, 0.0 < stored.mean < 1e-3) == ("as stored", True)
