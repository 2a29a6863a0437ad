"""Chooses tokens from logits. Rows are independent, so a batch gives what each gives alone.

Order: logit bias, penalties, temperature, min_p, top_k, top_p. Reported logprobs are those of the
model itself, before any of these. The draw walks the cumulative distribution in token-id order:
near-ties in rank then cannot change the outcome.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import structlog
import torch

from tandem.engine.core.step import SampledToken, SampleSpec

log = structlog.get_logger(__name__)

#: top_p is searched among this many likeliest tokens before the whole vocabulary is sorted.
_NUCLEUS = 256
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
    adjusted = logits.clone()
    for token, bias in spec.logit_bias.items():
        adjusted[token] += bias
    if spec.repetition_penalty != 1.0:
        seen = _counts([*spec.prompt, *spec.output], logits) > 0
        penalty = spec.repetition_penalty
        penalised = torch.where(adjusted > 0, adjusted / penalty, adjusted * penalty)
        adjusted = torch.where(seen, penalised, adjusted)
    if spec.output and (spec.presence_penalty or spec.frequency_penalty):
        counts = _counts(spec.output, logits)
        adjusted -= spec.presence_penalty * (counts > 0) + spec.frequency_penalty * counts
    return adjusted


def _counts(tokens: list[int], logits: torch.Tensor) -> torch.Tensor:
    """How often each token of the vocabulary occurs, int64 (vocabulary,)."""
    return torch.bincount(torch.tensor(tokens, device=logits.device), minlength=len(logits))


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
    total = probabilities.sum()
    for count in (min(_NUCLEUS, len(probabilities)), len(probabilities)):
        likeliest = probabilities.topk(count).values
        inside = likeliest.cumsum(dim=-1) >= top_p * total
        if inside.any():
            return likeliest[int(inside.int().argmax())]
    return probabilities[probabilities > 0].min()


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
