"""What is compared when guesses are measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem.bench.speculative import (
    DRAFT,
    LOOKUP,
    OFF,
    ONE_RANK,
    TEXTS,
    SpeculativeJob,
    Taken,
    _figures,
    _measure,
    _setup,
    _ways,
    create_pair,
)
from tandem.cluster import run_alone
from tandem.engine import Speculate


def test_texts_are_new_in_every_round_and_repeat_themselves_or_not() -> None:
    for text in TEXTS:
        assert text.prompts(0) == text.prompts(0) != text.prompts(1)
        for prompt in text.prompts(0):
            assert (prompt[:8] * 4 == prompt) is text.repeats


def test_a_ratio_is_to_the_same_without_guesses() -> None:
    rounds = [
        {(ONE_RANK, OFF, "t"): Taken(off, 0, 0), (ONE_RANK, LOOKUP, "t"): Taken(on, 5, 4)}
        for off, on in ((2.0, 4.0), (3.0, 9.0), (4.0, 8.0))
    ]
    plain, guessing = _figures(rounds)
    assert (plain.tokens_per_s, plain.ratio, plain.guessed) == (3.0, 1.0, 0)
    assert (guessing.tokens_per_s, guessing.guessed, guessing.right) == (8.0, 15, 12)
    assert guessing.ratio == pytest.approx(8.0 / 3.0)


def test_without_a_draft_model_none_is_compared() -> None:
    assert _ways(None) == {OFF: Speculate.OFF, LOOKUP: Speculate.LOOKUP}
    assert _ways(Path("d"))[DRAFT] == Path("d")


def test_the_draft_of_a_pair_is_always_right(tmp_path: Path) -> None:
    model, draft = create_pair(tmp_path, "tiny")
    job = SpeculativeJob(model, draft, 1, 12, 0.0)
    setup = _setup(job.model, draft)
    assert setup.draft is not None
    assert setup.draft.config.num_layers < setup.config.num_layers
    taken = run_alone(setup, lambda asker: _measure(asker, tokens=12, salt=0))
    assert sum(one.guessed for one in taken.values()) > 0
    assert all(one.guessed == one.right for one in taken.values())
