"""The memory of weights in oneDNN's blocks: read as tiles where the order is known, in large pages.

oneDNN hides how it orders weights. On CPUs with AVX-512 it is tiles of 64 outputs: for each word of
32 bits, which is two bfloat16 inputs or four int8, the 64 outputs follow one another.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

import numpy as np
import numpy.typing as npt
import structlog
import torch

from tandem.engine.backends.pytorch.kernels.products import BLOCK_WORDS, TILE_OUTPUTS, Tiles

log = structlog.get_logger(__name__)

_WORD_BYTES = 4
_LARGE_PAGE = 2 * 1024 * 1024
#: Linux 6.1 and later: puts a range into large pages now.
_MADV_COLLAPSE = 25


def known_tiles(blocks: torch.Tensor, weight: torch.Tensor) -> Tiles | None:
    """The memory of `blocks`, (outputs / 64, words, 64); None if its order is another one.

    `weight` is what was packed, (outputs, inputs). Known tiles are moved into large pages. The
    result does not keep `blocks` alive.
    """
    outputs, inputs = weight.shape
    words = inputs * weight.element_size() // _WORD_BYTES
    if outputs % TILE_OUTPUTS or inputs * weight.element_size() % (_WORD_BYTES * BLOCK_WORDS):
        return None
    count = outputs * words
    memory = (ctypes.c_int32 * count).from_address(torch.ops.mkldnn.data_ptr(blocks))
    tiles = np.ctypeslib.as_array(memory).reshape(-1, words, TILE_OUTPUTS)
    plain = weight.contiguous().view(torch.int32).numpy().reshape(-1, TILE_OUTPUTS, words)
    ends = [0, -1]
    if not np.array_equal(tiles[ends], plain[ends].transpose(0, 2, 1)):
        return None
    in_large_pages(tiles)
    return tiles


def in_large_pages(tiles: npt.NDArray[np.generic]) -> None:
    """Moves an array into large pages, for which the processor translates fewer addresses.

    All works without them too, so where that cannot be done it is logged only.
    """
    start = -(-tiles.ctypes.data // _LARGE_PAGE) * _LARGE_PAGE
    end = (tiles.ctypes.data + tiles.nbytes) // _LARGE_PAGE * _LARGE_PAGE
    advise = _madvise()
    if advise is None or start >= end:
        return
    if advise(start, end - start, _MADV_COLLAPSE) != 0:
        log.debug("no_large_pages", reason=os.strerror(ctypes.get_errno()))


@cache
def _madvise() -> ctypes._NamedFuncPointer | None:
    """The C library's, which Python has for memory of its own only."""
    advise = getattr(ctypes.CDLL(None, use_errno=True), "madvise", None)
    if advise is not None:
        advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return advise
