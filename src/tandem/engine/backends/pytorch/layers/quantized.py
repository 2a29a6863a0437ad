"""Linear maps and embeddings whose weights stay as few bits as their file has them in."""

from __future__ import annotations

import torch

from tandem.engine.backends.pytorch.kernels.dense import linear
from tandem.engine.checkpoint.quantized.tensor import NIBBLE, QuantizedTensor, Scales


class DequantizingLinear:
    """Turns the weights into numbers of the activations' dtype for every product.

    Right everywhere, and slow: for devices without a kernel of their own.
    """

    def __init__(
        self, weight: QuantizedTensor, bias: torch.Tensor | None, device: torch.device
    ) -> None:
        self._shape, self._bits, self._group = weight.shape, weight.bits, weight.group
        self._codes = torch.from_numpy(weight.codes.copy()).to(device)
        self._scales = _on(device, weight.scales)
        self._minimums = None if weight.minimums is None else _on(device, weight.minimums)
        self._table = None if weight.table is None else torch.from_numpy(weight.table).to(device)
        self._order = None if weight.order is None else torch.from_numpy(weight.order).to(device)
        self._bias = bias

    def __call__(self, states: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        if self._order is not None:
            states = states.index_select(-1, self._order)
        return linear(states, self._weight(states.dtype), self._bias, dtype)

    def _weight(self, dtype: torch.dtype) -> torch.Tensor:
        codes = self._codes
        if self._bits == NIBBLE:
            codes = torch.stack((codes & 0x0F, codes >> 4), dim=-1).view(self._shape)
        numbers = codes.float() if self._table is None else self._table[codes.int()]
        grouped = numbers.view(self._shape[0], -1, self._group) * self._scales[..., None]
        if self._minimums is not None:
            grouped = grouped + self._minimums[..., None]
        return grouped.view(self._shape).to(dtype)


class QuantizedEmbedding:
    """(tokens,) ids → (tokens, hidden): only the rows that are asked for become numbers."""

    def __init__(self, weight: QuantizedTensor, dtype: torch.dtype, device: torch.device) -> None:
        self._weight = weight
        self._dtype = dtype
        self._device = device

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        rows = self._weight.rows(tokens.cpu().numpy()).dequantize()
        return torch.from_numpy(rows).to(self._device, self._dtype)


def _on(device: torch.device, scales: Scales) -> torch.Tensor:
    return torch.from_numpy(scales.values().copy()).to(device)
