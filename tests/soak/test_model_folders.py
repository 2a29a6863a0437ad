"""Thousands of model folders, sound and damaged, of which `make test` has the first."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from tests.support.models import config_reading, tokenizer_reading
from tests.support.models.drawn_configs import configs
from tests.support.models.drawn_damage import damaged_files, read_all
from tests.support.models.drawn_folders import tokenizer_files
from tests.support.models.folders import Files, write_folder

from tandem.errors import TandemError


@pytest.mark.timeout(1800)
@settings(max_examples=5000)
@given(tokenizer_files())
def test_tokenizer_files_mean_what_they_mean_to_transformers(files: Files) -> None:
    with TemporaryDirectory() as directory:
        folder = write_folder(Path(directory), files)
        assert tokenizer_reading.ours(folder) == tokenizer_reading.theirs(folder)


@pytest.mark.timeout(1800)
@settings(max_examples=20_000)
@given(configs())
def test_configs_mean_what_they_mean_to_transformers(config: dict[str, Any]) -> None:
    with TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "config.json").write_text(json.dumps(config))
        assert config_reading.ours(folder) == config_reading.theirs(folder)


@pytest.mark.timeout(1800)
@settings(max_examples=20_000)
@given(damaged_files())
def test_no_damage_to_a_description_is_more_than_a_sentence(files: Files) -> None:
    with TemporaryDirectory() as directory, contextlib.suppress(TandemError):
        read_all(write_folder(Path(directory), files))
