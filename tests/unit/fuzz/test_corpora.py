"""Every input of the corpora does now what it did when it was kept: nothing that must not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.corpus import CORPORA, corpus
from fuzz.targets import NAMES, target


@pytest.mark.parametrize("name", NAMES)
def test_a_corpus_is_sound(name: str) -> None:
    run = target(name).run
    inputs = corpus(name)
    assert inputs
    for path in inputs:
        run(path.read_bytes())


def test_every_corpus_has_a_target() -> None:
    assert {path.name for path in Path(CORPORA).iterdir()} == set(NAMES)
