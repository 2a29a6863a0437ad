"""Tensor parallel and pipeline give exactly what one process gives, for every family."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest
from tests.support.links import TIMEOUT_S
from tests.support.ranks import Ranks, running

from tandem.cluster.collectives import SealedCommunicator
from tandem.cluster.collectives.torch_collectives import check_group
from tandem.engine import GenerationRequest, SamplingParams, load
from tandem.engine.backends.pytorch.tensors import TorchTensors
from tandem.engine.core.sequence import Sequence as Tokens
from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import ProtocolError

FAMILIES = ("llama", "qwen2", "qwen3", "mistral")
#: Six layers for three stages, four KV heads for four ranks, an odd vocabulary.
SHAPE = Size(6, 64, 176, 8, 4, 16, 389, 1024)


def _request(
    name: str, prompt: list[int], *, samples: int = 1, max_tokens: int = 12, **sampling: object
) -> GenerationRequest:
    params = {"temperature": 0.0, "max_tokens": max_tokens} | sampling
    return GenerationRequest(
        request_id=name,
        prompts=[prompt],
        samples=samples,
        params=SamplingParams(**params),  # type: ignore[arg-type]
        stop=[],
        ignore_eos=True,
        deadline=time.monotonic() + TIMEOUT_S * 3,
    )


def _mixed(size: int) -> list[GenerationRequest]:
    """Long and short, greedy and sampled, with penalties, logprobs, several samples."""
    requests = []
    for i in range(size):
        prompt = [3 + (i * 7 + j) % 200 for j in range(5 + (i % 5) * 60)]
        if i % 3 == 0:
            requests.append(_request(f"r{i}", prompt))
        elif i % 3 == 1:
            requests.append(_request(f"r{i}", prompt, temperature=1.0, seed=i, top_p=0.9))
        else:
            requests.append(
                _request(
                    f"r{i}",
                    prompt[:20],
                    samples=2,
                    temperature=0.8,
                    seed=i,
                    presence_penalty=0.5,
                    logprobs=2,
                    max_tokens=6,
                )
            )
    return requests


def _alone_and_together(group: Ranks) -> tuple[list[object], object]:
    alone: list[object] = [group.generate([request]) for request in _mixed(4)]
    return alone, group.generate(_mixed(16))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("strategy", "size"), [("tp", 2), ("tp", 4), ("pp", 2), ("pp", 3)], ids=str
)
def test_the_tokens_are_those_of_one_process(
    tmp_path: Path, family: str, strategy: str, size: int
) -> None:
    checkpoint = tmp_path / "model"
    create_checkpoint(checkpoint, family=family, size=SHAPE, seed=3, dtype="float32")
    with running(checkpoint, "local", 1, tmp_path) as group:
        expected = _alone_and_together(group)
    with running(checkpoint, strategy, size, tmp_path / "nodes") as group:
        assert _alone_and_together(group) == expected


@pytest.mark.parametrize(("strategy", "size"), [("tp", 8), ("pp", 8)])
def test_eight_ranks_give_the_tokens_of_one_process(
    tmp_path: Path, strategy: str, size: int
) -> None:
    checkpoint = tmp_path / "model"
    shape = Size(8, 64, 176, 16, 8, 16, 389, 1024)
    create_checkpoint(checkpoint, family="llama", size=shape, seed=3, dtype="float32")
    with running(checkpoint, "local", 1, tmp_path) as group:
        expected = group.generate(_mixed(6))
    with running(checkpoint, strategy, size, tmp_path / "nodes") as group:
        assert group.generate(_mixed(6)) == expected


def test_an_uneven_split_gives_the_same_tokens(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model"
    create_checkpoint(checkpoint, family="qwen3", size=SHAPE, seed=3, dtype="float32")
    with running(checkpoint, "local", 1, tmp_path) as group:
        expected = group.generate(_mixed(6))
    with running(checkpoint, "pp", 3, tmp_path / "nodes", layers=[1, 4, 1]) as group:
        assert group.generate(_mixed(6)) == expected


@pytest.mark.parametrize("size", [2, 4])
def test_sums_of_gloo_give_the_same_tokens(tmp_path: Path, size: int) -> None:
    checkpoint = tmp_path / "model"
    create_checkpoint(checkpoint, family="llama", size=SHAPE, seed=3, dtype="float32")
    with running(checkpoint, "local", 1, tmp_path) as group:
        expected = group.generate(_mixed(4))
    with running(checkpoint, "gloo", size, tmp_path / "nodes") as group:
        assert group.generate(_mixed(4)) == expected


def test_a_group_that_is_not_the_planned_one_is_an_error() -> None:
    """B7: neither another size nor another rank is ever accepted in silence."""
    check_group(1, 2, 1, 2)
    for rank, size in ((0, 2), (0, 1), (1, 3)):
        with pytest.raises(ProtocolError, match="was planned"):
            check_group(rank, size, 1, 2)
    with pytest.raises(ProtocolError, match="not a whole group"):
        SealedCommunicator(0, {2: None}, TorchTensors())  # type: ignore[dict-item]


class Guesses:
    """Knows what will be said, by its prompt, and says something else now and then."""

    def __init__(self, texts: Sequence[list[int]]) -> None:
        self._texts = texts
        self._turn = count(1)

    def guess(self, sequences: Sequence[Tokens], most: Sequence[int]) -> list[list[int]]:
        return [
            self._one(sequence.tokens, min(bound, next(self._turn) % 5))
            for sequence, bound in zip(sequences, most, strict=True)
        ]

    def _one(self, tokens: list[int], length: int) -> list[int]:
        known = (text for text in self._texts if text[: len(tokens)] == tokens)
        coming = next(known)[len(tokens) :][:length]
        return [token if next(self._turn) % 4 else (token + 1) % 389 for token in coming]

    def observe(self, rows: int, seconds: float, sequences: int, tokens: int) -> None:
        """They are not chosen by what they cost."""

    def forget(self, sequence: Tokens) -> None:
        """Nothing is kept of it."""


@pytest.mark.parametrize(
    ("strategy", "size"), [("local", 1), ("tp", 2), ("pp", 2), ("pp", 3)], ids=str
)
def test_guesses_right_and_wrong_change_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, size: int
) -> None:
    checkpoint, requests = tmp_path / "model", _mixed(12)
    create_checkpoint(checkpoint, family="qwen3", size=SHAPE, seed=3, dtype="float32")
    monkeypatch.setattr(load, "make_guesser", lambda *_: None)
    with running(checkpoint, "local", 1, tmp_path) as group:
        expected = group.generate(requests)
        alone = group.engine.stats()
    texts = [
        [*request.prompts[0], *answer]
        for request in requests
        for answer in expected[request.request_id]
    ]
    monkeypatch.setattr(load, "make_guesser", lambda *_: Guesses(texts))
    with running(checkpoint, strategy, size, tmp_path / "nodes") as group:
        assert group.generate(requests) == expected
        stats = group.engine.stats()
    assert 0 < stats.guessed_right < stats.guessed
    assert alone.guessed == 0


@pytest.mark.parametrize(("strategy", "size"), [("local", 1), ("tp", 2), ("pp", 2)], ids=str)
@pytest.mark.parametrize("seed", [3, 4], ids=["itself", "another"])
def test_a_draft_model_changes_no_token(
    tmp_path: Path, strategy: str, size: int, seed: int
) -> None:
    checkpoint, draft = tmp_path / "model", tmp_path / "draft"
    create_checkpoint(checkpoint, family="qwen3", size=SHAPE, seed=3, dtype="float32")
    create_checkpoint(draft, family="qwen3", size=SHAPE, seed=seed, dtype="float32")
    requests = [one for one in _mixed(6) if not one.params.has_penalties]
    with running(checkpoint, "local", 1, tmp_path) as group:
        expected = group.generate(requests)
    with running(checkpoint, strategy, size, tmp_path / "nodes", speculate=draft) as group:
        assert group.generate(requests) == expected
        stats = group.engine.stats()
    assert stats.guessed > 0
    assert seed != 3 or stats.guessed_right == stats.guessed
