"""Chooses tokens from logits. Rows are independent, so a batch gives what each gives alone.

Order: logit bias, penalties, temperature, min_p, top_k, top_p. Reported logprobs are those of the
model itself, before any of these. The draw walks the cumulative distribution in token-id order:
near-ties in rank then cannot change the outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog
import torch

from tandem.engine.core.step import SampledToken, SampleSpec

log = structlog.get_logger(__name__)

#: top_p is searched among this many likeliest tokens before the whole vocabulary is looked at.
_NUCLEUS = 256
#: What is left of a float32 without it: its sign, exponent and seven bits more.
_RANGE_SHIFT = 16
_MANTISSA_BITS = 53


def sample(
    logits: torch.Tensor, sequence_ids: Sequence[int], specs: Sequence[SampleSpec]
) -> list[SampledToken]:
    """One token for each row of float32 (rows, vocabulary) logits.

    A row without one has a `token` of None: its logits are not finite, or its options break it.
    """
    # One that is not finite spoils the sum; looking at each takes five times as long.
    finite = logits.sum(dim=-1).isfinite().tolist()
    greedy = logits.argmax(dim=-1).tolist()
    sampled = []
    for row, (sequence_id, spec) in enumerate(zip(sequence_ids, specs, strict=True)):
        if not finite[row]:
            sampled.append(SampledToken(sequence_id, None))
            continue
        try:
            sampled.append(_sample_row(sequence_id, logits[row], greedy[row], spec))
        # One sequence's options must not cost the others of the step theirs.
        except Exception as error:
            log.exception("sampling_failed", error=type(error).__name__)
            sampled.append(SampledToken(sequence_id, None))
    return sampled


def _sample_row(
    sequence_id: int, logits: torch.Tensor, greedy: int, spec: SampleSpec
) -> SampledToken:
    plain = not spec.adjusts_logits and spec.temperature == 0.0
    token = greedy if plain else _choose(logits, spec)
    return _with_logprobs(sequence_id, token, logits, spec.logprobs)


def uniform(seed: int, choice: int, position: int) -> float:
    """A number in [0, 1) from Philox 4x64 (Salmon et al., 2011) keyed by its arguments alone."""
    key = np.array([seed & 0xFFFFFFFFFFFFFFFF, choice], dtype=np.uint64)
    bits = int(np.random.Philox(key=key, counter=position).random_raw())
    return (bits >> (64 - _MANTISSA_BITS)) / float(1 << _MANTISSA_BITS)


def _choose(logits: torch.Tensor, spec: SampleSpec) -> int:
    adjusted = _adjust(logits, spec) if spec.adjusts_logits else logits
    if spec.temperature == 0.0:
        return int(adjusted.argmax())
    probabilities = torch.softmax(adjusted / spec.temperature, dim=-1)
    probabilities = _truncate(probabilities, spec)
    cumulative = _in_float64(probabilities).cumsum(dim=-1)
    target = uniform(spec.seed, spec.choice, spec.position) * float(cumulative[-1])
    index = int(torch.searchsorted(cumulative, target, right=True))
    if index < len(probabilities) and probabilities[index] > 0:
        return index
    return int(probabilities.nonzero()[-1])  # the target rounded up to the very end


def _in_float64(probabilities: torch.Tensor) -> torch.Tensor:
    """float32 sums over a large vocabulary end visibly short of 1; Apple's GPUs have no more."""
    on_apple = probabilities.device.type == "mps"
    return (probabilities.cpu() if on_apple else probabilities).double()


