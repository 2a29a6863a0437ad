"""How fast this machine decodes, before any weights are loaded: plans of clusters go by it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from tandem.engine.backends.backend import ModelSetup
from tandem.engine.backends.pytorch.dtypes import DTYPES
from tandem.engine.backends.pytorch.layers.linear import make_linear
from tandem.engine.checkpoint.dtypes import weight_item_bytes

_FEATURES = 4096
#: More than most caches hold: a model's weights come from memory.
_READ_BYTES = 64 * 1024 * 1024
_MEASURED_S = 0.2


@torch.inference_mode()
def decode_bytes_per_s(setup: ModelSetup, clock: Callable[[], float] = time.perf_counter) -> float:
    """How many bytes of weights one sequence reads a second, kept and multiplied as a model's.

    The best of several measurements: other processes can only make one slower.
    """
    dtype = DTYPES[setup.dtype]
    weight = torch.ones(_FEATURES, _FEATURES, dtype=dtype, device=setup.device)
    quantization = setup.options.quantization
    weight_bytes = weight.numel() * weight_item_bytes(setup.dtype, quantization)
    count = math.ceil(_READ_BYTES / weight_bytes)
    linears = [make_linear(weight.clone(), None, quantization) for _ in range(count)]
    states = torch.ones(1, _FEATURES, dtype=dtype, device=setup.device)

    def lap() -> float:
        began = clock()
        products = [linear(states) for linear in linears]
        products[-1][0, 0].item()  # on a GPU all has ended now
        return clock() - began

    lap()
    best_s, started = lap(), clock()
    while clock() - started < _MEASURED_S:
        best_s = min(best_s, lap())
    return count * weight_bytes / best_s
