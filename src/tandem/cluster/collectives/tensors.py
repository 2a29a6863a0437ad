"""Tensors as the bytes of a frame and back: no copy on the way out, none on the way in."""

from __future__ import annotations

import torch

from tandem.errors import ProtocolError
from tandem.protocol.cluster import TensorHeader

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def tensor_header(step: int, number: int, tensor: torch.Tensor) -> TensorHeader:
    return TensorHeader(step, number, _NAMES[tensor.dtype], list(tensor.shape))


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous copy on the CPU, or of the tensor itself when it is one."""
    plain = tensor.detach().cpu().contiguous()
    view: memoryview = plain.view(torch.uint8).reshape(-1).numpy().data
    return view


def read_tensor(header: TensorHeader, payload: bytearray, like: torch.Tensor) -> torch.Tensor:
    """The tensor on `like`'s device, checked against its dtype and all dimensions but the last.

    Raises ProtocolError.
    """
    dtype = _DTYPES.get(header.dtype)
    expected = list(like.shape[:-1])
    if dtype is not like.dtype or header.shape[:-1] != expected or len(header.shape) != like.dim():
        raise ProtocolError(
            f"a {header.dtype} tensor {header.shape} came in place of a {_NAMES[like.dtype]} one "
            f"like {list(like.shape)}"
        )
    count = 1
    for extent in header.shape:
        count *= extent
    if count * dtype.itemsize != len(payload):
        raise ProtocolError(f"{len(payload)} bytes came for a tensor {header.shape}")
    return torch.frombuffer(payload, dtype=dtype).view(header.shape).to(like.device)
