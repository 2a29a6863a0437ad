"""Tensors as the bytes of a frame and back: no copy on the way out, none on the way in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from tandem.engine.backends.pytorch.dtypes import DTYPE_NAMES, DTYPES
from tandem.engine.core.tensors import RawTensor
from tandem.errors import ProtocolError


class TorchTensors:
    """`tandem.engine.core.tensors.TensorOps` of PyTorch."""

    def rows(self, tensor: torch.Tensor) -> int:
        return len(tensor)

    def nbytes(self, tensor: torch.Tensor) -> int:
        return tensor.nbytes

    def to_raw(self, tensor: torch.Tensor) -> RawTensor:
        plain = tensor.detach().cpu().contiguous()
        data: memoryview = plain.view(torch.uint8).reshape(-1).numpy().data
        return RawTensor(DTYPE_NAMES[tensor.dtype], list(tensor.shape), data)

    def from_raw(self, raw: RawTensor, like: torch.Tensor) -> torch.Tensor:
        dtype = DTYPES.get(raw.dtype)
        alike = raw.shape[:-1] == list(like.shape[:-1]) and len(raw.shape) == like.dim()
        if dtype is not like.dtype or not alike:
            raise ProtocolError(
                f"a {raw.dtype} tensor {raw.shape} came in place of a {DTYPE_NAMES[like.dtype]} "
                f"one like {list(like.shape)}"
            )
        if math.prod(raw.shape) * dtype.itemsize != len(raw.data):
            raise ProtocolError(f"{len(raw.data)} bytes came for a tensor {raw.shape}")
        return torch.frombuffer(raw.data, dtype=dtype).view(raw.shape).to(like.device)

    def sum(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        if len(parts) == 2:
            # The same to the bit in either order, and rounded once: PyTorch adds in float32.
            return parts[0] + parts[1]
        # Narrow types would round after each addition.
        total = parts[0].float()
        for part in parts[1:]:
            total = total + part.float()
        return total.to(parts[0].dtype)

    def split(self, tensor: torch.Tensor, parts: int) -> list[torch.Tensor]:
        bounds = [len(tensor) * part // parts for part in range(parts + 1)]
        return [tensor[start:end] for start, end in itertools.pairwise(bounds)]

    def join(self, parts: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
        return torch.cat(tuple(parts), dim=axis)
