"""How fast each pair of a head's numbers turns, by the rule that a config states.

Numbers are float32, and computed in the order of the reference implementations: an angle is a
frequency times a position, so that at far positions the last digits count.
"""

from __future__ import annotations

import math

import torch

from tandem.engine.families.rope import Linear, Llama3, LongRope, Rope, Yarn


def inverse_frequencies(rope: Rope, context: int) -> torch.Tensor:
    """float32 (rotary_dim / 2,), in radians a position; sequences are no longer than `context`."""
    exponents = torch.arange(0, rope.dim, 2, dtype=torch.int64).to(torch.float32) / rope.dim
    powers = rope.theta**exponents
    match rope.scaling:
        case Linear(factor=factor):
            return 1.0 / powers / factor
        case Llama3() as rule:
            return _llama3(1.0 / powers, rule)
        case Yarn() as rule:
            return _yarn(powers, rope, rule)
        case LongRope() as rule:
            return _longrope(powers, rule, context)
        case None:
            return 1.0 / powers


def _llama3(frequencies: torch.Tensor, rule: Llama3) -> torch.Tensor:
    """Source: the Llama 3.1 model card's reference parameters and their meaning."""
    wavelengths = 2.0 * math.pi / frequencies
    span = rule.high_freq_factor - rule.low_freq_factor
    # 0 where the wavelength is long (scaled in full), 1 where it is short (kept).
    keep = ((rule.original_context / wavelengths - rule.low_freq_factor) / span).clamp(0.0, 1.0)
    return keep * frequencies + (1.0 - keep) * frequencies / rule.factor


def _yarn(powers: torch.Tensor, rope: Rope, rule: Yarn) -> torch.Tensor:
    """Peng et al., 2023: between two of the pairs, by how often they turn, what is kept falls."""
    first = _pair_that_turns(rule.beta_fast, rope, rule)
    last = _pair_that_turns(rule.beta_slow, rope, rule)
    if rule.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rope.dim - 1)
    span = last - first or 0.001
    pairs = torch.arange(len(powers), dtype=torch.float32)
    keep = 1.0 - ((pairs - first) / span).clamp(0.0, 1.0)
    return 1.0 / (rule.factor * powers) * (1.0 - keep) + 1.0 / powers * keep


def _pair_that_turns(times: float, rope: Rope, rule: Yarn) -> float:
    """Its number, which need not be whole, within the original context."""
    wanted = rule.original_context / (times * 2.0 * math.pi)
    return rope.dim * math.log(wanted) / (2.0 * math.log(rope.theta))


def _longrope(powers: torch.Tensor, rule: LongRope, context: int) -> torch.Tensor:
    """Ding et al., 2024.

    `transformers` chooses by the length that a sequence has. Keys in a cache, which other
    sequences may share, can't turn when one grows, so the length that it may reach decides.
    """
    longer = context > rule.original_context
    factors = rule.long_factors if longer else rule.short_factors
    return 1.0 / (torch.tensor(factors, dtype=torch.float32) * powers)
