"""What a model's maker says of drawing tokens, for requests that do not say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.models.folders import changed, write_folder

from tandem.engine import EngineOptions, SamplingDefaults, prepare
from tandem.engine.checkpoint.generation_config import read_end_tokens, read_sampling_defaults
from tandem.errors import CheckpointError


def stated(directory: Path, **fields: object) -> Path:
    (directory / "generation_config.json").write_text(json.dumps(fields))
    return directory


def test_what_the_file_states_counts_and_nothing_else(tmp_path: Path) -> None:
    assert read_sampling_defaults(tmp_path) == SamplingDefaults()
    assert read_sampling_defaults(stated(tmp_path)) == SamplingDefaults()
    qwen = {"do_sample": False, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": None}
    found = read_sampling_defaults(stated(tmp_path, **qwen, max_new_tokens=1, max_length=20))
    assert found == SamplingDefaults(temperature=0.6, top_k=20, top_p=0.95)
    assert read_sampling_defaults(stated(tmp_path, top_k=-1)).top_k == 0
    assert read_sampling_defaults(stated(tmp_path, repetition_penalty=1.05, min_p=0.1)) == (
        SamplingDefaults(repetition_penalty=1.05, min_p=0.1)
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": -0.1},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_k": -2},
        {"top_k": "40"},
        {"min_p": 2},
        {"repetition_penalty": 0.0},
        {"eos_token_id": "</s>"},
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_by_name(tmp_path: Path, fields: dict[str, object]) -> None:
    (field,) = fields
    with pytest.raises(CheckpointError, match=rf"generation_config\.json: .*{field}"):
        read_sampling_defaults(stated(tmp_path, **fields))


def test_end_tokens_are_one_or_several(tmp_path: Path) -> None:
    assert read_end_tokens(tmp_path) == set()
    assert read_end_tokens(stated(tmp_path, eos_token_id=3)) == {3}
    assert read_end_tokens(stated(tmp_path, eos_token_id=[3, 5])) == {3, 5}
    assert read_end_tokens(stated(tmp_path, eos_token_id=None)) == set()


def test_a_setup_has_them(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"generation_config.json": changed(temperature=0.25)})
    setup = prepare(EngineOptions(directory=folder, device="cpu"))
    assert setup.sampling == SamplingDefaults(temperature=0.25)
