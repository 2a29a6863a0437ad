"""Rotary position embedding (Su et al., 2021), with `linear` and `llama3` scaling."""

from __future__ import annotations

import math

import torch

from tandem.engine.checkpoint.config import ModelConfig, RopeScaling


class Rotary:
    """cos and sin of each position, computed in float32 a step at a time: no table to outgrow."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        frequencies = inverse_frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
        self._frequencies = frequencies.to(device)

    def tables(
        self, positions: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """cos, sin of shape (tokens, head_dim) for int64 positions of shape (tokens,)."""
        angles = positions.to(torch.float32)[:, None] * self._frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(dtype), angles.sin().to(dtype)


def inverse_frequencies(head_dim: int, theta: float, scaling: RopeScaling) -> torch.Tensor:
    """float32 frequencies of shape (head_dim / 2,), in radians a position."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).to(torch.float32) / head_dim
    frequencies = 1.0 / (theta**exponents)
    if scaling.rope_type == "linear":
        return frequencies / scaling.factor
    if scaling.rope_type == "llama3":
        return _llama3(frequencies, scaling)
    return frequencies


def _llama3(frequencies: torch.Tensor, scaling: RopeScaling) -> torch.Tensor:
    """Long wavelengths are stretched by `factor`, short ones kept, those between interpolated.

    Source: the Llama 3.1 model card's reference parameters and their meaning.
    """
    original = scaling.original_max_position_embeddings
    wavelengths = 2.0 * math.pi / frequencies
    span = scaling.high_freq_factor - scaling.low_freq_factor
    # 0 where the wavelength is long (scaled in full), 1 where it is short (kept).
    keep = ((original / wavelengths - scaling.low_freq_factor) / span).clamp(0.0, 1.0)
    return keep * frequencies + (1.0 - keep) * frequencies / scaling.factor
