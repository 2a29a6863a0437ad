"""What ends an answer: every id that a checkpoint names, in whichever of its files."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tests.support.ranks import running

from tandem.engine import GenerationRequest, SamplingParams, Tokenizer
from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint

SHAPE = Size(2, 32, 64, 2, 2, 16, 300, 256)
#: Ids that this model does not come to.
UNSEEN = [0, 299]


def tokens(checkpoint: Path, *, ignore_eos: bool) -> list[int]:
    request = GenerationRequest(
        request_id="r",
        prompts=[[3, 5, 7]],
        samples=1,
        params=SamplingParams(max_tokens=8, temperature=0.0),
        stop=[],
        ignore_eos=ignore_eos,
        deadline=time.monotonic() + 100.0,
    )
    with running(checkpoint, "local", 1, checkpoint) as group:
        return group.generate([request])["r"][0]


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("place", [0, 2])
def test_each_id_of_either_file_ends_an_answer(tmp_path: Path, file: str, place: int) -> None:
    create_checkpoint(tmp_path / "model", family="llama", size=SHAPE, dtype="float32")
    whole = tokens(tmp_path / "model", ignore_eos=True)
    last = whole[4]
    ids = [*UNSEEN[:place], last, *UNSEEN[place:]]
    change(tmp_path / "model" / file, eos_token_id=ids)
    ended = tokens(tmp_path / "model", ignore_eos=False)
    assert ended == whole[: whole.index(last) + 1]
    assert len(ended) < len(whole)


def test_the_tokenizers_own_end_token_ends_an_answer(tmp_path: Path) -> None:
    model = tmp_path / "model"
    create_checkpoint(model, family="llama", size=SHAPE, dtype="float32")
    whole = tokens(model, ignore_eos=True)
    (model / "generation_config.json").unlink()
    last = Tokenizer(model).token_text(whole[4])
    change(model / "tokenizer_config.json", eos_token=last)
    assert tokens(model, ignore_eos=False) == whole[: whole.index(whole[4]) + 1]
