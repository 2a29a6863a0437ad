"""Chooses tokens from logits. Rows are independent, so a batch gives what each gives alone.

Order: logit bias, penalties, temperature, min_p, top_k, top_p. Reported logprobs are those of the
model itself, before any of these. The draw walks the cumulative distribution in token-id order:
near-ties in rank then cannot change the outcome.

Rows are computed together, for a call costs more than the numbers of a small vocabulary. Where the
order of a sum depends on how many rows there are, each row is summed alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import structlog
import torch

from tandem.engine.backends.pytorch.sampling.logit_changes import adjust
from tandem.engine.backends.pytorch.sampling.nucleus import nucleus_floors
from tandem.engine.backends.pytorch.sampling.philox import uniform
from tandem.engine.core.step import SampledToken, SampleSpec

log = structlog.get_logger(__name__)

#: Logits that are worked on together: a CPU has them in its caches, a GPU has enough to do.
_CPU_GROUP, _GPU_GROUP = 2**18, 2**24


class _Wanted(NamedTuple):
    """What a row is for."""

    sequence_id: int
    greedy: int
    spec: SampleSpec


def sample(
    logits: torch.Tensor, sequence_ids: Sequence[int], specs: Sequence[SampleSpec]
) -> list[SampledToken]:
    """One token for each row of float32 (rows, vocabulary) logits.

    A row without one has a `token` of None: its logits are not finite, or its options break it.
    """
    # One that is not finite spoils the sum; looking at each takes five times as long.
    finite = logits.sum(dim=-1).isfinite().tolist()
    greedy = logits.argmax(dim=-1).tolist()
    wanted = [_Wanted(*row) for row in zip(sequence_ids, greedy, specs, strict=True)]
    sampled = [SampledToken(sequence_id, None) for sequence_id in sequence_ids]
    for group in _groups([row for row, is_finite in enumerate(finite) if is_finite], logits):
        found = _sample_safely(_rows(logits, group), [wanted[row] for row in group])
        for row, token in zip(group, found, strict=True):
            sampled[row] = token
    return sampled


def _groups(rows: list[int], logits: torch.Tensor) -> Iterator[list[int]]:
    numbers = _CPU_GROUP if logits.device.type == "cpu" else _GPU_GROUP
    size = max(1, numbers // logits.shape[-1])
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _rows(table: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Those rows, which are in order; not copied where there is none between them."""
    first, last = rows[0], rows[-1]
    return table[first : last + 1] if last - first < len(rows) else table[list(rows)]


def _sample_safely(logits: torch.Tensor, wanted: Sequence[_Wanted]) -> list[SampledToken]:
    """One sequence's options must not cost the others of the step theirs."""
    try:
        return _sample_rows(logits, wanted)
    except Exception as error:
        if len(wanted) > 1:
            alone = [_sample_safely(logits[row, None], [one]) for row, one in enumerate(wanted)]
            return [token for tokens in alone for token in tokens]
        log.exception("sampling_failed", error=type(error).__name__)
        return [SampledToken(wanted[0].sequence_id, None)]


def _sample_rows(logits: torch.Tensor, wanted: Sequence[_Wanted]) -> list[SampledToken]:
    specs = [one.spec for one in wanted]
    tokens = [one.greedy for one in wanted]
    chosen = [
        row for row, spec in enumerate(specs) if spec.adjusts_logits or spec.temperature != 0.0
    ]
    if chosen:
        found = _choose(_rows(logits, chosen), [specs[row] for row in chosen])
        for row, token in zip(chosen, found, strict=True):
            tokens[row] = token
    sampled = [
        SampledToken(one.sequence_id, token) for one, token in zip(wanted, tokens, strict=True)
    ]
    for row, (logprob, top) in _logprobs(logits, tokens, specs):
        sampled[row] = SampledToken(wanted[row].sequence_id, tokens[row], logprob, top)
    return sampled


def _choose(logits: torch.Tensor, specs: Sequence[SampleSpec]) -> list[int]:
    if any(spec.adjusts_logits for spec in specs):
        logits = adjust(logits, specs)
    drawn = [row for row, spec in enumerate(specs) if spec.temperature != 0.0]
    if not drawn:
        return _ids(logits.argmax(dim=-1))
    found = _draw(_rows(logits, drawn), [specs[row] for row in drawn])
    if len(drawn) == len(specs):
        return found
    tokens = _ids(logits.argmax(dim=-1))
    for row, token in zip(drawn, found, strict=True):
        tokens[row] = token
    return tokens


