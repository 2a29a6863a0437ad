"""Arrays of what has been decoded here, as tensors of the library that reads a checkpoint."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from tandem.engine.checkpoint.quantized.numbers import float32

#: What makes a tensor of an array, by the names that safetensors has for libraries. They are
#: imported when they are asked for: nothing in this package needs one.
_MAKERS = {"pt": ("torch", "from_numpy"), "mlx": ("mlx.core", "array")}


def as_tensor(
    numbers: npt.NDArray[Any],
    library: str,
    dtype: str = "",
) -> Any:  # noqa: ANN401 - a library's
    """The same numbers; it may share their memory. `library` is one of `pt`, `mlx`, `numpy`.

    Where `dtype` is bfloat16 they come as integers of its width; NumPy has them in float32.
    """
    is_bfloat16 = dtype == "bfloat16"
    if library == "numpy":
        return float32(numbers, dtype) if is_bfloat16 else numbers
    name, maker = _MAKERS[library]
    module = import_module(name)
    if is_bfloat16:
        return getattr(module, maker)(numbers.view(np.int16)).view(module.bfloat16)
    return getattr(module, maker)(numbers)