def _adjust(logits: torch.Tensor, spec: SampleSpec) -> torch.Tensor:
    """A copy of the logits, changed at the tokens that the options name and nowhere else."""
    adjusted = logits.clone()
    if spec.logit_bias is not None:
        tokens = _on(logits, np.frombuffer(spec.logit_bias.tokens, np.int32))
        adjusted[tokens] += _on(logits, np.frombuffer(spec.logit_bias.values, np.float32))
    if spec.repetition_penalty != 1.0:
        tokens, _ = _counts(spec.prompt + spec.output, logits)
        seen, penalty = adjusted[tokens], spec.repetition_penalty
        adjusted[tokens] = torch.where(seen > 0, seen / penalty, seen * penalty)
    if spec.output and (spec.presence_penalty or spec.frequency_penalty):
        tokens, counts = _counts(spec.output, logits)
        adjusted[tokens] -= spec.presence_penalty + spec.frequency_penalty * counts
    return adjusted


def _counts(packed: bytes, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens that occur, and how often each does: both int64."""
    counts = np.bincount(np.frombuffer(packed, np.int32))
    tokens = counts.nonzero()[0]
    return _on(logits, tokens), _on(logits, counts[tokens])


def _on(like: torch.Tensor, numbers: npt.NDArray[Any]) -> torch.Tensor:
    """A copy on the device where `like` is; ids as int64, which they are taken by."""
    wider = numbers.astype(np.int64 if numbers.dtype == np.int32 else numbers.dtype)
    return torch.from_numpy(wider).to(like.device)


def _truncate(probabilities: torch.Tensor, spec: SampleSpec) -> torch.Tensor:
    """Zeroes what min_p, top_k and top_p leave out; at least the likeliest token stays."""
    floor = torch.zeros((), device=probabilities.device)
    if spec.min_p > 0.0:
        floor = spec.min_p * probabilities.max()
    if 0 < spec.top_k < len(probabilities):
        floor = torch.maximum(floor, probabilities.topk(spec.top_k).values[-1])
    if spec.top_p < 1.0:
        kept = torch.where(probabilities >= floor, probabilities, 0.0)
        floor = torch.maximum(floor, _nucleus_floor(kept, spec.top_p))
    return torch.where(probabilities >= floor, probabilities, 0.0)


def _nucleus_floor(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """The smallest probability in the nucleus (Holtzman et al., 2020)."""
    target = top_p * probabilities.sum()
    likeliest = probabilities.topk(min(_NUCLEUS, len(probabilities))).values
    inside = likeliest.cumsum(dim=-1) >= target
    if inside.any():
        return likeliest[int(inside.int().argmax())]
    floor = _wide_nucleus_floor(probabilities.cpu().numpy(), float(target))
    return torch.tensor(floor, device=probabilities.device)


def _wide_nucleus_floor(probabilities: npt.NDArray[np.float32], target: float) -> float:
    """The same where the nucleus is wide, without sorting a vocabulary for every token.

    Positive floats are ordered as their bits are. So the first bits say in which narrow range the
    target is reached, and only that range is sorted.
    """
    ranges = probabilities.view(np.uint32) >> _RANGE_SHIFT
    masses = np.bincount(ranges, weights=probabilities)
    reached = masses[::-1].cumsum()[::-1]  # by a range and all above it
    enough = np.flatnonzero((reached >= target) & (masses > 0.0))
    if not len(enough):
        return float(probabilities[probabilities > 0.0].min())  # rounding: all of it is inside
    found = enough[-1]
    values = np.sort(probabilities[ranges == found])[::-1]
    above = reached[found] - masses[found]
    index = int((above + values.cumsum(dtype=np.float64) >= target).argmax())
    return float(values[index])


def _with_logprobs(
    sequence_id: int, token: int, logits: torch.Tensor, wanted: int | None
) -> SampledToken:
    if wanted is None:
        return SampledToken(sequence_id, token)
    logprobs = torch.log_softmax(logits, dim=-1)
    top: list[tuple[int, float]] = []
    if wanted:
        values, ids = logprobs.topk(min(wanted, len(logprobs)))
        top = list(zip(ids.tolist(), values.tolist(), strict=True))
    return SampledToken(sequence_id, token, float(logprobs[token]), top)