def _ids(tokens: torch.Tensor) -> list[int]:
    ids: list[int] = tokens.tolist()
    return ids


def _draw(logits: torch.Tensor, specs: Sequence[SampleSpec]) -> list[int]:
    temperatures = _column(logits, [spec.temperature for spec in specs])
    probabilities = _truncate(torch.softmax(logits / temperatures, dim=-1), specs)
    wide = _in_float64(probabilities)
    cumulative = wide.cumsum(dim=-1)
    draws = _column(wide, [uniform(spec.seed, spec.choice, spec.position) for spec in specs])
    found = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True)
    index = found.clamp(max=wide.shape[-1] - 1)
    hits = (found == index) & (wide.gather(-1, index) > 0.0)
    tokens = _ids(index.squeeze(-1))
    for row, hit in enumerate(hits.squeeze(-1).tolist()):
        if not hit:  # the target rounded up to the very end
            tokens[row] = int(probabilities[row].nonzero()[-1])
    return tokens


def _column(like: torch.Tensor, numbers: Sequence[float]) -> torch.Tensor:
    """(rows, 1), of the dtype and on the device of `like`."""
    return torch.tensor(numbers, dtype=like.dtype, device=like.device)[:, None]


def _in_float64(probabilities: torch.Tensor) -> torch.Tensor:
    """float32 sums over a large vocabulary end visibly short of 1; Apple's GPUs have no more."""
    on_apple = probabilities.device.type == "mps"
    return (probabilities.cpu() if on_apple else probabilities).double()


def _truncate(probabilities: torch.Tensor, specs: Sequence[SampleSpec]) -> torch.Tensor:
    """Zeroes what min_p, top_k and top_p leave out; at least the likeliest token stays."""
    vocabulary = probabilities.shape[-1]
    floors = torch.zeros(len(specs), 1, device=probabilities.device)
    if any(spec.min_p > 0.0 for spec in specs):
        min_p = _column(probabilities, [spec.min_p for spec in specs])
        floors = min_p * probabilities.amax(dim=-1, keepdim=True)
    for top_k, rows in _by_number([spec.top_k for spec in specs]).items():
        if 0 < top_k < vocabulary:
            last = _rows(probabilities, rows).topk(top_k).values[:, -1:]
            floors[rows] = torch.maximum(floors[rows], last)
    rows = [row for row, spec in enumerate(specs) if spec.top_p < 1.0]
    if rows:
        some, top_p = (
            probabilities[rows],
            _column(probabilities, [specs[row].top_p for row in rows]),
        )
        kept = torch.where(some >= floors[rows], some, 0.0)
        floors[rows] = torch.maximum(floors[rows], nucleus_floors(kept, top_p))
    return torch.where(probabilities >= floors, probabilities, 0.0)


def _logprobs(
    logits: torch.Tensor, tokens: Sequence[int], specs: Sequence[SampleSpec]
) -> Iterator[tuple[int, tuple[float, list[tuple[int, float]]]]]:
    """By row, where they are wanted: the token's own, and the likeliest."""
    for count, rows in _by_number([spec.logprobs for spec in specs]).items():
        logprobs = torch.log_softmax(_rows(logits, rows), dim=-1)
        values, ids = logprobs.topk(min(count, logprobs.shape[-1]))
        chosen = torch.tensor([tokens[row] for row in rows], device=logits.device)
        own = logprobs.gather(-1, chosen[:, None]).squeeze(-1)
        tops = zip(ids.tolist(), values.tolist(), strict=True)
        for row, logprob, top in zip(rows, own.tolist(), tops, strict=True):
            yield row, (logprob, list(zip(*top, strict=True)))


def _by_number(numbers: Sequence[int | None]) -> dict[int, list[int]]:
    """Rows by their number, but for those that have none.

    Whoever takes the likeliest takes as many in each: among equals, the number may decide which.
    """
    rows: defaultdict[int, list[int]] = defaultdict(list)
    for row, number in enumerate(numbers):
        if number is not None:
            rows[number].append(row)
    return rows
