"""Logit bias and penalties: logits changed at the tokens that a request names, nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tandem.engine.core.step import SampleSpec

_Ids = npt.NDArray[np.integer[Any]]


class _Change(NamedTuple):
    """A number for each of some tokens of a row."""

    row: int
    tokens: _Ids
    numbers: npt.NDArray[np.float32]


def adjust(logits: torch.Tensor, specs: Sequence[SampleSpec]) -> torch.Tensor:
    """A changed copy of float32 (rows, vocabulary) logits.

    Raises IndexError for a token that the vocabulary has not.
    """
    adjusted = logits.clone()
    flat, rows = adjusted.view(-1), list(enumerate(specs))
    if biases := [_bias(row, spec) for row, spec in rows if spec.logit_bias is not None]:
        cells, values = _joined(biases, logits)
        flat[cells] += values
    if penalties := [_repeats(*row) for row in rows if row[1].repetition_penalty != 1.0]:
        cells, factors = _joined(penalties, logits)
        seen = flat[cells]
        flat[cells] = torch.where(seen > 0, seen / factors, seen * factors)
    if amounts := [_output(row, spec) for row, spec in rows if _falls_on_output(spec)]:
        cells, values = _joined(amounts, logits)
        flat[cells] -= values
    return adjusted


def _bias(row: int, spec: SampleSpec) -> _Change:
    assert spec.logit_bias is not None, "asked only where there is one"
    tokens = np.frombuffer(spec.logit_bias.tokens, np.int32)
    return _Change(row, tokens, np.frombuffer(spec.logit_bias.values, np.float32))


def _repeats(row: int, spec: SampleSpec) -> _Change:
    tokens = np.bincount(np.frombuffer(spec.prompt + spec.output, np.int32)).nonzero()[0]
    return _Change(row, tokens, np.full(len(tokens), spec.repetition_penalty, np.float32))


def _falls_on_output(spec: SampleSpec) -> bool:
    return bool(spec.output and (spec.presence_penalty or spec.frequency_penalty))


def _output(row: int, spec: SampleSpec) -> _Change:
    counts = np.bincount(np.frombuffer(spec.output, np.int32))
    tokens = counts.nonzero()[0]
    often = counts[tokens].astype(np.float32)
    amounts = np.float32(spec.presence_penalty) + np.float32(spec.frequency_penalty) * often
    return _Change(row, tokens, amounts)


def _joined(changes: Sequence[_Change], logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where all the changes fall in flat logits, int64, and the numbers; where the logits are."""
    vocabulary = logits.shape[-1]
    cells = np.concatenate([change.tokens for change in changes]).astype(np.int64)
    if len(cells) and not 0 <= cells.min() <= cells.max() < vocabulary:
        raise IndexError(f"a token of a vocabulary of {vocabulary} is below that")
    sizes = [len(change.tokens) for change in changes]
    cells += np.repeat([change.row * vocabulary for change in changes], sizes)
    numbers = np.concatenate([change.numbers for change in changes])
    return (
        torch.from_numpy(cells).to(logits.device),
        torch.from_numpy(numbers).to(logits.device),
    )
