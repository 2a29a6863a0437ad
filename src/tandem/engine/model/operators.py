"""The operators between the products: compiled loops where they take the tensors, else PyTorch's.

A step of a small batch makes hundreds of these calls, each with little to do, so what PyTorch
spends on every call is most of their time. On GPUs, and for dtypes that the loops do not know,
PyTorch's own operators compute the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from tandem.engine.model import compiled
from tandem.engine.model.compiled import Numbers


def rms_norm(states: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Zhang and Sennrich, 2019. Computed in float32, as the reference implementations do."""
    if takes(states.dtype, states.device) and states.is_contiguous():
        normalised = torch.empty_like(states)
        width = states.shape[-1]
        rows, results = (bits(tensor).reshape(-1, width) for tensor in (states, normalised))
        compiled.normalise(rows, bits(weight), np.float32(eps), results)
        return normalised
    wide = states.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(states.dtype)


def rotate(
    states: torch.Tensor, heads: int, tables: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Rotates the first `heads` of (tokens, all heads, head_dim): (tokens, heads, head_dim).

    In the half-split layout that Hugging Face stores; the tables are (tokens, head_dim).
    """
    cos, sin = tables
    if takes(states.dtype, states.device):
        turned = states.new_empty((len(states), heads, states.shape[2]))
        compiled.turn(bits(states), bits(cos), bits(sin), bits(turned))
        return turned
    turning = states[:, :heads]
    first, second = turning.chunk(2, dim=-1)
    return turning * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]


def attend_paged(
    queries: torch.Tensor,
    cache: tuple[torch.Tensor, torch.Tensor],
    tables: npt.NDArray[np.int64],
    spans: npt.NDArray[np.int64],
) -> torch.Tensor:
    """`compiled.attend` on tensors that `takes` says yes to: (rows, heads * head_dim)."""
    rows, heads, head_dim = queries.shape
    attended = queries.new_empty((rows, heads, head_dim))
    keys, values = cache
    compiled.attend(bits(queries), bits(keys), bits(values), tables, spans, bits(attended))
    return attended.view(rows, heads * head_dim)


def takes(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the compiled loops can read such tensors."""
    return device.type == "cpu" and dtype in {torch.float32, torch.bfloat16}


def bits(tensor: torch.Tensor) -> Numbers:
    """The tensor's own memory, as the loops take it."""
    plain = tensor if tensor.dtype == torch.float32 else tensor.view(torch.int16)
    array: Numbers = plain.numpy()
    return array


def multiply_one(states: torch.Tensor, tiles: npt.NDArray[np.int32]) -> torch.Tensor:
    """(1, in_features) bfloat16 by the tiles of `compiled.multiply_row`: (1, out_features)."""
    product = states.new_empty((1, tiles.shape[0] * compiled.TILE_ROWS))
    pairs = states.contiguous().view(torch.int32).numpy()[0]
    compiled.multiply_row(tiles, pairs, product.view(torch.int16).numpy()[0])
    return product
