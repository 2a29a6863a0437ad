"""Tensors as the arrays that compiled loops take, and memory for what the loops give.

A step of a small batch makes hundreds of calls of operators, each with little to do, right after
the weights of a product have passed through all caches: what it takes to see a tensor as an array
is much of their time. So arrays are made once where they can be.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from tandem.engine.backends.pytorch.kernels.compiled import Numbers

IntArray = npt.NDArray[np.int64]

#: Where a tensor keeps its own array. An attribute rather than a subclass of tensors, of which
#: every operator of PyTorch takes half a microsecond longer.
_ARRAY = "_own_array"


def has_loops(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the compiled loops can read such tensors."""
    return device.type == "cpu" and dtype in {torch.float32, torch.bfloat16}


def as_array(tensor: torch.Tensor) -> Numbers:
    """The tensor's own memory, as the loops take it, where `has_loops` says yes."""
    known: Numbers | None = getattr(tensor, _ARRAY, None)
    if known is not None:
        return known
    plain = tensor if tensor.dtype == torch.float32 else tensor.view(torch.int16)
    array: Numbers = plain.numpy()
    return array


def is_kept(tensor: torch.Tensor) -> bool:
    """Whether a `ResultBuffer` gives the same tensor again."""
    return hasattr(tensor, _ARRAY)


class ResultBuffer:
    """Memory for an operator's results: for a single row always the same, whose array is known.

    Such a result stands until the operator's next call, which is in the next step.
    """

    def __init__(self) -> None:
        self._single: torch.Tensor | None = None

    def empty(
        self, shape: tuple[int, ...], like: torch.Tensor, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """A tensor on `like`'s device, of its dtype or another; its numbers mean nothing yet."""
        dtype = dtype or like.dtype
        if shape[0] != 1 or not has_loops(dtype, like.device):
            return like.new_empty(shape, dtype=dtype)
        if self._single is None or self._single.shape != shape or self._single.dtype != dtype:
            self._single = like.new_empty(shape, dtype=dtype)
            setattr(self._single, _ARRAY, as_array(self._single))
        return self._single
